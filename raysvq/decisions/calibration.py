"""Scores that calibrate decisions: checked, weighted by unit, and thinned for storage."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from raysvq.errors import DataError

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.intp]

THINNING = 1e-3  # largest relative error of a p-value from kept scores


@dataclass(frozen=True)
class CalibrationScores:
    """Scores of images that the model has not learnt from.

    Images of one unit, such as a part or near-duplicates, are not independent: they count once together.
    """

    scores: npt.NDArray[np.float32]  # (N,)
    anomalous: Bools  # (N,)
    groups: Sequence[str | None]  # (N,) values of decision.group_by
    units: Sequence[str]  # (N,)


@dataclass(frozen=True)
class WeightedScores:
    """Images of one label."""

    scores: Floats  # (n,) values that float32 holds exactly
    units: Indices  # (n,) numbers from 0
    groups: tuple[str | None, ...]  # (n,)

    @cached_property
    def count(self) -> int:
        """Number of units."""
        return int(self.units.max()) + 1 if len(self.units) else 0

    @cached_property
    def weights(self) -> Floats:
        """(n,) 1 / images of the unit; they add up to the number of units."""
        return unit_weights(self.units)


def unit_weights(units: Indices) -> Floats:
    """(n,) 1 / images of the unit."""
    return np.asarray(1.0 / np.bincount(units)[units], np.float64)


def split_by_label(calibration: CalibrationScores) -> tuple[WeightedScores, WeightedScores]:
    """Normal and anomalous images.

    Raises:
        DataError: no image is normal, a score is not finite, or the columns differ in length.
    """
    scores = np.asarray(calibration.scores, np.float32)
    anomalous = np.asarray(calibration.anomalous, bool)
    lengths = {len(scores), len(anomalous), len(calibration.groups), len(calibration.units)}
    if len(lengths) > 1:
        raise DataError(
            f"calibration: found {len(scores)} scores, {len(anomalous)} labels, {len(calibration.groups)}"
            f" groups and {len(calibration.units)} units, expected as many of each"
        )
    if not np.isfinite(scores).all():
        raise DataError("calibration scores: found values that are not finite; the model has diverged")
    if anomalous.all():
        raise DataError(
            f"calibration: found 0 normal images among {len(scores)}, expected at least 1 to fit the"
            " threshold; label some `normal`, or raise split.validation_fraction"
        )
    return _of(calibration, scores, ~anomalous), _of(calibration, scores, anomalous)


def _of(calibration: CalibrationScores, scores: npt.NDArray[np.float32], chosen: Bools) -> WeightedScores:
    places = np.flatnonzero(chosen).tolist()
    units = np.array([calibration.units[i] for i in places], dtype=np.str_)
    numbers = np.unique(units, return_inverse=True)[1]
    return WeightedScores(
        scores[places].astype(np.float64), numbers, tuple(calibration.groups[i] for i in places)
    )


def float32_from(value: float) -> float:
    """The smallest float32 that is not below a value."""
    nearest = np.float32(value)
    return float(nearest if float(nearest) >= value else np.nextafter(nearest, np.float32(np.inf)))


@dataclass(frozen=True)
class KeptScores:
    """Scores that p-values are read from, ascending, with the weight that each stands for."""

    scores: tuple[float, ...]
    weights: tuple[float, ...]
    units: int  # sum of the weights

    @cached_property
    def _weight_from(self) -> list[float]:
        """Weight of the scores from a place on; 0 after the last."""
        return [*np.cumsum(self.weights[::-1])[::-1].tolist(), 0.0]

    def p_value(self, score: float) -> float:
        """(1 + weight of the scores >= `score`) / (units + 1)

        Of normal images it is at most a with a probability of at most a, where the image is exchangeable with
        those that calibrate (Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005; units
        of several images: Lee, Barber and Willett, arXiv:2306.06342).
        """
        return (1 + self._weight_from[bisect_left(self.scores, score)]) / (self.units + 1)


def keep(scores: Floats, weights: Floats, units: int) -> KeptScores:
    """Thin scores so that no p-value falls, and none grows by more than THINNING of itself.

    Each score that is kept stands for itself and for scores below it, of THINNING of the weight above them at
    most: the largest 1,000 are all kept, of a million 8,000.
    """
    order = np.argsort(scores)[::-1]  # descending
    values, each = scores[order], weights[order]
    above = np.cumsum(each)
    kept_values: list[float] = []
    kept_weights: list[float] = []
    start = 0
    while start < len(values):
        before = float(above[start - 1]) if start else 0.0
        limit = before + max(float(each[start]), THINNING * (1 + before))
        end = max(start + 1, int(np.searchsorted(above, limit + 1e-9, side="right")))
        kept_values.append(float(values[start]))
        kept_weights.append(float(above[end - 1]) - before)
        start = end
    return KeptScores(tuple(kept_values[::-1]), tuple(kept_weights[::-1]), units)
