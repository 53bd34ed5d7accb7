from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from raysvq.evaluation.metrics import (
    auroc_of_counts,
    average_precision,
    average_precision_of_counts,
    image_auroc,
    roc_points,
)


def _images(seed: int, number: int, levels: int, offset: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.random(number) < 0.3
    labels[:2] = [True, False]
    return labels, offset + np.round(rng.random(number) * levels + labels * levels / 3)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 80), st.sampled_from([1, 4, 1000]))
def test_statistics_of_drawn_images_are_those_of_scikit_learn(seed: int, number: int, levels: int) -> None:
    labels, scores = _images(seed, number, levels)
    distinct, ranks = np.unique(scores, return_inverse=True)
    positives = np.bincount(ranks[labels], minlength=len(distinct))[None]
    negatives = np.bincount(ranks[~labels], minlength=len(distinct))[None]
    assert auroc_of_counts(positives, negatives)[0] == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)
    expected = average_precision_score(labels, scores)
    assert average_precision_of_counts(positives, negatives)[0] == pytest.approx(expected, abs=1e-9)
    assert image_auroc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)
    assert average_precision(labels, scores) == pytest.approx(expected, abs=1e-9)


def test_raw_distances_are_only_ranked() -> None:
    labels, scores = _images(3, 60, 1000)
    assert image_auroc(labels, scores + 1e6) == image_auroc(labels, scores)
    assert average_precision(labels, scores + 1e6) == average_precision(labels, scores)


@pytest.mark.parametrize("labels", [[], [True, True], [False, False]])
def test_without_both_classes_there_is_no_metric(labels: list[bool]) -> None:
    truth, scores = np.array(labels, dtype=bool), np.arange(len(labels), dtype=float)
    assert image_auroc(truth, scores) is None
    assert average_precision(truth, scores) is None
    assert roc_points(truth, scores) == ()


def test_roc_points_run_from_corner_to_corner_and_are_thinned() -> None:
    labels, scores = _images(5, 3000, 10_000)
    points = roc_points(labels, scores, limit=50)
    assert (points[0], points[-1], len(points)) == ((0, 0), (1, 1), 50)
    fpr, tpr, _ = roc_curve(labels, scores)
    assert set(points) <= set(zip(fpr, tpr, strict=True))
