"""A frozen feature network: what the feature dictionary needs of one, whatever computes its maps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

CELL = 8  # pixels along the side of a grid position


@dataclass(frozen=True)
class Tap:
    """A map of the network that becomes features."""

    channels: int
    side: int  # grid positions, across and down, over which it is averaged; odd


class Stem(nn.Module, ABC):
    """Frozen features of RGB pixels: (B, 3, H, W) in [0, 1] -> (B, `channels`, H/cell, W/cell).

    A subclass computes maps. Here they are averaged over neighbouring positions (Roth et al., PatchCore,
    CVPR 2022), resampled to the grid and joined.
    """

    cell = CELL
    has_bfloat16 = True  # whether `bfloat16()` makes it compute in it

    def __init__(self, taps: tuple[Tap, ...]) -> None:
        """`taps` describe the maps, in their order."""
        super().__init__()
        self.taps = taps
        self.channels = sum(tap.channels for tap in taps)

    @abstractmethod
    def maps(self, pixels: Tensor) -> list[Tensor]:
        """(B, 3, H, W) in [0, 1] -> a map of each tap, (B, channels of the tap, any height, any width)."""

    @abstractmethod
    def load(self, uri: str | None) -> None:
        """Take pretrained weights, those of a file where one is given. Raises SettingsError."""

    def files(self) -> Mapping[str, bytes]:
        """What a model bundle must hold beside the weights to build the stem again: name -> content."""
        return {}

    def require_side(self, side: int) -> None:
        """Raise SettingsError unless it takes squares of this side, in pixels."""

    def train(self, mode: bool = True) -> Self:
        """Stays as it scores: nothing here learns."""
        return super().train(False)

    def forward(self, pixels: Tensor) -> Tensor:
        grid = [length // self.cell for length in pixels.shape[-2:]]
        maps = zip(self.maps(pixels), self.taps, strict=True)
        return torch.cat([_on_grid(found, tap.side, grid) for found, tap in maps], dim=1)


def _on_grid(found: Tensor, side: int, grid: list[int]) -> Tensor:
    """A map averaged over `side` x `side` positions and resampled.

    Zeros beyond its border count in the average. They damp what the stem's own padding makes odd there, which
    would else rule the scores of textures.
    """
    pooled = functional.avg_pool2d(found.float(), side, 1, side // 2)
    return functional.interpolate(pooled, grid, mode="bilinear", align_corners=False)
