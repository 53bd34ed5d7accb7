"""By how much labelled outliers helped, as measured while training."""

from __future__ import annotations

from dataclasses import dataclass

from raysvq.data.training_set import Record


@dataclass(frozen=True)
class LabelGain(Record):
    """The same model without labels and with them, on images that neither had learnt from.

    A training that measures it stores what `plain` gives as `label_gain` in its summary.
    """

    without: float | None  # image AUROC of the label-free score
    with_labels: float | None  # of the score as it is
    weight: float | None  # of the labelled head in the score, 0 to 1; 0: labels are not used
    folds: int  # that it was measured with
