from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_curve

from raysvq.errors import DataError
from raysvq.evaluation.threshold import Confusion, confusion, fit_threshold


def _at(threshold: float, scores: np.ndarray, labels: np.ndarray) -> Confusion:
    return confusion(labels, scores.astype(np.float32) >= np.float32(threshold))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 60), st.sampled_from([2, 10, 10_000]))
def test_no_roc_point_is_better_balanced(seed: int, number: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.random(number) < 0.3
    labels[:2] = [True, False]
    scores = np.round(rng.random(number) * levels + labels * levels / 3)
    found = _at(fit_threshold(scores, labels, 0.99).value, scores, labels)
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    assert found.sensitivity is not None
    assert found.specificity is not None
    balance = abs(found.specificity - found.sensitivity)
    assert balance == pytest.approx(np.abs((1 - fpr) - tpr).min(), abs=1e-9)


def test_threshold_stands_midway_between_separate_classes() -> None:
    labels = np.array([False, False, True, True])
    fitted = fit_threshold(np.array([1.0, 2.0, 6.0, 9.0]), labels, 0.99)
    assert fitted.value == 4.0
    assert fitted.rule == (
        "|specificity - sensitivity| smallest on 2 normal and 2 anomalous validation images"
    )


def test_neighbouring_floats_stay_apart() -> None:
    low = np.float32(1e6)
    high = np.nextafter(low, np.float32(np.inf))
    fitted = fit_threshold(np.array([low, high]), np.array([False, True]), 0.99)
    assert low < fitted.value <= high
    assert np.float32(fitted.value) == fitted.value


def test_without_outliers_the_quantile_of_the_normals_decides() -> None:
    scores = np.arange(1000, dtype=float)
    fitted = fit_threshold(scores, np.zeros(1000, bool), 0.99)
    assert fitted.value == pytest.approx(np.quantile(scores, 0.99), rel=1e-6)
    assert (scores >= fitted.value).sum() == 10
    assert fitted.rule == "just above the 0.99 quantile of 1000 normal validation images"


def test_equal_normals_all_pass() -> None:
    scores = np.full(20, 3.25)
    assert not (scores >= fit_threshold(scores, np.zeros(20, bool), 0.99).value).any()


def test_confusion_counts_and_shares() -> None:
    labels = np.array([True, True, True, False, False])
    flagged = np.array([True, True, False, True, False])
    counted = confusion(labels, flagged)
    assert counted == Confusion(2, 1, 1, 1)
    assert (counted.sensitivity, counted.specificity, counted.precision) == (2 / 3, 1 / 2, 2 / 3)
    assert Confusion(0, 0, 3, 0).sensitivity is None


def test_impossible_validation_sets_are_named() -> None:
    with pytest.raises(DataError, match=r"found 0 normal images among 2.*validation_fraction"):
        fit_threshold(np.array([1.0, 2.0]), np.array([True, True]), 0.99)
    with pytest.raises(DataError, match="not finite"):
        fit_threshold(np.array([1.0, np.nan]), np.array([True, False]), 0.99)
