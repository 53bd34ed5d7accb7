"""Policies: from calibration scores to the score from which on an image is flagged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raysvq.decisions.calibration import Floats, Indices
from raysvq.decisions.conformal import conformal_quantile
from raysvq.errors import DataError
from raysvq.settings.decision import NEEDS_OUTLIERS, DecisionSettings

_ROUNDING = 1e-12  # relative, of equal costs


@dataclass(frozen=True)
class Sample:
    """Scores of one label, on the scale that the threshold is chosen on."""

    scores: Floats  # (n,)
    weights: Floats  # (n,) that add up to the units
    units: int
    images: int | None = None  # where scores stand for several; None: each for its own


def choose_threshold(normals: Sample, outliers: Sample, settings: DecisionSettings) -> float:
    """The smallest score that is flagged.

    Raises:
        DataError: the policy needs outliers, and there are none.
    """
    policy = settings.policy
    if policy in NEEDS_OUTLIERS and not outliers.units:
        raise DataError(
            f"setting `decision.policy`: {policy} needs labelled anomalous images to calibrate on, found"
            " none; expected some in the validation split, or decision.policy=max_false_alarm_rate"
        )
    if policy == "max_false_alarm_rate":
        rate = settings.max_false_alarm_rate
        return float(np.nextafter(_quantile(normals.scores, normals, rate, settings), np.inf))
    if policy == "min_recall":  # of outliers, few may score less: the same with the signs changed
        return -_quantile(-outliers.scores, outliers, 1 - settings.min_recall, settings)
    if policy == "cost":
        return cheapest_threshold(normals, outliers, settings)
    if policy == "paper":
        return balanced_threshold(normals, outliers)
    assert settings.threshold is not None  # as the settings require
    return settings.threshold


def _quantile(scores: Floats, sample: Sample, rate: float, settings: DecisionSettings) -> float:
    return conformal_quantile(scores, sample.weights, sample.units, rate, settings.confidence)


def balanced_threshold(normals: Sample, outliers: Sample) -> float:
    """The threshold at the ROC point where |(1 - FPR) - TPR| is smallest (paper, section IV).

    Of equally balanced points, the one with the larger TPR - FPR wins. All thresholds between two scores give
    the same point. The middle between them is taken, as it is farthest from both.
    """
    distinct, false_alarms, found = _flagged(normals, outliers)
    specificity, sensitivity = 1 - false_alarms / false_alarms[0], found / found[0]
    imbalance = np.abs(specificity - sensitivity).round(12)
    return _between(distinct, int(np.lexsort((-(sensitivity + specificity), imbalance))[0]))


def cheapest_threshold(normals: Sample, outliers: Sample, settings: DecisionSettings) -> float:
    """The threshold of the least expected cost of a unit; of equals, the one with the fewest false alarms.

    Rates are (units + 1) / (all + 2), Laplace's rule of succession: no error among few is not yet none.
    """
    distinct, false_alarms, found = _flagged(normals, outliers)
    costs = expected_cost(false_alarms, outliers.units - found, normals.units, outliers.units, settings)
    return _between(distinct, int(np.flatnonzero(costs <= costs.min() * (1 + _ROUNDING))[-1]))


def expected_cost(
    false_alarms: Floats, misses: Floats, normals: int, outliers: int, settings: DecisionSettings
) -> Floats:
    """Expected cost of a unit, given how many of the normal and anomalous ones are decided wrongly."""
    assert settings.miss_cost is not None
    assert settings.false_alarm_cost is not None
    assert settings.defect_rate is not None
    missed = settings.defect_rate * settings.miss_cost * (misses + 1) / (outliers + 2)
    flagged = (1 - settings.defect_rate) * settings.false_alarm_cost * (false_alarms + 1) / (normals + 2)
    return missed + flagged


def _flagged(normals: Sample, outliers: Sample) -> tuple[Floats, Floats, Floats]:
    """Distinct scores, ascending; the weights of normals and outliers at or above each, and above all."""
    distinct, places = np.unique(np.concatenate([normals.scores, outliers.scores]), return_inverse=True)
    split = len(normals.scores)

    def from_on(some: Floats, at: Indices) -> Floats:
        weights = np.bincount(at, some, minlength=len(distinct) + 1)
        return np.asarray(weights[::-1].cumsum()[::-1], np.float64)

    return distinct, from_on(normals.weights, places[:split]), from_on(outliers.weights, places[split:])


def _between(distinct: Floats, place: int) -> float:
    """The middle of the gap below a place; the first score below which is none, and just above the last."""
    if place == 0:
        return float(distinct[0])
    if place == len(distinct):
        return float(np.nextafter(distinct[-1], np.inf))
    return float((distinct[place - 1] + distinct[place]) / 2)
