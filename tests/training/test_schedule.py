"""The pace of a training run."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from raysvq.settings import Settings, TrainingSettings
from raysvq.training.schedule import best_step, learning_rate, next_stop, out_of_patience

Build = Callable[..., Settings]


def test_learning_rate_warms_up_peaks_and_ends_at_a_twentieth() -> None:
    settings = TrainingSettings(steps=1000, learning_rate=0.002)
    rates = [learning_rate(step, settings) for step in range(1000)]
    assert 0 < rates[0] < 0.002 / 10
    assert rates[20] == pytest.approx(0.002)
    assert max(rates) <= 0.002 * (1 + 1e-9)
    assert rates[:20] == sorted(rates[:20])
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert rates[-1] == pytest.approx(0.0001, rel=1e-2)


@pytest.mark.parametrize("steps", [1, 2, 49, 50])
def test_learning_rate_of_a_short_run_is_never_zero(steps: int) -> None:
    settings = TrainingSettings(steps=steps, learning_rate=1.0)
    assert all(0.05 <= learning_rate(step, settings) <= 1 for step in range(steps))


def test_stops_at_every_validation_and_at_the_end(small: Build) -> None:
    settings = small(training={"steps": 25, "validate_every": 10})
    stops, step = [], 0
    while step < 25:
        step = next_stop(step, settings.training)
        stops.append(step)
    assert stops == [10, 20, 25]
    assert next_stop(13, settings.training) == 20


def test_the_best_of_equals_is_the_later_one_and_without_outliers_the_last() -> None:
    rows = [
        {"step": step, "validation_auroc": auroc} for step, auroc in [(1, 0.5), (2, 0.9), (3, 0.9), (4, 0.8)]
    ]
    assert best_step(rows) == 3
    assert best_step([row | {"validation_auroc": None} for row in rows]) == 4


@pytest.mark.parametrize(
    ("aurocs", "patience", "over"),
    [
        ([], 1, False),
        ([0.5], 1, False),
        ([0.5, 0.6], 1, False),
        ([0.6, 0.5], 1, True),
        ([0.6, 0.6], 1, True),
        ([0.6, 0.5], 2, False),
        ([0.6, 0.5, 0.55], 2, True),
        ([0.6, 0.5, 0.7], 2, False),
        ([0.6, 0.5, 0.4, 0.3], None, False),
        ([None, None, None], 1, False),
        ([0.6, None, None], 1, False),
        ([0.6, None, 0.5], 1, True),
    ],
)
def test_patience_ends_after_validations_without_a_better_one(
    aurocs: list[float | None], patience: int | None, over: bool
) -> None:
    rows = [{"step": step, "validation_auroc": auroc} for step, auroc in enumerate(aurocs)]
    assert out_of_patience(rows, patience) == over
