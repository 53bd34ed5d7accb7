"""What each threshold costs: false alarms and escapes per 1,000 parts, and money where costs are known."""

from __future__ import annotations

import numpy as np

from raysvq.evaluation.metrics import BoolArray, FloatArray
from raysvq.evaluation.result import Costs, OperatingPoint

_LIMIT = 200  # points


def operating_points(
    labels: BoolArray, scores: FloatArray, costs: Costs, threshold: float | None = None
) -> tuple[OperatingPoint, ...]:
    """Up to some 200 thresholds, ascending, from one that flags every image to one that flags none.

    Where there are more thresholds than that, those are taken at which false alarms or recall have changed by
    equal steps.

    Args:
        labels: (N,) True for anomalous.
        scores: (N,) image scores; flagged where score >= threshold.
        costs: of wrong decisions, and the share of parts that are defective.
        threshold: of the model; it is among the points.
    """
    if not len(scores):
        return ()
    distinct = np.unique(np.append(scores, np.nextafter(np.float32(scores.max()), np.float32(np.inf))))
    chosen = distinct[_spread(_errors(labels, scores, distinct))]
    if threshold is not None:
        chosen = np.union1d(chosen, [threshold])
    alarms, found = (_share_flagged(scores[one], chosen) for one in (~labels, labels))
    return tuple(
        _point(float(value), _at(alarms, at), _at(found, at), costs) for at, value in enumerate(chosen)
    )


def _spread(changes: FloatArray) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Places of up to `_LIMIT` thresholds, at equal steps of what changes along them."""
    if len(changes) <= _LIMIT:
        return np.arange(len(changes))
    steps = np.linspace(changes[0], changes[-1], _LIMIT)
    return np.unique(np.searchsorted(changes, steps).clip(max=len(changes) - 1))


def _errors(labels: BoolArray, scores: FloatArray, thresholds: FloatArray) -> FloatArray:
    """(T,) share of normal images passed, plus that of anomalous ones missed; it grows along thresholds."""
    shares = [_share_flagged(scores[one], thresholds) for one in (~labels, labels)]
    return np.asarray(np.sum([1 - share for share in shares if share is not None], axis=0))


def _share_flagged(scores: FloatArray, thresholds: FloatArray) -> FloatArray | None:
    """(T,) share of the scores at or over each threshold; None without a score."""
    if not len(scores):
        return None
    return 1 - np.searchsorted(np.sort(scores), thresholds, "left") / len(scores)


def _at(shares: FloatArray | None, place: int) -> float | None:
    return None if shares is None else float(shares[place])


def _point(threshold: float, alarm_rate: float | None, recall: float | None, costs: Costs) -> OperatingPoint:
    good, defective = 1000.0, 1000.0
    if costs.defect_rate is not None:
        defective *= costs.defect_rate
        good -= defective
    escapes = None if recall is None else defective * (1 - recall)
    alarms = None if alarm_rate is None else good * alarm_rate
    return OperatingPoint(threshold, alarm_rate, recall, escapes, alarms, _cost(escapes, alarms, costs))


def _cost(escapes: float | None, alarms: float | None, costs: Costs) -> float | None:
    if escapes is None or alarms is None or costs.defect_rate is None:
        return None
    if costs.miss is None or costs.false_alarm is None:
        return None
    return escapes * costs.miss + alarms * costs.false_alarm
