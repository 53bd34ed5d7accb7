"""Ray Tune around the trials: as many at once as fit, weak ones stopped, lost ones run again."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.fs as pafs
from ray import tune
from ray.tune import Callback, FailureConfig, RunConfig, TuneConfig, Tuner
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from raysvq import log
from raysvq.errors import StorageError
from raysvq.runtime.stall import stall_reporter
from raysvq.settings import Settings
from raysvq.tuning.course import all_looks, told_within
from raysvq.tuning.leaderboard import Trial, ranked, short, trial_of
from raysvq.tuning.space import Point
from raysvq.tuning.trial import Common, run_trial

_RETRIES = 3  # of a trial whose worker or node was lost
_QUIET_S = 600.0  # trainings whose trials tell only how they end can take minutes


def run_trials(
    common: Common,
    prepared: Mapping[str, Sequence[Any]],
    points: Sequence[Point],
    known: Mapping[int, Mapping[str, Any]],
    resources: dict[str, float],
    slots: int,
) -> dict[int, str]:
    """Run the trials that have no record yet.

    Ray Tune keeps nothing that outlives this call: what is known of trials is in the records.

    Args:
        known: the records of those that have.
        resources: of a trial, as Ray takes them.

    Returns:
        What went wrong with trials that could not be brought to an end, by number; they have no record.

    Raises:
        KeyboardInterrupt: the search was interrupted.
    """
    missing = [number for number in range(len(points)) if number not in known]
    if not missing:
        return {}
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # Ray Tune's tables; a line a trial says more
    scheduler = scheduler_for(common.plans[0].settings)
    if scheduler is not None:
        for number, told in known.items():
            scheduler.remember(number, told)
    trainable = tune.with_resources(
        tune.with_parameters(run_trial, common=common, prepared=prepared), resources
    )
    with tempfile.TemporaryDirectory() as folder, stall_reporter("word from a trial", _QUIET_S) as alive:
        watch = _Watch(points, common, known, alive)
        Tuner(
            trainable,
            param_space={"number": tune.grid_search(missing)},
            tune_config=TuneConfig(
                scheduler=scheduler,
                max_concurrent_trials=slots,
                reuse_actors=True,  # starting one takes 5 s
            ),
            run_config=RunConfig(
                storage_path=folder,
                storage_filesystem=pafs.LocalFileSystem(),  # a path with `#` or `%` is no URI
                failure_config=FailureConfig(max_failures=_RETRIES),
                callbacks=[watch],
                verbose=0,
            ),
        ).fit()
    if watch.ended < len(points):  # Ray Tune takes an interrupt as a wish to end well
        raise KeyboardInterrupt
    return watch.failed


def scheduler_for(settings: Settings) -> KeepFirst | None:
    """What stops weak trials; None where none is to be stopped before its end."""
    looks = all_looks(settings)
    if not settings.tuning.stop_early or looks == 1:
        return None
    return KeepFirst(looks, reduction=3 if told_within(settings) else 2)


class KeepFirst(AsyncHyperBandScheduler):
    """ASHA (Li et al. 2020) that never stops trial 0: the others are measured against it."""

    def __init__(self, looks: int, reduction: int) -> None:
        """For trials of so many looks.

        Args:
            reduction: at looks 1, `reduction`, `reduction`², … a trial goes on if it is among the best of
                so many.
        """
        super().__init__(
            time_attr="look",
            metric="figure",
            mode="max",
            max_t=looks,
            grace_period=1,
            reduction_factor=reduction,
        )

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """As Ray Tune calls it."""
        decision = super().on_trial_result(tune_controller, trial, result)
        return TrialScheduler.CONTINUE if trial.config["number"] == 0 else decision

    def remember(self, number: int, told: Mapping[str, Any]) -> None:
        """Measure the others against a trial that has ended, too."""
        ended: Any = SimpleNamespace(trial_id=f"known-{number}", config={"number": number})
        self.on_trial_add(None, ended)  # type: ignore[arg-type]  # which it does not look at
        for look, _, figure in told["looks"]:
            self.on_trial_result(None, ended, {"look": look, "figure": figure})
        self.on_trial_complete(None, ended, dict(told))  # type: ignore[arg-type]


class _Watch(Callback):
    """Notes trials that were stopped and those that failed, and says a line for each that ends.

    Of the models, those of the defaults and of the best trial so far stay: one of them will be taken.
    """

    def __init__(
        self,
        points: Sequence[Point],
        common: Common,
        known: Mapping[int, Mapping[str, Any]],
        alive: threading.Event,
    ) -> None:
        self.failed: dict[int, str] = {}
        self.ended = len(known)
        self._points, self._common, self._alive = points, common, alive
        self._trials = {number: self._trial(number, told) for number, told in known.items()}
        self._forget(set(self._trials))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: Any, **info: Any
    ) -> None:
        self._alive.set()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        told, number = trial.last_result, trial.config["number"]
        if "train_s" not in told and not told["problem"]:
            self._common.records.write(number, told)
        before = self._best()
        self._trials[number] = self._trial(number, told)
        self._forget({number, *before})
        self._say(number, told["problem"] or f"{told['figure']:.4f}  {told['seconds']:.0f} s")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        number = trial.config["number"]
        self.failed[number] = _reason(trial)
        self._say(number, f"failed: {self.failed[number]}")

    def __getstate__(self) -> dict[str, Any]:
        """Ray Tune pickles it to go on from; nothing goes on from that."""
        return {}

    def _trial(self, number: int, told: Mapping[str, Any]) -> Trial:
        limits = self._common.plans[number].settings.tuning
        return trial_of(number, self._points[number], limits, told, "")

    def _best(self) -> set[int]:
        return {one.number for one in ranked(list(self._trials.values()))[:1]}

    def _forget(self, numbers: set[int]) -> None:
        for beaten in numbers - {0} - self._best():
            with suppress(StorageError):  # takes room until the end, when all of them are removed
                self._common.kept.remove(beaten)

    def _say(self, number: int, outcome: str) -> None:
        self.ended += 1
        what = "  ".join(f"{name}={short(value)}" for name, value in self._points[number].items())
        share = f"{self.ended}/{len(self._points)}"
        counts = {"done": self.ended, "total": len(self._points), "trial": number}
        log.info(f"{share}  trial {number}  {what or 'defaults'}  {outcome}", "trial", **counts)


def _reason(trial: Any) -> str:
    """The last line of what Ray Tune wrote down."""
    return Path(trial.error_file).read_text().strip().rpartition("\n")[2]
