"""Ray Tune over a search space: trials in parallel, weak ones stopped early, the best one made a model."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
import yaml
from ray import tune
from ray.tune import Callback, FailureConfig, RunConfig, TuneConfig, Tuner
from ray.tune.schedulers import AsyncHyperBandScheduler

from raysvq.cluster import Capacity, connect
from raysvq.errors import DataError, SettingsError
from raysvq.model.bundle import Bundle
from raysvq.relay import Voice, relay
from raysvq.settings import Settings
from raysvq.storage import canonical, configure, exists, filesystem, join, require_writable, write_bytes
from raysvq.training.launch import run_name, train
from raysvq.training.validation import validation_images
from raysvq.tuning.leaderboard import (
    FAILED,
    FINISHED,
    STOPPED,
    Trial,
    ranked,
    short,
    table,
    write_leaderboard,
)
from raysvq.tuning.prepared import Prepared, data_key, prepare
from raysvq.tuning.space import Point, parse_space
from raysvq.tuning.trial import run_trial

CHAMPION = "champion"
_LOOKS = 6  # validations of a trial, at which it may be stopped
_REDUCTION = 3  # of the trials at a look, one in so many goes on
_RETRIES = 3  # of a trial whose worker or node was lost


@dataclass(frozen=True)
class Sweep:
    """What came of it."""

    trials: tuple[Trial, ...]  # best first
    settings: Settings  # of the best one, complete
    bundle: Bundle  # the best one, trained
    folder: str
    leaderboard: str  # as text


def sweep(manifest: str, out: str, settings: Settings, search: Any) -> Sweep:
    """Search, write `leaderboard.parquet` and `best.yaml`, train the best settings as `champion`.

    A sweep that was interrupted goes on when it is started again with the same arguments: no trial
    that has ended runs again.

    Args:
        manifest: with labelled outliers in its validation split, which trials are judged by.
        settings: what every trial starts from; `tuning` says how to search.
        search: the section `search` of the configuration, see `raysvq.tuning.space`.

    Raises:
        DataError, SettingsError, StorageError: the sweep cannot start.
    """
    configure(settings.storage)
    manifest, out = canonical(manifest), canonical(out)
    champion = join(out, CHAMPION)
    if exists(join(champion, "bundle.json")):
        raise DataError(f"{champion} already holds a model; choose another --out, or remove it")
    space = parse_space(search, settings)
    points = space.points(settings.tuning.trials, settings.tuning.sampler, settings.tuning.seed)
    chosen = [_watched(space.settings(point), settings.tuning.stop_early) for point in points]
    _require_outliers(manifest, settings)
    require_writable(out)
    slots = plan_trials(chosen, connect(settings.ray))
    names = [parameter.name for parameter in space.parameters]
    started = time.monotonic()
    with relay() as voice:
        data = {data_key(one): one for one in chosen}
        voice.say(_announce(points, names, slots, len(data), settings))
        results = _run(manifest, out, chosen, points, data, slots, voice)
        trials = tuple(ranked([_trial(result, points, chosen) for result in results]))
        if trials[0].status == FAILED:
            raise SettingsError(f"no trial came to its end; the first says: {trials[0].problem}")
        text = table(trials, names, settings)
        voice.say(
            f"{text}\nsearched in {time.monotonic() - started:.0f} s; training trial {trials[0].number}"
        )
    write_leaderboard(trials, names, settings, join(out, "leaderboard.parquet"))
    best = space.settings(trials[0].point)
    plain = best.model_dump(mode="json", exclude={"ray", "storage", "tuning"})
    write_bytes(join(out, "best.yaml"), yaml.safe_dump(plain, sort_keys=False).encode())
    return Sweep(trials, best, train(manifest, champion, best), out, text)


def plan_trials(chosen: Sequence[Settings], capacity: Capacity) -> int:
    """How many trials run at once: one on each CPU, or on each GPU where trials take one.

    Raises:
        SettingsError: a trial asks for more than a process of its own, or not one fits.
    """
    several = max(one.training.workers for one in chosen)
    if several > 1:
        raise SettingsError(
            f"setting `training.workers`: {several}; a trial trains in one process, expected 1"
        )
    slots = capacity.places(1.0, _use_gpu(chosen, capacity))
    if not slots:
        raise SettingsError(
            f"a trial needs a CPU{' and a GPU' if _use_gpu(chosen, capacity) else ''}; the cluster has"
            f" {capacity.cpus:g} CPUs and {capacity.gpus:g} GPUs"
        )
    return slots


def _use_gpu(chosen: Sequence[Settings], capacity: Capacity) -> bool:
    wanted = chosen[0].training.device
    return wanted == "cuda" or (wanted == "auto" and capacity.gpus >= 1)


def _watched(settings: Settings, stop_early: bool) -> Settings:
    """Validated as often as a trial may be stopped."""
    steps = settings.training.steps
    every = max(1, -(-steps // _LOOKS)) if stop_early else steps
    training = settings.training.model_copy(update={"validate_every": every})
    return settings.model_copy(update={"training": training})


def _require_outliers(manifest: str, settings: Settings) -> None:
    images = validation_images(manifest, settings.training.validation_images)
    kinds = {image.anomalous for image in images}
    if kinds != {True, False}:
        missing = "anomalous" if True not in kinds else "normal"
        raise DataError(
            f"manifest {manifest} has no {missing} images in its validation split, and trials are judged by"
            " their image AUROC there; label some outliers, or index with split.outliers or split.gamma"
        )


def _run(
    manifest: str,
    out: str,
    chosen: Sequence[Settings],
    points: Sequence[Point],
    data: dict[str, Settings],
    slots: int,
    voice: Voice,
) -> Sequence[tune.Result]:
    plans = [{"settings": one.model_dump(mode="json"), "data": data_key(one)} for one in chosen]
    load = ray.remote(num_cpus=1, max_retries=-1)(_load)
    prepared = {key: [load.remote(manifest, one, one.storage, voice)] for key, one in data.items()}
    use_gpu = _use_gpu(chosen, connect(chosen[0].ray))
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # Ray Tune's tables; a line a trial says more
    key = json.dumps([run_name(manifest, chosen[0]), points], sort_keys=True)
    name = hashlib.sha256(key.encode()).hexdigest()[:16]
    fs, path = filesystem(join(out, "_sweep"))
    records = join(out, "_sweep", f"{name}-ended")
    trainable = tune.with_resources(
        tune.with_parameters(
            run_trial, plans=plans, prepared=prepared, records=records, storage=chosen[0].storage
        ),
        {"CPU": 1, "GPU": 1} if use_gpu else {"CPU": 1},
    )
    where = f"{path}/{name}"
    if Tuner.can_restore(where, storage_filesystem=fs):
        voice.say("going on with a sweep that was interrupted")
        tuner = Tuner.restore(where, trainable, resume_errored=False, storage_filesystem=fs)
    else:
        tuner = Tuner(
            trainable,
            param_space={"number": tune.grid_search(list(range(len(points))))},
            tune_config=TuneConfig(
                metric="image_auroc",
                mode="max",
                scheduler=_scheduler(chosen[0]),
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


def _load(manifest: str, settings: Settings, storage: Any, voice: Voice) -> Prepared:
    configure(storage)
    return prepare(manifest, settings, voice)


def _scheduler(settings: Settings) -> AsyncHyperBandScheduler | None:
    if not settings.tuning.stop_early:
        return None
    return AsyncHyperBandScheduler(
        time_attr="step",
        max_t=settings.training.steps,
        grace_period=settings.training.validate_every,
        reduction_factor=_REDUCTION,
    )


class _Progress(Callback):
    """A line for each trial that ends."""

    def __init__(self, points: Sequence[Point]) -> None:
        self.points = points

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        found = trial.last_result
        self._say(
            trials,
            trial,
            f"validation AUROC {found.get('best_image_auroc', 0):.4f}  {found.get('seconds', 0):.0f} s",
        )

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._say(trials, trial, "failed")

    def _say(self, trials: list[Any], trial: Any, outcome: str) -> None:
        ended = sum(one.is_finished() or one is trial for one in trials)
        number = trial.config["number"]
        what = (
            "  ".join(f"{name}={short(value)}" for name, value in self.points[number].items()) or "defaults"
        )
        print(f"{ended}/{len(self.points)}  trial {number}  {what}  {outcome}", flush=True)


def _trial(result: tune.Result, points: Sequence[Point], chosen: Sequence[Settings]) -> Trial:
    metrics = result.metrics or {}
    number = (result.config or metrics["config"])["number"]
    steps = int(metrics.get("step", 0))
    problem = str(metrics.get("problem", "")) or (str(result.error).splitlines()[0] if result.error else "")
    whole = steps >= chosen[number].training.steps
    status = FAILED if problem else FINISHED if whole else STOPPED
    return Trial(
        number,
        points[number],
        status,
        metrics.get("best_image_auroc"),
        steps,
        float(metrics.get("seconds", 0.0)),
        problem,
    )


def _announce(
    points: Sequence[Point], names: Sequence[str], slots: int, prepared: int, settings: Settings
) -> str:
    stop = f"weak ones stopped at {_LOOKS - 1} looks" if settings.tuning.stop_early else "all to their end"
    return (
        f"{len(points)} trials over {', '.join(names)}, {slots} at once, {stop};"
        f" images prepared {prepared} time(s) for all"
    )
