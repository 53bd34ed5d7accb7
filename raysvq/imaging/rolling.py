"""Tiles from rows that come one after another, in memory that does not grow with the image's height.

`read(n)` stands for the next n rows of an image from the top: (n, W, C), uint8 or uint16.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

from raysvq.imaging.full_scale import Pixels
from raysvq.imaging.tiling import Tiling, cut_parts

Read = Callable[[int], Pixels]

ROWS = 64  # shrunk at once


def cut_rows(read: Read, tiling: Tiling, at_once: int) -> Iterator[Pixels]:
    """What `cut_parts` gives, from as many rows of tiles as make `at_once` tiles, but one at least."""
    rows = max(1, at_once // len(tiling.xs))
    groups = [tiling.ys[first : first + rows] for first in range(0, len(tiling.ys), rows)]
    held = read(min(groups[0][-1] + tiling.size, tiling.height))
    yield from cut_parts(held, replace(tiling, ys=groups[0]), at_once)
    for above, ys in pairwise(groups):
        held = np.concatenate([held[ys[0] - above[0] :], read(ys[-1] - above[-1])])
        yield from cut_parts(held, replace(tiling, ys=tuple(y - ys[0] for y in ys)), at_once)


def shrink_rows(read: Read, height: int, size: int) -> Iterator[npt.NDArray[np.uint16]]:
    """What `cut` gives of an image that is no smaller than the one tile it becomes: (1, size, size, C).

    The area average, equal to OpenCV's up to the rounding of ties. `read` gives rows over the full scale.
    """
    scale = height / size
    edges = np.arange(size + 1) * scale
    total = None
    for top in range(0, height, ROWS):
        rows = np.arange(top, min(top + ROWS, height))
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
