"""A backbone as an ONNX file, which ONNX Runtime computes.

An ONNX file holds numbers and the names of operations, and runs no code when it is read. A `.pt2` of
torch.export may hold pickled objects, so a bundle could not carry one safely.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raysvq.errors import SettingsError, first_line
from raysvq.model.stems.brought import BroughtStem, tokens_to_grid
from raysvq.model.stems.description import Description, TapSection
from raysvq.model.stems.optional import import_extra
from raysvq.storage import read_bytes

_NAME = "network.onnx"  # in a model bundle


class OnnxStem(BroughtStem):
    """Outputs of the file, as maps: (B, channels, h, w), or tokens (B, T, channels) of patches."""

    has_bfloat16 = False  # it computes in what it was exported in

    def __init__(self, description: Description) -> None:
        """Read the file.

        Raises:
            SettingsError: it cannot be read, has no output that a tap names, or takes other input than
                images; or the package onnxruntime is not installed.
        """
        uri, taps = description.uri, description.stem.taps
        self._runtime = _Runtime(uri)
        outputs = [_output(uri, tap, self._runtime.outputs) for tap in taps]
        super().__init__(
            description.stem,
            [_channels(uri, name, self._runtime.outputs[name]) for name in outputs],
            uri,
            _NAME,
            self._runtime.content,
        )
        self._outputs = outputs

    def load(self, uri: str | None) -> None:
        """Nothing to load: the file has its weights."""

    def require_side(self, side: int) -> None:
        super().require_side(side)
        fixed = [length for length in self._runtime.sides if isinstance(length, int)]
        if any(length != side for length in fixed):
            raise SettingsError(
                f"setting `tiles.size`: {self.uri} was exported for {' x '.join(map(str, fixed))} pixels,"
                f" found {side}; expected tiles of that size, or an export with free height and width"
            )

    def maps(self, pixels: Tensor) -> list[Tensor]:
        grid = [length // self.multiple for length in pixels.shape[-2:]]
        found = self._runtime(self.normalised(pixels), self._outputs)
        return [each if each.dim() == 4 else tokens_to_grid(each, *grid) for each in found]


class _Runtime:
    """The file's bytes, and a session for each device that it ran on; copies and pickles open their own."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        try:
            self.content = read_bytes(uri)
        except OSError as error:
            raise SettingsError(f"setting `model.stem`: {uri} cannot be read ({error})") from None
        self._sessions: dict[torch.device, Any] = {}
        session = self._session(torch.device("cpu"))
        inputs = session.get_inputs()
        shape = inputs[0].shape if len(inputs) == 1 else []
        images = len(shape) == 4 and not isinstance(shape[0], int) and shape[1] == 3
        if not images or inputs[0].type != "tensor(float)":
            found = ", ".join(f"{each.name} {each.shape} of {each.type}" for each in inputs)
            raise SettingsError(
                f"setting `model.stem`: {uri} takes {found}; expected one input of float32 images,"
                " ['batch', 3, height, width], with a free number of images"
            )
        self.input, self.sides = inputs[0].name, shape[2:]
        self.outputs: dict[str, list[Any]] = {each.name: each.shape for each in session.get_outputs()}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_sessions": {}}

    def __call__(self, images: Tensor, outputs: list[str]) -> list[Tensor]:
        given = np.ascontiguousarray(images.cpu().numpy())
        session = self._session(images.device)
        with _refused(
            f"{self.uri} cannot compute images of {' x '.join(map(str, images.shape[-2:]))} pixels"
        ):
            found = session.run(outputs, {self.input: given})
        return [torch.from_numpy(each).to(images.device) for each in found]

    def _session(self, device: torch.device) -> Any:
        if device not in self._sessions:
            self._sessions[device] = self._opened(device)
        return self._sessions[device]

    def _opened(self, device: torch.device) -> Any:
        library = import_extra("onnxruntime", "onnx", self.uri)
        providers: list[Any] = ["CPUExecutionProvider"]
        if device.type == "cuda":
            if "CUDAExecutionProvider" not in library.get_available_providers():
                raise SettingsError(
                    f"setting `model.stem`: {self.uri} is to run on a GPU, but the installed onnxruntime runs"
                    " on CPUs alone; expected the package onnxruntime-gpu in its place"
                )
            # TF32 would round factors to ten bits.
            providers = [("CUDAExecutionProvider", {"device_id": device.index or 0, "use_tf32": "0"})]
        options = library.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # errors
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting costs no CPU
        version = library.__version__
        with _refused(f"{self.uri} is no ONNX file, weights inside, that onnxruntime {version} runs"):
            return library.InferenceSession(self.content, options, providers=providers)


@contextmanager
def _refused(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001  # onnxruntime's own types share no other base
        raise SettingsError(f"setting `model.stem`: {what} ({first_line(error)})") from None


def _output(uri: str, tap: TapSection, outputs: dict[str, list[Any]]) -> str:
    names = list(outputs)
    if tap.output in outputs:
        return str(tap.output)
    if isinstance(tap.output, int) and 0 <= tap.output < len(names):
        return names[tap.output]
    raise SettingsError(
        f"setting `model.stem`: found the tap {tap.output!r}; {uri} has the outputs {', '.join(names)}"
    )


def _channels(uri: str, name: str, shape: list[Any]) -> int:
    channels = shape[1] if len(shape) == 4 else shape[-1]
    if len(shape) not in (3, 4) or not isinstance(channels, int):
        raise SettingsError(
            f"setting `model.stem`: output {name} of {uri} has the shape {shape}; expected"
            " [batch, channels, height, width], or [batch, tokens, channels], with a fixed number of channels"
        )
    return channels
