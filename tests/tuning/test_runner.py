"""Which trials are stopped early."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.schedulers import TrialScheduler

from raysvq.settings import Settings
from raysvq.tuning.runner import KeepFirst, scheduler_for

Build = Callable[..., Settings]


def _told(*figures: float) -> dict[str, Any]:
    """Of a record: looks at these figures, the last of them whole."""
    looks = [(look, look / len(figures), figure) for look, figure in enumerate(figures, 1)]
    return {"looks": looks, "figure": figures[-1]}


def _trial(scheduler: KeepFirst, number: int) -> Any:
    trial = SimpleNamespace(trial_id=f"t{number}", config={"number": number})
    scheduler.on_trial_add(None, trial)  # type: ignore[arg-type]
    return trial


def _decisions(scheduler: KeepFirst, number: int, *figures: float) -> list[str]:
    trial = _trial(scheduler, number)
    return [
        scheduler.on_trial_result(None, trial, {"look": look, "figure": figure})
        for look, figure in enumerate(figures, 1)
    ]


def test_a_better_trial_goes_on_to_its_end_and_the_first_whatever_it_does(small: Build) -> None:
    scheduler = scheduler_for(small())
    assert scheduler is not None
    go, stop = TrialScheduler.CONTINUE, TrialScheduler.STOP
    assert _decisions(scheduler, 1, *[0.6] * 6) == [go] * 5 + [stop], "at the last look it has ended"
    assert _decisions(scheduler, 2, *[0.9] * 6) == [go] * 5 + [stop]
    assert _decisions(scheduler, 3, 0.5)[0] == stop
    assert _decisions(scheduler, 0, *[0.1] * 6) == [go] * 6


@pytest.mark.parametrize("looks", [2, 3, 6])
def test_trials_are_measured_against_those_that_ended_before(looks: int) -> None:
    scheduler = KeepFirst(looks, 2)
    for number in range(4):
        scheduler.remember(number, _told(*[0.8] * looks))
    assert _decisions(scheduler, 4, 0.7)[0] == TrialScheduler.STOP
    assert _decisions(scheduler, 5, 0.9)[0] == TrialScheduler.CONTINUE


def test_nothing_is_stopped_where_there_is_one_look_or_none_is_wanted(small: Build) -> None:
    base = small()
    for change in ({"stop_early": False}, {"stop_early": False, "repeats": 3}):
        assert (
            scheduler_for(base.model_copy(update={"tuning": base.tuning.model_copy(update=change)})) is None
        )
    assert scheduler_for(small(training={"workers": 2, "batch_size": 32})) is None
