"""The frozen features that raysvq's `features` encoder starts from, standardised per channel."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

CELL = 8  # pixels along the side of a grid position


class FrozenFeatures:
    """The pretrained stem, standardised on normal images. Nothing is trained."""

    def __init__(self, pixels: Iterable[Tensor]) -> None:
        """Fit mean and deviation of each channel on batches of normal images."""
        self.stem = _stem()
        with torch.inference_mode():
            found = torch.cat([self.stem(batch) for batch in pixels])
        self.mean = found.mean(dim=(0, 2, 3))[:, None, None]
        self.std = found.std(dim=(0, 2, 3))[:, None, None].clamp(min=1e-5)

    @torch.inference_mode()
    def __call__(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) pixels in [0, 1] -> (B, C, H / 8, W / 8)."""
        return (self.stem(pixels) - self.mean) / self.std


def _stem() -> nn.Module:
    from raysvq.model.stem import Stem

    stem = Stem()
    stem.load(None)
    return stem.eval()
