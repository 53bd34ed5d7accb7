"""How often positions use each code, how far from it they lie, and the image patches that show it.

Shapes: P positions, K codebook_size, S side of a patch in pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from raysvq.imaging.decode import Pixels

NEAREST = 3  # patches of normal positions that are kept per code, each from another image
_KEPT = 1024  # codes with patches; of a larger codebook the most used so far
_SLACK = 512  # codes more, before the least used are dropped

Cut = Callable[[int], Pixels]  # number of a position -> (S, S, C) patch around it
Integers = npt.NDArray[np.integer]


class CodeUses:
    """Collects the uses of all codes, an image at a time, in memory that does not grow with the images."""

    def __init__(self, codebook_size: int) -> None:
        """Start without any use."""
        self.counts = np.zeros((2, codebook_size), np.int64)  # by normal positions, by marked ones
        self._sums = np.zeros((2, codebook_size))  # of distances
        self._nearest: dict[int, list[tuple[float, Pixels]]] = {}  # normal, nearest first
        self._farthest: dict[int, tuple[float, Pixels]] = {}  # marked

    def add(self, codes: Integers, distances: npt.NDArray[np.float32], marked: bool, cut: Cut) -> None:
        """Add positions of one image, all of them normal or all marked.

        Args:
            codes: (P,) of each.
            distances: (P,) to that code.
            cut: gives the patch around one of them.
        """
        size = self.counts.shape[1]
        self.counts[int(marked)] += np.bincount(codes, minlength=size)
        self._sums[int(marked)] += np.bincount(codes, distances, minlength=size)
        order = np.lexsort((-distances if marked else distances, codes))
        first = np.unique(codes[order], return_index=True)[1]
        for position in order[first].tolist():
            code, distance = int(codes[position]), float(distances[position])
            if marked:
                self._add_farthest(code, distance, position, cut)
            else:
                self._add_nearest(code, distance, position, cut)
        self._forget()

    def mean_distances(self) -> npt.NDArray[np.float64]:
        """(2, K) of normal and of marked positions to each code; NaN where none uses it."""
        return np.divide(self._sums, self.counts, out=np.full_like(self._sums, np.nan), where=self.counts > 0)

    def patches(self, code: int) -> list[Pixels | None]:
        """Of NEAREST normal positions, nearest first, then of the farthest marked one; None where missing."""
        near = [patch for _, patch in self._nearest.get(code, [])]
        far = self._farthest.get(code)
        return [*near, *[None] * (NEAREST - len(near)), far[1] if far else None]

    def _add_nearest(self, code: int, distance: float, position: int, cut: Cut) -> None:
        held = self._nearest.setdefault(code, [])
        if len(held) == NEAREST and distance >= held[-1][0]:
            return
        held.append((distance, cut(position)))
        held.sort(key=lambda item: item[0])
        del held[NEAREST:]

    def _add_farthest(self, code: int, distance: float, position: int, cut: Cut) -> None:
        if code not in self._farthest or distance > self._farthest[code][0]:
            self._farthest[code] = distance, cut(position)

    def _forget(self) -> None:
        both: tuple[dict[int, Any], ...] = (self._nearest, self._farthest)
        for uses, held in zip(self.counts, both, strict=True):
            if len(held) > _KEPT + _SLACK:
                for code in sorted(held, key=lambda code: uses[code])[:-_KEPT]:
                    del held[code]
