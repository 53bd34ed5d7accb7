"""What a trial reports, its value, and which trials are stopped early."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.schedulers import TrialScheduler

from raysvq.settings import Settings
from raysvq.tuning.early_stopping import Asha, LearningCurve, scheduler_for

Build = Callable[..., Settings]


def _curve(small: Build, tuning: dict[str, object], **training: int) -> LearningCurve:
    settings = small(training=training)
    return LearningCurve(settings.model_copy(update={"tuning": settings.tuning.model_copy(update=tuning)}))


def _reported(curve: LearningCurve, *values: float) -> list[dict[str, Any]]:
    """The results of a training whose model is chosen by the same value."""
    reported = [curve.add_validation(value, value) for value in values]
    return [*(row for row in reported if row), curve.end_training(1.0)]


def test_one_training_reports_each_of_six_rungs(small: Build) -> None:
    curve = _curve(small, {}, steps=60, validate_every=60)
    assert curve.validate_every == 10
    reported = _reported(curve, 0.5, 0.9, 0.7, 0.6, 0.6, 0.65)
    assert [row["rung"] for row in reported] == [1, 2, 3, 4, 5, 6]
    assert [row["value"] for row in reported] == [0.5, 0.9, 0.7, 0.6, 0.6, 0.65], "only the end counts"
    assert reported[-1]["curve"][0] == (1, pytest.approx(1 / 6), 0.5)


@pytest.mark.parametrize(("steps", "own"), [(3000, 250), (15000, 500), (1000, 400), (10, 3), (7, 1), (3, 3)])
def test_a_training_that_validates_often_or_seldom_has_six_rungs_at_most(
    small: Build, steps: int, own: int
) -> None:
    curve = _curve(small, {}, steps=steps, validate_every=own)
    reported = _reported(curve, *([0.5] * -(-steps // curve.validate_every)))
    rungs = [row["rung"] for row in reported]
    assert rungs == sorted(set(rungs))
    assert rungs[-1] == 6
    assert len(rungs) == min(6, steps)
    for rung, share, _ in reported[-1]["curve"]:
        assert rung / 6 <= share < (rung + 1) / 6


def test_a_training_that_keeps_its_best_checkpoint_is_worth_that(small: Build) -> None:
    curve = _curve(small, {}, steps=60, validate_every=20)
    assert [row["value"] for row in _reported(curve, 0.99, 0.8, 0.99, 0.7, 0.99, 0.75)] == [0.99] + [0.8] * 5


def test_the_value_is_that_of_the_model_kept(small: Build) -> None:
    curve = _curve(small, {}, steps=60, validate_every=30)
    for value, auroc in ((0.9, 0.0), (0.9, 0.0), (0.2, 0.8), (0.9, 0.0), (0.9, 0.0), (0.5, 0.7)):
        curve.add_validation(value, auroc)
    assert curve.end_training(1.0)["value"] == 0.2
    unlabelled = _curve(small, {}, steps=60, validate_every=30)
    for value in (0.9, 0.9, 0.9, 0.9, 0.9, 0.5):
        unlabelled.add_validation(value, None)
    assert unlabelled.end_training(1.0)["value"] == 0.5, "without outliers the last is kept"


@pytest.mark.parametrize(
    ("steps", "own", "kept"),
    [
        (60, 25, [25, 50, 60]),
        (700, 175, [175, 350, 525, 700]),
        (900, 233, [233, 466, 699, 900]),
        (60, 61, [60]),
    ],
)
def test_a_model_is_kept_where_the_training_would_have_validated_by_itself(
    small: Build, steps: int, own: int, kept: list[int]
) -> None:
    curve = _curve(small, {}, steps=steps, validate_every=own)
    keeps = []
    for number in range(-(-steps // curve.validate_every)):
        curve.add_validation(0.5, 0.5)
        if curve.selectable:
            keeps.append(min((number + 1) * curve.validate_every, steps))
    assert keeps == kept


def test_a_training_out_of_patience_ends_at_the_last_rung(small: Build) -> None:
    reported = _reported(_curve(small, {}, steps=60, validate_every=10), 0.9, 0.5, 0.5)
    assert [row["rung"] for row in reported] == [1, 2, 3, 6]
    assert reported[-1]["value"] == 0.9


def test_repeats_tell_the_mean_at_the_end_of_each(small: Build) -> None:
    curve = _curve(small, {"repeats": 2}, steps=60, validate_every=30)
    assert [(row["rung"], row["value"]) for row in _reported(curve, 0.5, 0.4)] == [(1, 0.5)]
    reported = _reported(curve, 0.6, 1.0)
    assert [(row["rung"], row["value"], row["values"]) for row in reported] == [(2, 0.75, [0.5, 1.0])]
    assert reported[0]["seconds"] == pytest.approx(2.0, abs=0.2)


def test_what_fails_is_worth_nothing_and_ends_at_the_last_rung(small: Build) -> None:
    curve = _curve(small, {}, steps=60, validate_every=60)
    curve.add_validation(0.9, 0.9)
    reported = curve.fail("ran away")
    assert (reported["rung"], reported["value"], reported["error"]) == (6, 0.0, "ran away")
    assert len(reported["curve"]) == 1


def _result(*values: float) -> dict[str, Any]:
    """Of a trial whose learning curve has these values, the last at its end."""
    curve = [(rung, rung / len(values), value) for rung, value in enumerate(values, 1)]
    return {"curve": curve, "value": values[-1]}


def _trial(scheduler: Asha, number: int) -> Any:
    trial = SimpleNamespace(trial_id=f"t{number}", config={"number": number})
    scheduler.on_trial_add(None, trial)  # type: ignore[arg-type]
    return trial


def _decisions(scheduler: Asha, number: int, *values: float) -> list[str]:
    trial = _trial(scheduler, number)
    return [
        scheduler.on_trial_result(None, trial, {"rung": rung, "value": value})
        for rung, value in enumerate(values, 1)
    ]


def test_a_better_trial_goes_on_to_its_end_and_the_first_whatever_it_does(small: Build) -> None:
    scheduler = scheduler_for(small())
    assert scheduler is not None
    go, stop = TrialScheduler.CONTINUE, TrialScheduler.STOP
    assert _decisions(scheduler, 1, *[0.6] * 6) == [go] * 5 + [stop], "at the last rung it has ended"
    assert _decisions(scheduler, 2, *[0.9] * 6) == [go] * 5 + [stop]
    assert _decisions(scheduler, 3, 0.5)[0] == stop
    assert _decisions(scheduler, 0, *[0.1] * 6) == [go] * 6


@pytest.mark.parametrize("rungs", [2, 3, 6])
def test_trials_are_measured_against_those_that_ended_before(rungs: int) -> None:
    scheduler = Asha(rungs, 2)
    for number in range(4):
        scheduler.add_ended(number, _result(*[0.8] * rungs))
    assert _decisions(scheduler, 4, 0.7)[0] == TrialScheduler.STOP
    assert _decisions(scheduler, 5, 0.9)[0] == TrialScheduler.CONTINUE


def test_nothing_is_stopped_where_there_is_one_rung_or_none_is_wanted(small: Build) -> None:
    base = small()
    for change in ({"early_stopping": False}, {"early_stopping": False, "repeats": 3}):
        assert (
            scheduler_for(base.model_copy(update={"tuning": base.tuning.model_copy(update=change)})) is None
        )
    assert scheduler_for(small(training={"workers": 2, "batch_size": 32})) is None
