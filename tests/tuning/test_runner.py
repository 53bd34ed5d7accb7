"""Which trials are stopped early."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.schedulers import TrialScheduler

from raysvq.errors import StorageError
from raysvq.settings import Settings
from raysvq.tuning.kept import Kept
from raysvq.tuning.records import Records
from raysvq.tuning.runner import KeepFirst, _Watch, scheduler_for
from raysvq.tuning.trial import Common, Plan

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


def test_of_models_those_of_the_defaults_and_of_the_best_stay(small: Build, tmp_path: Path) -> None:
    def ended(figure: float, **more: float) -> dict[str, Any]:
        told = {"look": 6, "figure": figure, "figures": [figure], "looks": [], "seconds": 1.0, "problem": ""}
        return told | {"train_s": 1.0, **more}

    def models() -> list[int]:
        return sorted(int(path.name.removeprefix("model-")) for path in tmp_path.glob("model-*"))

    def end(number: int, told: dict[str, Any]) -> None:
        Path(kept.place(number)).mkdir()
        trial = SimpleNamespace(last_result=told, config={"number": number})
        watch.on_trial_complete(0, [], trial)

    kept, points = (
        Kept(str(tmp_path)),
        [{}] + [{"objective.eta": 0.5 + number / 20} for number in range(1, 7)],
    )
    plans = [Plan(small(tuning={"most_image_ms": 9}), ("data",)) for _ in points]
    common = Common(plans, "image_auroc", ["m"], Records(str(tmp_path)), kept, plans[0].settings.storage)
    for number in (1, 2):  # of a sweep that was killed before it could remove one
        Path(kept.place(number)).mkdir()
    watch = _Watch(points, common, {1: ended(0.7), 2: ended(0.6)}, Event())
    assert models() == [1]
    end(0, ended(0.5))
    end(3, ended(0.6))
    assert models() == [0, 1]
    end(4, ended(0.8))
    assert models() == [0, 4]
    end(5, ended(0.9, image_ms=10.0))
    assert models() == [0, 4], "over a limit"
    end(6, {name: value for name, value in ended(0.9).items() if name != "train_s"})
    assert models() == [0, 4], "stopped"
    assert Records(str(tmp_path)).find(6) is not None


def test_a_model_that_cannot_be_removed_ends_no_sweep(
    small: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise StorageError("the store is away")

    monkeypatch.setattr(Kept, "remove", refuse)
    plans = [Plan(small(), ("data",)) for _ in range(2)]
    common = Common(
        plans, "image_auroc", ["m"], Records(str(tmp_path)), Kept(str(tmp_path)), plans[0].settings.storage
    )
    watch = _Watch([{}, {"objective.eta": 0.6}], common, {}, Event())
    told = {"figure": 0.5, "figures": [0.5], "looks": [], "seconds": 1.0, "problem": "", "train_s": 1.0}
    for number in range(2):
        watch.on_trial_complete(0, [], SimpleNamespace(last_result=told, config={"number": number}))
    assert watch.ended == 2


def test_nothing_is_stopped_where_there_is_one_look_or_none_is_wanted(small: Build) -> None:
    base = small()
    for change in ({"stop_early": False}, {"stop_early": False, "repeats": 3}):
        assert (
            scheduler_for(base.model_copy(update={"tuning": base.tuning.model_copy(update=change)})) is None
        )
    assert scheduler_for(small(training={"workers": 2, "batch_size": 32})) is None
