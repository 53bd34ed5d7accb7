"""Pixels -> tiles and back.

Tiles cover every pixel: they stand `stride` apart, and the last row and column shift inwards to
end at the edge. An image smaller than a tile is mirrored at its right and bottom edge until it
fills one. With a halo, a tile is cut with its surroundings, mirrored beyond the edge of the image. In
whole-image mode there is one tile, the image resized to it. From rows that come one after another, tiles are
cut in memory that does not grow with the height of the image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice, product
from typing import Any, TypeVar, cast

import cv2
import numpy as np
import numpy.typing as npt

from raysvq.imaging.header import Pixels
from raysvq.settings import TileSettings

Tiles = TypeVar("Tiles", bound=npt.NDArray[Any])
Read = Callable[[int], Pixels]  # the next n rows of an image from the top, (n, W, C)

_SHRUNK_ROWS = 64  # rows shrunk at once
# Cells of the map, of the tile, weight of each; None where all weights are 1, as without overlaps.
_Placement = tuple[slice, slice, npt.NDArray[np.float32] | None]


@dataclass(frozen=True)
class Tiling:
    """Positions of the tiles of one image.

    Tiles are numbered row by row: tile t stands at (`ys[t // len(xs)]`, `xs[t % len(xs)]`).
    """

    height: int  # pixels of the image
    width: int
    size: int  # side of a tile, pixels
    ys: tuple[int, ...]  # top edges
    xs: tuple[int, ...]  # left edges
    whole: bool = False  # the one tile is the image, resized
    halo: int = 0  # pixels around a tile that are cut with it

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
    return Tiling(height, width, tiles.size, ys, xs, halo=tiles.halo)


def origins(length: int, size: int, stride: int) -> tuple[int, ...]:
    """Where tiles of `size` start so that they cover `length`; the last one is shifted inwards."""
    last = max(length - size, 0)
    return (*range(0, last, stride), last)


def cut(image: Pixels, tiling: Tiling) -> Pixels:
    """(H, W) or (H, W, C) -> (T, S, S[, C]), same type; S is size + 2 halo."""
    if tiling.whole:
        return resize(image, tiling.size, tiling.size)[None]
    (tiles,) = cut_parts(image, tiling, len(tiling))
    return tiles


def cut_parts(image: Pixels, tiling: Tiling, at_once: int) -> Iterator[Pixels]:
    """What `cut` gives of an image in tiles, `at_once` of them after another."""
    corners = product(tiling.ys, tiling.xs)
    while part := list(islice(corners, at_once)):
        yield cast(Pixels, np.stack([_tile(image, y, x, tiling) for y, x in part]))


def _tile(image: Pixels, y: int, x: int, tiling: Tiling) -> Pixels:
    taken, missing = [], [(0, 0)] * image.ndim
    for axis, start in enumerate((y, x)):
        first, last = start - tiling.halo, start + tiling.size + tiling.halo
        length = image.shape[axis]
        taken.append(slice(max(first, 0), min(last, length)))
        missing[axis] = max(-first, 0), max(last - length, 0)
    tile = image[tuple(taken)]
    return cast(Pixels, np.pad(tile, missing, mode="symmetric")) if any(map(any, missing)) else tile


def without_halo(tiles: Tiles, halo: int) -> Tiles:
    """(T, S, S, ...) tiles as they were cut, or grids of them -> the same of the tiles proper, a view."""
    return cast(Tiles, tiles[:, halo : tiles.shape[1] - halo, halo : tiles.shape[2] - halo])


def cut_rows(read: Read, tiling: Tiling, at_once: int) -> Iterator[Pixels]:
    """What `cut_parts` gives, from as many rows of tiles as make `at_once` tiles, but one at least."""
    rows = max(1, at_once // len(tiling.xs))
    held: Pixels | None = None
    top = bottom = 0  # rows of the image that are held
    for group in range(0, len(tiling.ys), rows):
        ys = tiling.ys[group : group + rows]
        first = max(ys[0] - tiling.halo, 0)
        last = min(ys[-1] + tiling.size + tiling.halo, tiling.height)
        if held is None:
            held = read(last)
        elif last > bottom:
            held = np.concatenate([held[first - top :], read(last - bottom)])
        else:  # the halo of the rows above has reached the bottom
            held = held[first - top :]
        top, bottom = first, last
        yield from cut_parts(held, replace(tiling, ys=tuple(y - top for y in ys)), at_once)


def shrink_rows(read: Read, height: int, size: int) -> Iterator[npt.NDArray[np.uint16]]:
    """What `cut` gives of an image that is no smaller than the one tile it becomes: (1, size, size, C).

    The area average, equal to OpenCV's up to the rounding of ties. `read` gives rows over the full scale.
    """
    scale = height / size
    edges = np.arange(size + 1) * scale
    total = None
    for top in range(0, height, _SHRUNK_ROWS):
        rows = np.arange(top, min(top + _SHRUNK_ROWS, height))
        band = read(len(rows)).astype(np.float32)
        narrow = cv2.resize(band, (size, len(rows)), interpolation=cv2.INTER_AREA).reshape(len(rows), -1)
        if total is None:
            total = np.zeros((size, narrow.shape[1]), np.float32)
        reached = slice(int(rows[0] / scale), min(int(np.ceil((rows[-1] + 1) / scale)), size))
        above, below = edges[:-1][reached, None], edges[1:][reached, None]
        shares = np.clip(np.minimum(below, rows + 1) - np.maximum(above, rows), 0, None) / scale
        total[reached] += shares.astype(np.float32) @ narrow
    assert total is not None
    yield np.rint(total).astype(np.uint16).reshape(1, size, size, -1)


class Mosaic:
    """Per-tile maps laid back over the image; where tiles overlap, their values are averaged.

    A tile that stands between cells shares its values out by area. Whole-image mode: the tile's own map.
    """

    def __init__(self, tiling: Tiling, cell: int, terms: int) -> None:
        """Start with zeros.

        Args:
            cell: image pixels along the side of a map cell; 1 for maps at full resolution.
            terms: number of maps of a tile.
        """
        side = tiling.size // cell
        height, width = map_shape(tiling, cell)
        self.values = np.zeros((terms, height, width), np.float32)  # spans `map_span` pixels of the image
        self._down = _placements(tiling.ys, side, height, cell)
        self._across = _placements(tiling.xs, side, width, cell)
        self._placed = 0

    def add(self, maps: npt.NDArray[np.float32]) -> None:
        """Place the maps of the next tiles, (t, terms, size / cell, size / cell)."""
        for tile in maps:
            row, column = divmod(self._placed, len(self._across))
            for rows, tile_rows, down in self._down[row]:
                for columns, tile_columns, across in self._across[column]:
                    part = tile[:, tile_rows, tile_columns]
                    if down is not None:
                        part = down[:, None] * part
                    if across is not None:
                        part = part * across
                    self.values[:, rows, columns] += part
            self._placed += 1


def map_shape(tiling: Tiling, cell: int) -> tuple[int, int]:
    """(height, width) in cells of a stitched map."""
    if tiling.whole:
        return tiling.size // cell, tiling.size // cell
    return -(-tiling.height // cell), -(-tiling.width // cell)


def map_span(tiling: Tiling, cell: int) -> tuple[int, int]:
    """(height, width) in image pixels that a stitched map spans from the top left corner."""
    if tiling.whole:
        return tiling.height, tiling.width
    rows, columns = map_shape(tiling, cell)
    return rows * cell, columns * cell


def tiles_of_map(values: npt.NDArray[Any], tiling: Tiling, cell: int) -> Iterator[npt.NDArray[Any]]:
    """What each tile has of an (h, w) map: the value under the middle of each of its cells.

    Args:
        cell: image pixels along the side of a map cell.
    """
    middles = (np.arange(tiling.size // cell) + 0.5) * cell
    down, across = (
        [np.minimum(((start + middles) // cell).astype(np.intp), length - 1) for start in starts]
        for starts, length in ((tiling.ys, values.shape[0]), (tiling.xs, values.shape[1]))
    )
    for rows, columns in product(down, across):
        yield values[np.ix_(rows, columns)]


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
    resized = cv2.resize(image, (width, height), interpolation=method)
    return cast(Pixels, resized.reshape(height, width, *image.shape[2:]))  # OpenCV drops a single channel


@lru_cache(maxsize=16)  # images of a set have few sizes
def _placements(starts: tuple[int, ...], side: int, cells: int, cell: int) -> list[list[_Placement]]:
    """Where each tile's map lies along one axis: on cells, or shared between neighbouring ones."""
    placed = []
    total = np.zeros(cells)
    for start in starts:
        low, beyond = divmod(start, cell)
        shares = [(low, 1 - beyond / cell), (low + 1, beyond / cell)]
        placed.append([(first, min(side, cells - first), share) for first, share in shares if share])
        for first, length, share in placed[-1]:
            total[first : first + length] += share
    return [
        [
            (slice(first, first + n), slice(n), _weights(share / total[first : first + n]))
            for first, n, share in parts
        ]
        for parts in placed
    ]


def _weights(shares: npt.NDArray[np.float64]) -> npt.NDArray[np.float32] | None:
    return None if (shares == 1).all() else shares.astype(np.float32)
