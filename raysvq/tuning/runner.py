"""Ray Tune around the trials: as many at once as fit, weak ones stopped, lost ones run again."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ray import tune
from ray.tune import Callback, FailureConfig, RunConfig, TuneConfig, Tuner
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from raysvq.relay import Voice
from raysvq.settings import Settings
from raysvq.storage import filesystem
from raysvq.tuning.course import LOOKS, told_within
from raysvq.tuning.leaderboard import short
from raysvq.tuning.space import Point
from raysvq.tuning.trial import Common, run_trial

_REDUCTION = 3  # of the trials at a look, one in so many goes on
_RETRIES = 3  # of a trial whose worker or node was lost


def run_trials(
    common: Common,
    prepared: Mapping[str, Sequence[Any]],
    points: Sequence[Point],
    resources: dict[str, float],
    slots: int,
    state: tuple[str, str],
    voice: Voice,
) -> list[tune.Result]:
    """Run all trials, or what is left of them.

    Args:
        resources: of a trial, as Ray takes them.
        state: folder and name of what Ray Tune keeps, to go on from.
    """
    folder, name = state
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # Ray Tune's tables; a line a trial says more
    trainable = tune.with_resources(
        tune.with_parameters(run_trial, common=common, prepared=prepared), resources
    )
    fs, path = filesystem(folder)
    where = f"{path}/{name}"
    if Tuner.can_restore(where, storage_filesystem=fs):
        voice.say("going on with a sweep that was interrupted")
        tuner = Tuner.restore(where, trainable, resume_errored=False, storage_filesystem=fs)
    else:
        tuner = Tuner(
            trainable,
            param_space={"number": tune.grid_search(list(range(len(points))))},
            tune_config=TuneConfig(
                metric="figure",
                mode="max",
                scheduler=_scheduler(common.plans[0].settings),
                max_concurrent_trials=slots,
            ),
            run_config=RunConfig(
                name=name,
                storage_path=path,
                storage_filesystem=fs,
                failure_config=FailureConfig(max_failures=_RETRIES),
                callbacks=[_Progress(points)],
                verbose=0,
            ),
        )
    return list(tuner.fit())  # type: ignore[call-overload]  # a grid of results can be iterated


def _scheduler(settings: Settings) -> TrialScheduler | None:
    tuning = settings.tuning
    looks = LOOKS if told_within(settings) else tuning.repeats
    if not tuning.stop_early or looks == 1:
        return None
    return _KeepFirst(time_attr="look", max_t=looks, grace_period=1, reduction_factor=_REDUCTION)


class _KeepFirst(AsyncHyperBandScheduler):
    """ASHA (Li et al. 2020) that never stops trial 0: the others are measured against it."""

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        decision = super().on_trial_result(tune_controller, trial, result)
        return TrialScheduler.CONTINUE if trial.config["number"] == 0 else decision


class _Progress(Callback):
    """A line for each trial that ends."""

    def __init__(self, points: Sequence[Point]) -> None:
        self.points = points

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        found = trial.last_result
        self._say(trials, trial, f"{found.get('figure', 0):.4f}  {found.get('seconds', 0):.0f} s")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._say(trials, trial, "failed")

    def _say(self, trials: list[Any], trial: Any, outcome: str) -> None:
        ended = sum(one.is_finished() or one is trial for one in trials)
        number = trial.config["number"]
        what = (
            "  ".join(f"{name}={short(value)}" for name, value in self.points[number].items()) or "defaults"
        )
        print(f"{ended}/{len(self.points)}  trial {number}  {what}  {outcome}", flush=True)
