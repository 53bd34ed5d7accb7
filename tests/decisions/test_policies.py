"""Policies that weigh outliers: the paper's, a recall, a cost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_curve

from raysvq.decisions.calibration import float32_from
from raysvq.decisions.policies import Sample, balanced_threshold, choose_threshold, expected_cost
from raysvq.errors import DataError
from raysvq.settings import DecisionSettings

COST = DecisionSettings(policy="cost", miss_cost=100, false_alarm_cost=1, defect_rate=0.05)


def _sample(scores: list[float] | np.ndarray) -> Sample:
    values = np.asarray(scores, np.float32).astype(np.float64)
    return Sample(values, np.ones(len(values)), len(values))


def _draw(seed: int, number: int, levels: int) -> tuple[Sample, Sample]:
    rng = np.random.default_rng(seed)
    labels = rng.random(number) < 0.3
    labels[:2] = [True, False]
    scores = np.round(rng.random(number) * levels + labels * levels / 3)
    return _sample(scores[~labels]), _sample(scores[labels])


DRAWS = (st.integers(0, 10_000), st.integers(2, 60), st.sampled_from([2, 10, 10_000]))


@settings(max_examples=100, deadline=None)
@given(*DRAWS)
def test_no_roc_point_is_better_balanced(seed: int, number: int, levels: int) -> None:
    normals, outliers = _draw(seed, number, levels)
    threshold = float32_from(balanced_threshold(normals, outliers))
    balance = abs((normals.scores < threshold).mean() - (outliers.scores >= threshold).mean())
    labels = np.repeat([False, True], [normals.units, outliers.units])
    scores = np.concatenate([normals.scores, outliers.scores])
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    assert balance == pytest.approx(np.abs((1 - fpr) - tpr).min(), abs=1e-9)


def test_threshold_stands_midway_between_separate_classes() -> None:
    assert balanced_threshold(_sample([1.0, 2.0]), _sample([6.0, 9.0])) == 4.0


def test_neighbouring_floats_stay_apart() -> None:
    low = np.float32(1e6)
    high = np.nextafter(low, np.float32(np.inf))
    assert low < float32_from(balanced_threshold(_sample([low]), _sample([high]))) <= high


@settings(max_examples=100, deadline=None)
@given(*DRAWS, st.sampled_from([0.1, 1.0, 30.0, 1000.0]))
def test_no_threshold_costs_less(seed: int, number: int, levels: int, miss_cost: float) -> None:
    normals, outliers = _draw(seed, number, levels)
    given = COST.model_copy(update={"miss_cost": miss_cost})

    def cost(threshold: float) -> tuple[float, int]:
        alarms = (normals.scores >= threshold).sum()
        misses = (outliers.scores < threshold).sum()
        (found,) = expected_cost(np.array([alarms]), np.array([misses]), normals.units, outliers.units, given)
        return round(float(found), 9), int(alarms)

    every = np.concatenate([normals.scores, outliers.scores, [1e9]])
    assert cost(choose_threshold(normals, outliers, given)) == min(cost(threshold) for threshold in every)


@pytest.mark.parametrize(
    ("known", "recall", "place"), [(19, 0.95, 0), (20, 0.95, 0), (39, 0.95, 1), (100, 0.9, 9)]
)
def test_a_recall_is_promised_by_the_lowest_outliers(known: int, recall: float, place: int) -> None:
    outliers = _sample(np.arange(known))
    given = DecisionSettings(policy="min_recall", min_recall=recall)
    assert choose_threshold(_sample([0.5]), outliers, given) == place


def test_realised_recall_keeps_its_promise() -> None:
    rng = np.random.default_rng(5)
    given = DecisionSettings(policy="min_recall", min_recall=0.9)
    found = [1 - choose_threshold(_sample([0.5]), _sample(rng.random(30)), given) for _ in range(3000)]
    assert np.mean(found) + 0.004 >= 0.9
    assert np.mean(found) < 0.95


@pytest.mark.parametrize("policy", ["paper", "min_recall", "cost"])
def test_a_policy_without_the_outliers_it_needs_is_refused(policy: str) -> None:
    given = COST.model_copy(update={"policy": policy})
    with pytest.raises(DataError, match=f"decision.policy`: {policy} needs labelled anomalous images"):
        choose_threshold(_sample([1.0]), _sample([]), given)


def test_outliers_do_not_move_a_rate_of_normals() -> None:
    given = DecisionSettings(max_false_alarm_rate=0.1)
    normals = _sample(np.arange(100))
    thresholds = {choose_threshold(normals, _sample(some), given) for some in ([], [3.0], [95.0, 1e9])}
    assert thresholds == {float(np.nextafter(90.0, np.inf))}
