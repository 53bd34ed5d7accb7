"""Convolutions that pad by themselves say, bit for bit, what they say of pixels padded beforehand."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from raysvq.model.stems.efficientnet import EfficientNetLite, _Block
from raysvq.model.stems.padding import SameConv
from raysvq.model.stems.stem import Stem


@pytest.fixture(scope="module")
def stem() -> Stem:
    stem = EfficientNetLite()
    stem.load(None)
    return stem.eval()


def _padded_conv(layer: nn.Module, x: Tensor) -> Tensor:
    """TensorFlow's formula, with the padding as a step of its own, whatever its sides."""
    assert isinstance(layer, SameConv)
    down, right = (
        max((-(-length // stride) - 1) * stride + kernel - length, 0)
        for length, stride, kernel in zip(x.shape[-2:], layer.stride, layer.kernel_size, strict=True)
    )
    padded = functional.pad(x, (right // 2, right - right // 2, down // 2, down - down // 2))
    return functional.conv2d(padded, layer.weight, layer.bias, layer.stride, groups=layer.groups)


def _maps(stem: EfficientNetLite, pixels: Tensor) -> list[Tensor]:
    """The tapped maps, step by step, with nothing done in place."""
    x = ((pixels * 255 - 127) / 128).to(stem.first.weight.dtype)
    x = functional.relu6(_padded_conv(stem.first, x.contiguous(memory_format=torch.channels_last)))
    outputs = []
    for block in stem.blocks:
        assert isinstance(block, _Block)
        inner = x if block.expand is None else functional.relu6(_padded_conv(block.expand, x))
        projected = _padded_conv(block.project, functional.relu6(_padded_conv(block.depthwise, inner)))
        x = x + projected if block.skips else projected
        outputs.append(x)
    return [outputs[number] for number in sorted(stem._tapped)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("sides", [(64, 64), (63, 64), (65, 97), (33, 33), (8, 8)])
def test_features_are_those_of_explicit_padding(
    stem: EfficientNetLite, sides: tuple[int, int], dtype: torch.dtype
) -> None:
    own = copy.deepcopy(stem).to(dtype)
    pixels = torch.rand(2, 3, *sides)
    before = pixels.clone()
    for found, expected in zip(own.maps(pixels), _maps(own, pixels), strict=True):
        assert torch.equal(found, expected)
    assert torch.equal(pixels, before)


def test_weights_stay_channels_last_once_loaded_and_copied(stem: EfficientNetLite) -> None:
    for network in (stem, copy.deepcopy(stem).bfloat16()):
        assert all(
            parameter.is_contiguous(memory_format=torch.channels_last)
            for parameter in network.parameters()
            if parameter.dim() == 4
        )
