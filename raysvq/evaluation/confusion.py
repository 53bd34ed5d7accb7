"""Numbers of right and wrong decisions."""

from __future__ import annotations

from dataclasses import dataclass

from raysvq.evaluation.metrics import BoolArray


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


def confusion(labels: BoolArray, flagged: BoolArray) -> Confusion:
    """Count images by label and decision; for a threshold pass `scores >= threshold`."""
    return Confusion(
        true_positives=int((labels & flagged).sum()),
        false_positives=int((~labels & flagged).sum()),
        true_negatives=int((~labels & ~flagged).sum()),
        false_negatives=int((labels & ~flagged).sum()),
    )


def _share(part: int, rest: int) -> float | None:
    return part / (part + rest) if part + rest else None
