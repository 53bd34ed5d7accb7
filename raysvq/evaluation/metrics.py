"""Ranking metrics of images and tiles.

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
Counts = npt.NDArray[np.int64] | npt.NDArray[np.float64]  # whole numbers
Statistic = Callable[[Counts, Counts], npt.NDArray[np.float64]]


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


def recall_of_counts(positives: Counts, negatives: Counts, rate: float) -> npt.NDArray[np.float64]:
    """Recall of each resample at the best threshold that flags at most `rate` of its normal images.

    Arguments and result as those of `auroc_of_counts`.
    """
    hits = np.cumsum(positives[:, ::-1], axis=1)
    alarms = np.cumsum(negatives[:, ::-1], axis=1)
    allowed = alarms <= rate * alarms[:, -1:] + 1e-9
    recall: npt.NDArray[np.float64] = np.where(allowed, hits, 0).max(axis=1) / hits[:, -1]
    return recall


def _both_classes(labels: BoolArray) -> bool:
    return bool(labels.any() and not labels.all())
