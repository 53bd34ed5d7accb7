from __future__ import annotations

import time

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from raysvq.evaluation.paired import (
    RATES,
    bootstrap_differences,
    compare_aurocs,
    compare_decisions,
    recall_at,
)


def _models(seed: int, normals: int, outliers: int, better: float = 0.0) -> tuple[np.ndarray, tuple]:
    """Labels, and scores of two models that see much of the same."""
    rng = np.random.default_rng(seed)
    labels = np.arange(normals + outliers) >= normals
    seen = rng.normal(size=len(labels)) + labels
    return labels, tuple(seen + rng.normal(0, 0.6, len(labels)) + gain * labels for gain in (0, better))


def test_areas_are_those_of_scikit_learn_with_ties() -> None:
    labels, scores = _models(0, 40, 20, 0.5)
    scores = tuple(np.round(one * 2) for one in scores)
    found = compare_aurocs(labels, scores, 0.95)
    assert (found.a, found.b) == pytest.approx([roc_auc_score(labels, one) for one in scores])


def test_the_variance_is_that_of_the_definition_by_pairs() -> None:
    labels, scores = _models(1, 30, 12, 0.4)
    parts = []
    for one in scores:  # the kernel of every pair, averaged over either side
        psi = np.heaviside(one[labels][:, None] - one[~labels][None], 0.5)
        parts.append((psi.mean(axis=1), psi.mean(axis=0)))
    error = np.sqrt(sum((b - a).var(ddof=1) / len(a) for a, b in zip(*parts, strict=True)))
    found = compare_aurocs(labels, scores, 0.95)
    assert (found.high - found.low) / 2 == pytest.approx(1.959964 * error)  # type: ignore[operator]


def test_p_values_of_equal_models_are_uniform_and_small_ones_show_a_better_model() -> None:
    equal = [compare_aurocs(*_models(seed, 60, 40), 0.95).p for seed in range(400)]
    assert np.mean([p < 0.05 for p in equal]) == pytest.approx(0.05, abs=0.035)  # type: ignore[operator]
    better = [compare_aurocs(*_models(seed, 60, 40, 1.0), 0.95).p for seed in range(100)]
    assert np.mean([p < 0.05 for p in better]) > 0.9  # type: ignore[operator]


def test_a_model_does_not_differ_from_itself() -> None:
    labels, (scores, _) = _models(2, 20, 10)
    found = compare_aurocs(labels, (scores, scores * 3 + 1), 0.95)
    assert (found.low, found.high, found.p) == (0, 0, 1)


def test_one_image_of_a_class_gives_areas_without_a_test() -> None:
    labels = np.array([False, True, True])
    found = compare_aurocs(labels, (np.array([1.0, 2, 3]), np.array([4.0, 2, 3])), 0.95)
    assert (found.a, found.b, found.low, found.high, found.p) == (1, 0, None, None, None)


def test_only_images_on_which_models_differ_decide() -> None:
    a = np.array([True] * 8 + [False] * 2 + [True] * 90)
    b = np.array([False] * 8 + [True] * 2 + [True] * 90)
    found = compare_decisions(a, b)
    assert (found.images, found.flagged_a, found.flagged_b, found.only_a, found.only_b) == (100, 98, 92, 8, 2)
    assert found.p == pytest.approx(2 * sum([45, 10, 1]) / 2**10)  # binomial(10, 1/2), both tails


@pytest.mark.parametrize("number", [0, 3])
def test_models_that_decide_alike_have_a_p_of_one(number: int) -> None:
    same = np.ones(number, dtype=bool)
    assert compare_decisions(same, same).p == 1


def test_recall_is_at_the_best_threshold_within_the_rate() -> None:
    labels = np.array([False] * 10 + [True] * 4)
    scores = np.array([*range(10), 8.5, 9.5, 7.5, 9])
    assert recall_at(labels, scores, 0.0) == 0.25
    assert recall_at(labels, scores, 0.1) == 0.75  # 9 ties with a normal image: both or none
    assert recall_at(labels, scores, 0.19) == 0.75
    assert recall_at(labels, scores, 0.2) == 1.0 == recall_at(labels, scores, 1.0)


def test_differences_are_those_of_plain_paired_draws_of_groups() -> None:
    labels, scores = _models(4, 60, 40, 0.6)
    numbers = np.concatenate([np.arange(60) // 3, 20 + np.arange(40) // 2])
    found = bootstrap_differences(
        labels, scores, [f"part {number}" for number in numbers], resamples=3000, confidence=0.9
    )
    rng = np.random.default_rng(9)
    plain = []
    for _ in range(600):
        parts = np.concatenate([rng.integers(0, 20, 20), rng.integers(20, 40, 20)])
        drawn = np.concatenate([np.flatnonzero(numbers == part) for part in parts])
        values = []
        for one in scores:
            truth, score = labels[drawn], one[drawn]
            values.append([roc_auc_score(truth, score), *(recall_at(truth, score, rate) for rate in RATES)])
        plain.append(np.subtract(values[1], values[0]))
    assert found is not None
    assert np.array(found[0]) == pytest.approx(np.quantile(plain, [0.05, 0.95], axis=0)[:, 0], abs=0.015)
    for at in (1, 2, 3):
        assert np.array(found[at]) == pytest.approx(
            np.quantile(plain, [0.05, 0.95], axis=0)[:, at], abs=0.051
        )


def test_without_two_groups_of_each_class_there_is_no_interval() -> None:
    labels, scores = _models(4, 5, 5)
    one_part = ["part"] * 5 + [None] * 5
    assert bootstrap_differences(labels, scores, one_part, resamples=100, confidence=0.9) is None
    assert bootstrap_differences(labels, scores, [None] * 10, resamples=0, confidence=0.9) is None


def test_ten_thousand_images_take_seconds() -> None:
    labels, scores = _models(5, 8000, 2000, 0.1)
    start = time.perf_counter()
    compare_aurocs(labels, scores, 0.95)
    bootstrap_differences(labels, scores, [None] * len(labels), resamples=1000, confidence=0.95)
    assert time.perf_counter() - start < 20
