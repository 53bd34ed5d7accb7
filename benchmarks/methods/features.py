"""Frozen features of images: three layers of an ImageNet network on one grid."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

CELL = 8  # pixels along the side of a grid position


class FrozenFeatures:
    """Outputs of three blocks, pooled 3 x 3, brought to one grid, standardised per channel."""

    def __init__(self, pixels: Iterable[Tensor]) -> None:
        """Fit mean and deviation of each channel on batches of normal images."""
        self.network = _network()
        self.mean, self.std = torch.zeros(()), torch.ones(())
        found = torch.cat([self(batch) for batch in pixels])
        self.mean = found.mean(dim=(0, 2, 3))[:, None, None]
        self.std = found.std(dim=(0, 2, 3))[:, None, None].clamp(min=1e-5)

    @torch.inference_mode()
    def __call__(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) pixels in [0, 1] -> (B, C, H / 8, W / 8)."""
        grid = (pixels.shape[-2] // CELL, pixels.shape[-1] // CELL)
        pooled = [F.avg_pool2d(x, 3, 1, 1, count_include_pad=False) for x in self.network(pixels)]
        return (torch.cat([_resample(x, grid) for x in pooled], dim=1) - self.mean) / self.std


def _network() -> torch.nn.Module:
    """Maps pixels in [0, 1] to the outputs of three blocks, coarser from one to the next."""
    from raysvq.model.stem import load_stem

    return load_stem()


def _resample(x: Tensor, grid: tuple[int, int]) -> Tensor:
    if x.shape[-2] < grid[0]:
        return F.interpolate(x, size=grid, mode="bilinear", align_corners=False)
    return F.adaptive_avg_pool2d(x, grid)
