"""OpenVINO on CPUs: from pixels to distances and codes as one graph, compiled for batches of one size.

The graph is made from the PyTorch module at the weights of now. Compiled for batches of any size it takes a
third longer. So the last batch is filled up with black tiles, whose distances nobody reads.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from raysvq.errors import SettingsError
from raysvq.imaging.decode import Pixels
from raysvq.imaging.pixels import FULL_SCALE
from raysvq.model.device import Precision
from raysvq.model.engines.backend import Nearest
from raysvq.model.network import Network

_PIXELS = 2**16  # of a batch; activations of more outgrow the caches of a core
_PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}
_TELEMETRY = "openvino_telemetry"


class OpenVinoEngine:
    """Computes a network's nearest codes and the distances to them, on as many threads as PyTorch."""

    def __init__(self, model: Network, precision: Precision, tile_batch: int) -> None:
        """`tile_batch`: tiles computed at once, at most.

        Raises:
            SettingsError: openvino is not installed.
        """
        self._model = model
        self._precision = precision
        self._tile_batch = tile_batch
        self._library = _import()
        self._requests: dict[tuple[int, ...], Any] = {}  # by shape of a batch and bytes of a value

    def __call__(self, tiles: Pixels) -> Nearest:
        """(T, S, S, C) uint8 or uint16 -> (T, R, h, w) terms of distances, (T, h, w) codes."""
        batch = min(self._tile_batch, max(1, _PIXELS // tiles.shape[1] ** 2))
        parts = (tiles[start : start + batch] for start in range(0, len(tiles), batch))
        found = [self._nearest(part, (batch, *tiles.shape[1:])) for part in parts]
        terms, codes = zip(*found, strict=True)
        return np.concatenate(terms), np.concatenate(codes)

    def _nearest(self, tiles: Pixels, shape: tuple[int, ...]) -> Nearest:
        given = tiles if tiles.dtype == np.uint8 else tiles.astype(np.float32)
        if len(given) < shape[0]:
            given = np.concatenate([given, np.zeros((shape[0] - len(given), *shape[1:]), given.dtype)])
        key = *shape, given.itemsize
        if key not in self._requests:
            self._requests[key] = self._compiled(shape, given.dtype)
        request = self._requests[key]
        request.infer([np.ascontiguousarray(given)], share_inputs=True)
        terms, codes = (request.get_output_tensor(number).data[: len(tiles)] for number in range(2))
        return terms.copy(), codes.astype(np.uint16)

    def _compiled(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        """A request to infer batches of this shape.

        Raises:
            SettingsError: the CPU does not compute in the precision asked for.
        """
        wanted = _PRECISIONS[self._precision]
        compiled = self._library.Core().compile_model(
            self._converted(shape, dtype),
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": wanted,  # else it takes bfloat16 where the CPU has it
                "INFERENCE_NUM_THREADS": torch.get_num_threads(),
                "NUM_STREAMS": 1,
                "ENABLE_CPU_PINNING": False,  # workers of a machine would all be bound to its first core
            },
        )
        taken = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        if taken != wanted:
            raise SettingsError(
                f"setting `scoring.precision`: found {self._precision}, which OpenVINO does not compute in on"
                f" this CPU (it takes {taken}); expected float32 or auto"
            )
        return compiled.create_infer_request()

    def _converted(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        frontend = importlib.import_module("openvino.frontend")
        pytorch = importlib.import_module("openvino.frontend.pytorch")
        decoding = importlib.import_module("openvino.frontend.pytorch.ts_decoder")
        example = torch.zeros(shape, dtype=torch.uint8 if dtype == np.uint8 else torch.float32)
        with torch.no_grad(), warnings.catch_warnings():
            # PyTorch warns of sides that become constants, but batches have no others; and that it will trace
            # otherwise one day.
            warnings.simplefilter("ignore")
            decoder = decoding.TorchScriptPythonDecoder(
                _Graph(self._model).eval(), example_input=(example,), trace_kwargs={"check_trace": False}
            )
        # Not `openvino.convert_model`, which sends usage figures to Google.
        converter = frontend.FrontEndManager().load_by_framework("pytorch")
        converter.add_extension(pytorch.ConversionExtension("aten::argmin", _argmin))
        converted = converter.convert(converter.load(decoder))
        converted.reshape(list(shape))
        return converted


class _Graph(nn.Module):
    def __init__(self, model: Network) -> None:
        super().__init__()
        self.model = model

    def forward(self, tiles: Tensor) -> tuple[Tensor, Tensor]:
        """What `raysvq.model.scorer.to_model_input` makes of them, and then terms of distances, and codes."""
        full_scale = tiles.float() * 257 if tiles.dtype == torch.uint8 else tiles
        return self.model.nearest_map((full_scale * (1 / FULL_SCALE)).permute(0, 3, 1, 2))


def _argmin(context: Any) -> list[Any]:
    """`argmin` of (P, K) over K, as two reductions; OpenVINO's own sorts, and takes longer than distances."""
    ops = importlib.import_module("openvino.opset13")
    values = context.get_input(0)
    count = ops.gather(ops.shape_of(values, "i32"), ops.constant(np.int32(1)), ops.constant(np.int32(0)))
    numbers = ops.range(np.int32(0), count, np.int32(1), "i32")
    least = ops.reduce_min(values, np.array([1], np.int32), keep_dims=True)
    candidates = ops.select(ops.less_equal(values, least), numbers, count)
    return ops.convert(ops.reduce_min(candidates, np.array([1], np.int32)), "i64").outputs()  # type: ignore[no-any-return]


def _import() -> Any:
    """The library, without the package by which it sends usage figures to Google as it is imported."""
    withheld = _TELEMETRY not in sys.modules
    if withheld:
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # as if it were not installed
    try:
        return importlib.import_module("openvino")
    except ImportError as error:
        raise SettingsError(
            f"setting `scoring.engine`: openvino cannot be imported ({error}); expected"
            " `pip install 'raysvq[openvino]'`, or torch or auto"
        ) from None
    finally:
        if withheld:
            del sys.modules[_TELEMETRY]
