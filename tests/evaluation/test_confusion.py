from __future__ import annotations

import numpy as np

from raysvq.evaluation.confusion import Confusion, confusion


def test_confusion_counts_and_shares() -> None:
    labels = np.array([True, True, True, False, False])
    flagged = np.array([True, True, False, True, False])
    counted = confusion(labels, flagged)
    assert counted == Confusion(2, 1, 1, 1)
    assert (counted.sensitivity, counted.specificity, counted.precision) == (2 / 3, 1 / 2, 2 / 3)
    assert Confusion(0, 0, 3, 0).sensitivity is None
