"""Bootstrap intervals over groups of images: parts or lots, as images of one part are alike.

An image without a group is a group of its own. Groups are drawn with replacement, apart for those with only
normal images, only anomalous ones, and both, so that no draw lacks a class.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from raysvq.evaluation.metrics import BoolArray, Counts, FloatArray, Statistic

_CELLS_AT_ONCE = 2_000_000  # of the (resample, group) matrix that are in memory together

Groups = Sequence[str | None]
Interval = tuple[float, float]


@dataclass(frozen=True)
class Units:
    """What is drawn. Groups that are alike in all that counts may stand as one unit with several copies.

    Intervals are then the same, for less work.
    """

    of_image: npt.NDArray[np.intp]  # (images,) unit of each image
    copies: npt.NDArray[np.int64]  # (units,) groups that are alike
    stratum: npt.NDArray[np.int64]  # (units,) 1: only normal images; 2: only anomalous ones; 3: both

    def draw(self, rng: np.random.Generator, resamples: int) -> Iterator[Counts]:
        """How often each unit was drawn, (up to `resamples`, units), a part of the resamples at a time."""
        rows = max(1, _CELLS_AT_ONCE // max(1, len(self.of_image)))
        for start in range(0, resamples, rows):
            drawn = np.zeros((min(rows, resamples - start), len(self.copies)), np.int64)
            for stratum in np.unique(self.stratum):
                own = np.flatnonzero(self.stratum == stratum)
                number = self.copies[own].sum()
                drawn[:, own] = rng.multinomial(number, self.copies[own] / number, size=len(drawn))
            yield drawn


def count_groups(labels: BoolArray, groups: Groups) -> tuple[int, int]:
    """Numbers of groups with a normal and with an anomalous image."""
    _, stratum = _number(labels, groups)
    return int(((stratum & 1) > 0).sum()), int(((stratum & 2) > 0).sum())


def find_units(labels: BoolArray, groups: Groups) -> Units:
    """A unit for each group."""
    of_image, stratum = _number(labels, groups)
    return Units(of_image, np.ones(len(stratum), np.int64), stratum)


def bootstrap_intervals(
    labels: BoolArray,
    scores: FloatArray,
    groups: Groups,
    statistics: Sequence[Statistic],
    *,
    resamples: int,
    confidence: float,
    seed: int = 0,
) -> list[Interval] | None:
    """Percentile bootstrap intervals of statistics of the ranking.

    Args:
        labels: (N,) True for anomalous.
        scores: (N,) image scores.
        groups: N names; None for an image that is a group of its own.
        statistics: such as `auroc_of_counts`.
        resamples: number of draws; 0 for no interval.
        confidence: coverage; 0.95 takes the 2.5 % and 97.5 % points.
        seed: of the draws.

    Returns:
        (low, high) of each statistic; None where a class comes from fewer than two groups, so that nothing is
        known of how groups differ, or where no resamples were asked for.
    """
    if resamples == 0 or min(count_groups(labels, groups)) < 2:
        return None
    cells = score_cells(labels, scores)
    units = _merged(find_units(labels, groups), labels, cells)
    positives, negatives = contributions(units, labels, cells)
    rng = np.random.default_rng(seed)
    values: list[list[npt.NDArray[np.float64]]] = [[] for _ in statistics]
    for drawn in units.draw(rng, resamples):
        counts = drawn @ positives, drawn @ negatives
        for found, statistic in zip(values, statistics, strict=True):
            found.append(statistic(*counts))
    return [percentiles(np.concatenate(found), confidence) for found in values]


def score_cells(labels: BoolArray, scores: FloatArray) -> npt.NDArray[np.intp]:
    """Ranks from 0, where normal images between two anomalous scores share one: their order is nothing."""
    marked = np.unique(scores[labels])
    raw = np.searchsorted(marked, scores, "left") + np.searchsorted(marked, scores, "right")
    _, cells = np.unique(raw, return_inverse=True)
    return np.asarray(cells)


def contributions(
    units: Units, labels: BoolArray, cells: npt.NDArray[np.intp]
) -> tuple[sparse.csr_array, sparse.csr_array]:
    """(units, cells) numbers of anomalous images, and of normal ones, for one copy of each unit."""
    shape = (len(units.copies), int(cells.max()) + 1)

    def counted(chosen: BoolArray) -> sparse.csr_array:
        of_image = units.of_image[chosen]
        entries = sparse.coo_array((np.ones(len(of_image)), (of_image, cells[chosen])), shape=shape)
        counts = sparse.csr_array(entries)
        counts.data /= np.repeat(units.copies, np.diff(counts.indptr))
        return counts

    return counted(labels), counted(~labels)


def percentiles(values: npt.NDArray[np.float64], confidence: float) -> Interval:
    """The central interval of a bootstrap."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def _number(labels: BoolArray, groups: Groups) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int64]]:
    """The group number of each image, and the stratum of each group."""
    numbers: dict[str | int, int] = {}
    of_image = np.array(
        [numbers.setdefault(at if name is None else name, len(numbers)) for at, name in enumerate(groups)],
        dtype=np.intp,
    )
    stratum = np.zeros(len(numbers), np.int64)
    stratum[of_image[~labels]] |= 1
    stratum[of_image[labels]] |= 2
    return of_image, stratum


def _merged(units: Units, labels: BoolArray, cells: npt.NDArray[np.intp]) -> Units:
    """Groups of one image of the same label and cell as one unit."""
    alone = np.bincount(units.of_image)[units.of_image] == 1
    key = np.where(alone, cells * 2 + labels, 2 * len(cells) + 2 + units.of_image)
    _, first, of_image = np.unique(key, return_index=True, return_inverse=True)
    copies = np.bincount(of_image[alone], minlength=len(first))
    return Units(of_image, np.maximum(copies, 1), units.stratum[units.of_image[first]])
