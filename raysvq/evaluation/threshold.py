"""The decision threshold ρ, fitted on validation scores. An image is anomalous when its score is >= ρ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from raysvq.errors import DataError
from raysvq.evaluation.metrics import BoolArray, FloatArray


@dataclass(frozen=True)
class Threshold:
    """A decision threshold, exact in float32, and the rule that gave it."""

    value: float
    rule: str


@dataclass(frozen=True)
class Confusion:
    """Numbers of images by label and decision; positive means anomalous."""

    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int

    @property
    def sensitivity(self) -> float | None:
        """Share of the anomalous images that were flagged."""
        return _share(self.true_positives, self.false_negatives)

    @property
    def specificity(self) -> float | None:
        """Share of the normal images that were passed."""
        return _share(self.true_negatives, self.false_positives)

    @property
    def precision(self) -> float | None:
        """Share of the flagged images that are anomalous."""
        return _share(self.true_positives, self.false_positives)


def fit_threshold(scores: FloatArray, labels: BoolArray, quantile: float) -> Threshold:
    """Choose ρ on validation images: by the rule of the paper where there are outliers, else by a quantile.

    Args:
        scores: (N,) image scores, converted to float32, the type of score rows.
        labels: (N,) True for anomalous.
        quantile: of the normal scores; used where no image is anomalous.

    Raises:
        DataError: no image is normal, or a score is not finite.
    """
    scores = np.asarray(scores, dtype=np.float32)
    if not np.isfinite(scores).all():
        raise DataError("validation scores: found values that are not finite; the model has diverged")
    normals = int((~labels).sum())
    outliers = int(labels.sum())
    if not normals:
        raise DataError(
            f"validation split: found 0 normal images among {len(labels)}, expected at least 1 "
            "to fit the threshold; raise split.validation_fraction"
        )
    if outliers:
        return Threshold(
            value=balanced_threshold(scores, labels),
            rule="|specificity - sensitivity| smallest on "
            f"{normals} normal and {outliers} anomalous validation images",
        )
    return Threshold(
        value=quantile_threshold(scores, quantile),
        rule=f"just above the {quantile:g} quantile of {normals} normal validation images",
    )


def balanced_threshold(scores: npt.NDArray[np.float32], labels: BoolArray) -> float:
    """The threshold at the ROC point where |(1 - FPR) - TPR| is smallest (paper, section IV).

    Of equally balanced points, the one with the larger TPR - FPR wins. All thresholds between two scores give
    the same point. The middle between them is taken, as it is farthest from both.
    """
    distinct, ranks = np.unique(scores, return_inverse=True)
    flagged_outliers = np.bincount(ranks[labels], minlength=len(distinct))[::-1].cumsum()[::-1]
    flagged_normals = np.bincount(ranks[~labels], minlength=len(distinct))[::-1].cumsum()[::-1]
    sensitivity = flagged_outliers / flagged_outliers[0]
    specificity = 1 - flagged_normals / flagged_normals[0]
    imbalance = np.abs(specificity - sensitivity).round(12)
    best = np.lexsort((-(sensitivity + specificity), imbalance))[0]
    return _middle(distinct[best - 1], distinct[best]) if best else float(distinct[0])


def quantile_threshold(scores: npt.NDArray[np.float32], quantile: float) -> float:
    """The float32 just above a quantile, so that a score equal to the quantile passes as normal."""
    return float(np.nextafter(np.float32(np.quantile(scores, quantile)), np.float32(np.inf)))


def confusion(labels: BoolArray, flagged: BoolArray) -> Confusion:
    """Count images by label and decision; for a threshold pass `scores >= threshold`."""
    return Confusion(
        true_positives=int((labels & flagged).sum()),
        false_positives=int((~labels & flagged).sum()),
        true_negatives=int((~labels & ~flagged).sum()),
        false_negatives=int((labels & ~flagged).sum()),
    )


def _middle(low: np.float32, high: np.float32) -> float:
    middle = np.float32((float(low) + float(high)) / 2)
    return float(middle if middle > low else high)


def _share(part: int, rest: int) -> float | None:
    return part / (part + rest) if part + rest else None
