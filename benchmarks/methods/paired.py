"""Differences between two runs of each draw, on the same test images, with two intervals.

By draw: Student's t over the differences of the draws, which varies labels, batches, and the images and
places tested. By image: a bootstrap over the test images of all draws, apart by label; an image that several
draws test counts alike in all of them, and in both methods. The first says how far another draw may differ,
the second how far other images of the same kind may. Images of one group are alike, so that there the second
is too narrow; drawing whole groups would be no better with the two to six that some sets test.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse, stats

from benchmarks.methods.predictions import Scored
from raysvq.errors import DataError
from raysvq.evaluation.bootstrap import Interval, Units, contributions, find_units, percentiles, score_cells
from raysvq.evaluation.metrics import auroc_of_counts

CONFIDENCE = 0.95
RESAMPLES = 2000
Floats = npt.NDArray[np.float64]
Pair = tuple[Scored, Scored]


@dataclass(frozen=True)
class Difference:
    """A - B, mean over draws."""

    mean: float
    draws: int
    by_draw: Interval | None  # None for a single draw
    by_image: Interval | None = None  # None where no images were resampled


def by_draw(differences: Sequence[float]) -> Difference:
    """Mean of paired differences, one per draw, and its t interval."""
    mean, count = math.fsum(differences) / len(differences), len(differences)
    if count < 2:
        return Difference(mean, count, None)
    error = float(np.std(differences, ddof=1)) / math.sqrt(count)
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)) * error
    return Difference(mean, count, (mean - reach, mean + reach))


def require_paired(pair: Pair) -> None:
    """Refuse two runs of a draw that were not measured on the same images.

    Raises:
        DataError: images or labels differ.
    """
    a, b = pair
    if a.images != b.images or not np.array_equal(a.anomalous, b.anomalous):
        raise DataError(
            f"two runs of a draw were tested on {len(a.images)} and {len(b.images)} images, or labels, that"
            " differ; expected the same"
        )


def resampled(pairs: Sequence[Pair], resamples: int = RESAMPLES, seed: int = 0) -> Floats:
    """Bootstrap of the difference in image AUROC, mean over draws. (resamples,), NaN without both classes

    Args:
        pairs: the two runs of each draw of one set. A resample weighs all images of the set at once.

    Raises:
        DataError: the runs of a draw have other images.
    """
    for pair in pairs:
        require_paired(pair)
    known = {
        name: bool(anomalous)
        for one, _ in pairs
        for name, anomalous in zip(one.images, one.anomalous, strict=True)
    }
    place = {name: number for number, name in enumerate(known)}
    units = find_units(np.array(list(known.values())), [None] * len(known))
    counted = [_counts(pair, units, place) for pair in pairs]
    found = []
    for drawn in units.draw(np.random.default_rng(seed), resamples):
        with np.errstate(invalid="ignore"):  # a resample may leave a draw without a class, and be NaN
            areas = [
                [auroc_of_counts(drawn @ positives, drawn @ negatives) for positives, negatives in both]
                for both in counted
            ]
        found.append(np.mean([a - b for a, b in areas], axis=0))
    return np.concatenate(found)


def _counts(
    pair: Pair, units: Units, place: dict[str, int]
) -> list[tuple[sparse.csr_array, sparse.csr_array]]:
    """Of each run, (units, cells) numbers of anomalous and of normal images."""
    of_image = units.of_image[[place[name] for name in pair[0].images]]
    tested = Units(of_image, units.copies, units.stratum)
    return [contributions(tested, one.anomalous, score_cells(one.anomalous, one.scores)) for one in pair]


def interval(samples: Floats) -> Interval | None:
    """The central interval of bootstrap samples; None where there are none."""
    known = samples[np.isfinite(samples)]
    return percentiles(known, CONFIDENCE) if len(known) else None
