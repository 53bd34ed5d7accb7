"""Padding as the networks of EfficientNet-Lite were trained with."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class SameConv(nn.Conv2d):
    """Convolution that pads with zeros as TensorFlow does: an odd pixel goes to the right and the bottom."""

    def forward(self, x: Tensor) -> Tensor:
        down, right = (
            max((-(-length // stride) - 1) * stride + kernel - length, 0)
            for length, stride, kernel in zip(x.shape[-2:], self.stride, self.kernel_size, strict=True)
        )
        sides = down // 2, right // 2
        if down % 2 or right % 2:
            x = functional.pad(x, (right // 2, right - right // 2, down // 2, down - down // 2))
            sides = 0, 0
        return functional.conv2d(x, self.weight, self.bias, self.stride, sides, groups=self.groups)
