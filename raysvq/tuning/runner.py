"""Run trials with Ray Tune: as many at once as fit; weak ones are stopped, lost ones run again."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
from ray import tune
from ray.tune import Callback, FailureConfig, RunConfig, TuneConfig, Tuner

from raysvq import log
from raysvq.errors import SettingsError, StorageError
from raysvq.evaluation.leaderboard import Point, Trial, ranked, short, trial_of
from raysvq.runtime.cluster import Capacity
from raysvq.runtime.stall import stall_reporter
from raysvq.settings import Settings
from raysvq.training.plan import plan_workers
from raysvq.tuning.early_stopping import scheduler_for
from raysvq.tuning.search import TrialSearch
from raysvq.tuning.trial import Sweep, run_trial
from raysvq.tuning.trial_metrics import IMAGE_AUROC

_RETRIES = 3  # new attempts of a trial whose worker or machine was lost
_QUIET_S = 600.0  # trials that report only the ends of their trainings can take minutes


@dataclass(frozen=True)
class TrialPlan:
    """How trials share the cluster."""

    slots: int  # trials at once
    resources: dict[str, float]  # Ray resources per trial


def plan_trials(candidates: Sequence[Settings], capacity: Capacity, metric: str) -> TrialPlan:
    """One trial per CPU; or `tuning.trials_per_gpu` per GPU, with a CPU each; or one trial at a time.

    The last applies to trials of several workers: as in `raysvq train`, these take the whole cluster.

    Args:
        candidates: the base settings, and others that trials may have.

    Raises:
        SettingsError: not one trial fits, or trials of several workers are asked for what they cannot give.
    """
    tuning = candidates[0].tuning
    for one in candidates:
        if one.training.unlabelled:
            raise SettingsError(
                "setting `training.unlabelled`: trials train on labelled images alone; leave it out of the"
                " sweep, and train with it afterwards"
            )
        plan_workers(one.training, capacity)  # a refit is trained with Ray Train
    several = [one.training for one in candidates if one.training.workers > 1]
    if several:
        _require_alike(several, candidates, metric)
        # Ray Tune requires some resource; the trial itself only drives its workers.
        return TrialPlan(1, {"memory": 1})
    with_gpu = _uses_gpu(candidates[0], capacity)
    share = tuning.trials_per_gpu
    slots = sum(
        min(int(node.cpus), int(node.gpus) * share) if with_gpu else int(node.cpus) for node in capacity.nodes
    )
    if not slots:
        raise SettingsError(
            f"a trial needs a CPU{' and a GPU' if with_gpu else ''} on one machine; the cluster has"
            f" {capacity.cpus:g} CPUs and {capacity.gpus:g} GPUs on {len(capacity.nodes)} machine(s)"
        )
    resources = {"CPU": 1.0, "GPU": 1.0 / share} if with_gpu else {"CPU": 1.0}
    return TrialPlan(min(slots, tuning.max_concurrent_trials or slots), resources)


def _require_alike(several: Sequence[Any], candidates: Sequence[Settings], metric: str) -> None:
    if len(several) < len(candidates):
        raise SettingsError(
            "setting `training.workers`: some trials would have one worker, some several, which cannot"
            " be compared as they go; leave it out of `search`"
        )
    if metric != IMAGE_AUROC:
        raise SettingsError(
            f"setting `training.workers`: trials of several workers are compared by {IMAGE_AUROC} on"
            f" labelled validation outliers, found {metric}; expected 1 worker"
        )
    if candidates[0].tuning.trials_per_gpu > 1:
        raise SettingsError(
            f"setting `tuning.trials_per_gpu`: {candidates[0].tuning.trials_per_gpu} with training.workers="
            f"{several[0].workers}, each of which takes a whole GPU; expected 1"
        )


def _uses_gpu(settings: Settings, capacity: Capacity) -> bool:
    """Whether trials of one worker take GPUs."""
    wanted = settings.training.device
    return wanted == "cuda" or (wanted == "auto" and capacity.gpus >= 1)


def run_trials(
    sweep: Sweep,
    catalog: Any,
    search: TrialSearch,
    results: Mapping[int, Mapping[str, Any]],
    plan: TrialPlan,
    trials: int,
) -> dict[int, str]:
    """Run the trials that have no result yet.

    Ray Tune's own state does not outlive this call, see `raysvq.tuning.state`.

    Args:
        results: of the trials that have ended, by number.
        trials: number of all trials, at most.

    Returns:
        The errors of trials that were lost too often, by number; they have no result.

    Raises:
        KeyboardInterrupt: the search was interrupted.
    """
    if len(results) >= trials:
        return {}
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # no tables: the callback prints one line per trial
    scheduler = scheduler_for(sweep.space.base)
    if scheduler is not None:
        for number, result in results.items():
            scheduler.add_ended(number, result)
    trainable = tune.with_resources(
        tune.with_parameters(run_trial, sweep=sweep, catalog=catalog), plan.resources
    )
    with tempfile.TemporaryDirectory() as folder, stall_reporter("word from a trial", _QUIET_S) as alive:
        log = _TrialLog(search.points, sweep, results, trials, alive)
        Tuner(
            trainable,
            tune_config=TuneConfig(
                search_alg=search,
                num_samples=trials - len(results),
                scheduler=scheduler,
                max_concurrent_trials=plan.slots,
                reuse_actors=True,  # starting one takes 5 s
            ),
            run_config=RunConfig(
                storage_path=folder,
                storage_filesystem=pafs.LocalFileSystem(),  # a path with `#` or `%` is no URI
                failure_config=FailureConfig(max_failures=_RETRIES),
                callbacks=[log],
                verbose=0,
            ),
        ).fit()
    if log.ended < len(search.points) or not search.exhausted:
        raise KeyboardInterrupt  # Ray Tune returned normally when it was interrupted
    return log.failed


class _TrialLog(Callback):
    """Writes results of stopped trials, prints a line per trial that ends, removes models.

    The models of the defaults and of the best trial so far stay: one of them will be published.
    """

    def __init__(
        self,
        points: Sequence[Point],
        sweep: Sweep,
        results: Mapping[int, Mapping[str, Any]],
        trials: int,
        alive: threading.Event,
    ) -> None:
        self.failed: dict[int, str] = {}
        self.ended = len(results)
        self._points, self._sweep, self._total, self._alive = points, sweep, trials, alive
        self._trials = {number: self._trial(number, result) for number, result in results.items()}
        self._remove_models(set(self._trials))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: Any, **info: Any
    ) -> None:
        self._alive.set()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        result, number = trial.last_result, trial.config["number"]
        if "train_s" not in result and not result["error"]:
            self._sweep.state.write_result(number, result)
        before = self._best()
        self._trials[number] = self._trial(number, result)
        self._remove_models({number, *before})
        self._print(number, result["error"] or f"{result['value']:.4f}  {result['seconds']:.0f} s")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        number = trial.config["number"]
        self.failed[number] = _reason(trial)
        self._print(number, f"failed: {self.failed[number]}")

    def __getstate__(self) -> dict[str, Any]:
        """Pickle nothing: Ray Tune saves its callbacks, but nothing is restored from that."""
        return {}

    def _trial(self, number: int, result: Mapping[str, Any]) -> Trial:
        return trial_of(number, self._points[number], self._sweep.space.base.tuning, result, "")

    def _best(self) -> set[int]:
        return {one.number for one in ranked(list(self._trials.values()))[:1]}

    def _remove_models(self, numbers: set[int]) -> None:
        for beaten in numbers - {0} - self._best():
            with suppress(StorageError):  # takes room until the end, when all of them are removed
                self._sweep.state.remove_model(beaten)

    def _print(self, number: int, outcome: str) -> None:
        self.ended += 1
        what = "  ".join(f"{name}={short(value)}" for name, value in self._points[number].items())
        share = f"{self.ended}/{self._total}"
        counts = {"done": self.ended, "total": self._total, "trial": number}
        log.info(f"{share}  trial {number}  {what or 'defaults'}  {outcome}", "trial", **counts)


def _reason(trial: Any) -> str:
    """The last line of the error that Ray Tune recorded."""
    return Path(trial.error_file).read_text().strip().rpartition("\n")[2]
