"""Pixels -> tiles and back.

Tiles cover every pixel: they stand `stride` apart, and the last row and column shift inwards to
end at the edge. An image smaller than a tile is mirrored at its right and bottom edge until it
fills one. In whole-image mode there is one tile, the image resized to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt
from scipy import sparse

from raysvq.imaging.decode import Pixels
from raysvq.settings import TileSettings

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Tiling:
    """Where the tiles of one image stand.

    Tiles are numbered row by row: tile t stands at (`ys[t // len(xs)]`, `xs[t % len(xs)]`).
    """

    height: int  # of the image, pixels
    width: int
    size: int  # side of a tile, pixels
    ys: tuple[int, ...]  # top edges
    xs: tuple[int, ...]  # left edges
    whole: bool = False  # the one tile is the image, resized

    def __len__(self) -> int:
        return len(self.ys) * len(self.xs)

    def rects(self) -> npt.NDArray[np.int32]:
        """(T, 4) x, y, w, h of each tile's share of the image, padding left out."""
        if self.whole:
            return np.array([[0, 0, self.width, self.height]], np.int32)
        w, h = min(self.size, self.width), min(self.size, self.height)
        return np.array([[x, y, w, h] for y in self.ys for x in self.xs], np.int32)


def plan_tiles(height: int, width: int, tiles: TileSettings) -> Tiling:
    """Lay tiles over an image of height x width pixels."""
    if tiles.mode == "whole":
        return Tiling(height, width, tiles.size, (0,), (0,), whole=True)
    stride = tiles.stride or tiles.size
    ys, xs = origins(height, tiles.size, stride), origins(width, tiles.size, stride)
    return Tiling(height, width, tiles.size, ys, xs)


def origins(length: int, size: int, stride: int) -> tuple[int, ...]:
    """Where tiles of `size` start so that they cover `length`; the last one is shifted inwards."""
    last = max(length - size, 0)
    return (*range(0, last, stride), last)


def cut(image: Pixels, tiling: Tiling) -> Pixels:
    """(H, W) or (H, W, C) -> (T, size, size[, C]), same type."""
    if tiling.whole:
        return resize(image, tiling.size, tiling.size)[None]
    size = tiling.size
    padding = [(0, max(0, size - image.shape[0])), (0, max(0, size - image.shape[1]))]
    padded = np.pad(image, padding + [(0, 0)] * (image.ndim - 2), mode="symmetric")
    return np.stack([padded[y : y + size, x : x + size] for y in tiling.ys for x in tiling.xs])


def stitch(tiles: Array, tiling: Tiling, cell: int) -> Array:
    """Lay per-tile maps back over the image; where tiles overlap, their values are averaged.

    Args:
        tiles: (T, size / cell, size / cell) values, one map for each tile.
        cell: image pixels along the side of a map cell; 1 for maps at full resolution.

    Returns:
        (ceil(H / cell), ceil(W / cell)), which spans `map_span` pixels of the image. A tile that
        stands between cells shares its values out by area. Whole-image mode: the tile's own map.
    """
    if tiling.whole:
        return np.asarray(tiles[0])
    side = tiling.size // cell
    rows, columns = len(tiling.ys), len(tiling.xs)
    down = _placement(tiling.ys, side, -(-tiling.height // cell), cell)
    across = _placement(tiling.xs, side, -(-tiling.width // cell), cell)
    sheet = tiles.reshape(rows, columns, side, side).swapaxes(1, 2).reshape(rows * side, columns * side)
    summed = (across @ (down @ sheet).T).T
    weight = np.outer(down.sum(axis=1), across.sum(axis=1))
    return np.asarray(summed / weight, dtype=tiles.dtype)


def map_span(tiling: Tiling, cell: int) -> tuple[int, int]:
    """(height, width) in image pixels that a stitched map spans from the top left corner."""
    if tiling.whole:
        return tiling.height, tiling.width
    return -(-tiling.height // cell) * cell, -(-tiling.width // cell) * cell


def mask_fractions(mask: npt.NDArray[np.bool_], rects: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
    """Share of marked pixels in each (x, y, w, h) of `rects`. (T,)"""
    total = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), np.int64)
    total[1:, 1:] = mask.cumsum(0, dtype=np.int64).cumsum(1)
    x, y, w, h = rects.T.astype(np.int64)
    marked = total[y + h, x + w] - total[y, x + w] - total[y + h, x] + total[y, x]
    return np.asarray(marked / (w * h), np.float64)


def is_anomalous(fractions: npt.NDArray[np.float64], least: float) -> npt.NDArray[np.bool_]:
    """The label rule: at least `least` of a tile is marked; 0 means any pixel is. (T,)"""
    return np.asarray((fractions > 0) & (fractions >= least))


def resize(image: Pixels, height: int, width: int) -> Pixels:
    """Resample to height x width: area average when shrinking, bilinear when growing."""
    if image.shape[:2] == (height, width):
        return image
    shrinks = image.shape[0] >= height and image.shape[1] >= width
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cast(Pixels, cv2.resize(image, (width, height), interpolation=method))


def _placement(starts: tuple[int, ...], side: int, cells: int, cell: int) -> sparse.csr_array:
    """(cells, len(starts) * side): the share of each map cell's length that a tile's cell covers."""
    first = np.asarray(starts)[:, None] / cell + np.arange(side)  # in cells, may be fractional
    column = np.arange(first.size)
    low = np.floor(first).astype(np.int64).ravel()
    beyond = first.ravel() - low
    rows = np.concatenate([low, low + 1])
    shares = np.concatenate([1 - beyond, beyond])
    keep = (shares > 0) & (rows < cells)
    matrix = (shares[keep], (rows[keep], np.concatenate([column, column])[keep]))
    return sparse.csr_array(matrix, shape=(cells, first.size))
