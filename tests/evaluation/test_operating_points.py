from __future__ import annotations

import numpy as np
import pytest

from raysvq.evaluation.operating_points import operating_points
from raysvq.evaluation.result import Costs

UNKNOWN = Costs(None, None, None)


def _arrays(normal: list[float], anomalous: list[float]) -> tuple[np.ndarray, np.ndarray]:
    labels = np.array([False] * len(normal) + [True] * len(anomalous), dtype=bool)
    return labels, np.array(normal + anomalous, np.float32)


def test_each_threshold_flags_what_scores_as_much() -> None:
    points = operating_points(*_arrays([1, 2, 2, 3], [2, 4]), UNKNOWN)
    assert [(point.threshold, point.false_alarm_rate, point.recall) for point in points] == [
        (1, 1.0, 1.0),
        (2, 0.75, 1.0),
        (3, 0.25, 0.5),
        (4, 0.0, 0.5),
        (np.nextafter(np.float32(4), np.float32(9)), 0.0, 0.0),
    ]


def test_without_a_prior_rates_are_of_good_and_of_defective_parts() -> None:
    point = operating_points(*_arrays([1, 2, 2, 3], [2, 4]), UNKNOWN)[2]
    assert (point.false_alarms_per_1000, point.escapes_per_1000, point.cost) == (250, 500, None)


def test_with_a_prior_rates_and_money_are_of_all_parts() -> None:
    costs = Costs(defect_rate=0.02, miss=100.0, false_alarm=3.0)
    point = operating_points(*_arrays([1, 2, 2, 3], [2, 4]), costs)[2]
    assert point.false_alarms_per_1000 == pytest.approx(245)
    assert point.escapes_per_1000 == pytest.approx(10)
    assert point.cost == pytest.approx(10 * 100 + 245 * 3)


@pytest.mark.parametrize(("miss", "alarm"), [(None, 3.0), (100.0, None)])
def test_money_needs_both_costs(miss: float | None, alarm: float | None) -> None:
    points = operating_points(*_arrays([1, 2], [2, 4]), Costs(0.02, miss, alarm))
    assert all(point.cost is None and point.escapes_per_1000 is not None for point in points)


def test_a_missing_label_leaves_its_numbers_out() -> None:
    costs = Costs(0.02, 100.0, 3.0)
    only_good = operating_points(*_arrays([1, 2], []), costs)
    assert [(point.recall, point.escapes_per_1000, point.cost) for point in only_good] == [
        (None, None, None)
    ] * 3
    assert [point.false_alarm_rate for point in only_good] == [1, 0.5, 0]
    only_defective = operating_points(*_arrays([], [1]), costs)
    assert [(point.false_alarm_rate, point.recall) for point in only_defective] == [(None, 1), (None, 0)]
    assert operating_points(*_arrays([], []), costs) == ()


def test_the_threshold_of_the_model_is_among_them() -> None:
    points = operating_points(*_arrays([1, 2], [4]), UNKNOWN, 2.5)
    assert [point.threshold for point in points][2] == 2.5
    assert (points[2].false_alarm_rate, points[2].recall) == (0, 1)


def test_many_images_give_few_points_close_together_where_errors_change() -> None:
    rng = np.random.default_rng(0)
    normal, anomalous = rng.normal(0, 1, 5000), rng.normal(3, 1, 50)
    points = operating_points(*_arrays(normal.tolist(), anomalous.tolist()), UNKNOWN)
    assert 100 < len(points) <= 200
    assert (points[0].recall, points[0].false_alarm_rate) == (1, 1)
    assert (points[-1].recall, points[-1].false_alarm_rate) == (0, 0)
    rates = np.array([(point.false_alarm_rate, point.recall) for point in points])
    assert np.abs(np.diff(rates, axis=0)).sum(axis=1).max() < 0.04
