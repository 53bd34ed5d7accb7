"""By how much labelled outliers helped, as measured while training."""

from __future__ import annotations

from dataclasses import dataclass

from raysvq.data.training_set import Record


@dataclass(frozen=True)
class LabelGain(Record):
    """The same models without labels and with them, on images that they had not learnt from."""

    without: float  # image AUROC of the label-free part of the score
    with_labels: float  # of the score as it is
    anomalous: int  # images, each scored by a model that learnt from other labelled outliers
    normal: int
    folds: int  # that the images were cut into
