"""Ranking metrics of images and tiles, with bootstrap intervals.

A label is True for anomalous. A larger score means more anomalous. Scores are only ranked, so raw distances
of any size may be passed. scikit-learn is imported where it is used: it takes as long to load as PyTorch, and
processes that decode import this module for its types.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from raysvq.errors import DataError

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.floating]
Counts = npt.NDArray[np.int64]
Statistic = Callable[[Counts, Counts], npt.NDArray[np.float64]]

_CELLS_AT_ONCE = 2_000_000  # of the (resample, image) matrix that are in memory together


def image_auroc(labels: BoolArray, scores: FloatArray) -> float | None:
    """Area under the ROC curve; None where a class is absent.

    Raises:
        DataError: a score is not finite, so it has no rank.
    """
    if not np.isfinite(scores).all():
        raise DataError("scores: found values that are not finite; the model has diverged")
    if not _both_classes(labels):
        return None
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, scores))


def average_precision(labels: BoolArray, scores: FloatArray) -> float | None:
    """Area under the precision-recall curve, without interpolation; None where a class is absent.

    Without a normal image it would be 1 for any scores.
    """
    if not _both_classes(labels):
        return None
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(labels, scores))


def roc_points(labels: BoolArray, scores: FloatArray, limit: int = 400) -> tuple[tuple[float, float], ...]:
    """Up to `limit` corners of the ROC curve: (false-positive rate, true-positive rate).

    Empty where a class is absent.
    """
    if not _both_classes(labels):
        return ()
    from sklearn.metrics import roc_curve

    fpr, tpr, _ = roc_curve(labels, scores)
    chosen = np.unique(np.linspace(0, len(fpr) - 1, min(limit, len(fpr))).round().astype(int))
    return tuple((float(fpr[i]), float(tpr[i])) for i in chosen)


def auroc_of_counts(positives: Counts, negatives: Counts) -> npt.NDArray[np.float64]:
    """AUROC of each resample, as the Mann-Whitney statistic; a tie counts one half.

    Args:
        positives: (resamples, distinct scores) how often anomalous images with that score were drawn; scores
            ascend.
        negatives: likewise for normal images.

    Returns:
        (resamples,) areas.
    """
    below = np.cumsum(negatives, axis=1) - 0.5 * negatives
    pairs = positives.sum(axis=1) * negatives.sum(axis=1)
    area: npt.NDArray[np.float64] = (positives * below).sum(axis=1) / pairs
    return area


def average_precision_of_counts(positives: Counts, negatives: Counts) -> npt.NDArray[np.float64]:
    """Average precision of each resample; arguments and result as those of `auroc_of_counts`."""
    gained = positives[:, ::-1]
    hits = np.cumsum(gained, axis=1)
    flagged = hits + np.cumsum(negatives[:, ::-1], axis=1)
    precision = hits / np.maximum(flagged, 1)
    area: npt.NDArray[np.float64] = (precision * gained).sum(axis=1) / hits[:, -1]
    return area


def bootstrap_interval(
    labels: BoolArray,
    scores: FloatArray,
    statistic: Statistic,
    *,
    resamples: int,
    confidence: float,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Percentile bootstrap interval; normal and anomalous images are resampled apart, each to its own number.

    Args:
        statistic: `auroc_of_counts` or `average_precision_of_counts`.
        resamples: number of draws; 0 for no interval.
        confidence: coverage; 0.95 takes the 2.5 % and 97.5 % points.
        seed: of the draws.

    Returns:
        (low, high), or None where a class is absent or no resamples were asked for.
    """
    if resamples == 0 or not _both_classes(labels):
        return None
    distinct, ranks = np.unique(scores, return_inverse=True)
    rng = np.random.default_rng(seed)
    rows = max(1, _CELLS_AT_ONCE // len(scores))
    values = []
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        positives = _draw(rng, ranks[labels], len(distinct), size)
        negatives = _draw(rng, ranks[~labels], len(distinct), size)
        values.append(statistic(positives, negatives))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(values), [tail, 1 - tail])
    return float(low), float(high)


def _draw(rng: np.random.Generator, ranks: npt.NDArray[np.intp], values: int, rows: int) -> Counts:
    drawn = ranks[rng.integers(0, len(ranks), (rows, len(ranks)))]
    cells = drawn + np.arange(rows)[:, None] * values
    return np.bincount(cells.ravel(), minlength=rows * values).reshape(rows, values)


def _both_classes(labels: BoolArray) -> bool:
    return bool(labels.any() and not labels.all())
