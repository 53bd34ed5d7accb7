"""Augmentation that keeps the label: tiles moved, scaled and brightened; batches mirrored."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt
from torch import Tensor

from raysvq.imaging.pixels import FULL_SCALE
from raysvq.training.shuffling import Columns, Source, pieces

_SHIFT = 0.05  # maximum, as a fraction of the tile's side
_SCALE = 0.05  # maximum relative change
_BRIGHTNESS = 0.12  # maximum relative change
_AT_ONCE = 16  # tiles


def with_copies(source: Source, copies: int, seed: int) -> Source:
    """Each row followed by `copies` augmented ones; every pass gives the same."""

    def read() -> Iterator[Columns]:
        rng = np.random.default_rng(seed)
        for part in pieces(source, _AT_ONCE):
            yield part
            for _ in range(copies):
                yield augmented(part, rng)

    return read


def augmented(columns: Columns, rng: np.random.Generator) -> Columns:
    """`tile` (T, S, S, C) uint16 and `weight` (T, h, w), moved and scaled alike; tiles brightened too."""
    tiles, weights = [], []
    for tile, weight in zip(columns["tile"], columns["weight"], strict=True):
        scale = 1 + rng.uniform(-_SCALE, _SCALE)
        shift = rng.uniform(-_SHIFT, _SHIFT, 2)
        bright = tile * np.float32(1 + rng.uniform(-_BRIGHTNESS, _BRIGHTNESS))
        tiles.append(np.clip(_moved(bright, scale, shift), 0, FULL_SCALE).astype(np.uint16))
        weights.append(_moved(weight, scale, shift))
    return columns | {"tile": np.stack(tiles), "weight": np.stack(weights)}


def mirrored(grids: list[Tensor], rng: np.random.Generator) -> list[Tensor]:
    """Grids (..., h, w), all mirrored along the same axes: each of the two with probability 0.5."""
    axes = [axis for axis in (-2, -1) if rng.random() < 0.5]
    return [grid.flip(axes) for grid in grids]


def _moved(
    image: npt.NDArray[np.float32], scale: float, shift: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """Scaled about the middle and shifted by fractions of the side; mirrored beyond its edges."""
    side = image.shape[0]
    offset = (1 - scale) * (side - 1) / 2 + shift * side
    matrix = np.array([[scale, 0, offset[0]], [0, scale, offset[1]]])
    moved = cv2.warpAffine(image, matrix, (side, side), borderMode=cv2.BORDER_REFLECT_101)
    return moved.reshape(image.shape).astype(np.float32, copy=False)  # OpenCV drops a single channel
