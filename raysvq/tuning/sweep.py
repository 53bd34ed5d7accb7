"""`raysvq tune`: a search, its leaderboard and report, and the best settings made a model."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
import yaml
from ray import tune

from raysvq.cluster import Capacity, connect
from raysvq.errors import DataError, SettingsError
from raysvq.model.alias import promote
from raysvq.model.bundle import Bundle
from raysvq.relay import Voice, relay
from raysvq.settings import Settings
from raysvq.storage import canonical, configure, exists, join, remove_folder, require_writable, write_bytes
from raysvq.training.launch import run_name, train
from raysvq.training.validation import validation_images
from raysvq.tuning.course import told_within
from raysvq.tuning.judging import metric_of
from raysvq.tuning.leaderboard import (
    FAILED,
    FINISHED,
    OVER,
    STOPPED,
    Leaderboard,
    Trial,
    choose,
    over_limits,
    ranked,
    table,
    write_leaderboard,
)
from raysvq.tuning.plan import plan_trials, use_gpu
from raysvq.tuning.prepared import Prepared, data_key, prepare
from raysvq.tuning.report import write_report
from raysvq.tuning.runner import run_trials
from raysvq.tuning.space import Point, parse_space
from raysvq.tuning.splits import redraw, with_all_outliers
from raysvq.tuning.trial import Common, Plan

CHAMPION = "champion"
MODEL = "model"
_STATE = "_sweep"


@dataclass(frozen=True)
class Sweep:
    """What came of it."""

    board: Leaderboard
    chosen: Trial
    settings: Settings  # of the chosen one, complete
    bundle: Bundle  # the chosen one, trained
    folder: str


def sweep(manifest: str, out: str, settings: Settings, search: Any) -> Sweep:
    """Search, write `leaderboard.parquet`, `report.html` and `best.yaml`, train the best as `out@champion`.

    A sweep that was interrupted goes on when it is started again with the same arguments: no trial
    that has ended runs again.

    Args:
        manifest: trials are judged by its validation split.
        settings: what every trial starts from; `tuning` says how to search.
        search: the section `search` of the configuration, see `raysvq.tuning.space`.

    Raises:
        DataError, SettingsError, StorageError: the sweep cannot start.
    """
    configure(settings.storage)
    manifest, out = canonical(manifest), canonical(out)
    if exists(join(out, MODEL, "bundle.json")):
        raise DataError(f"{join(out, MODEL)} already holds a model; choose another --out, or remove it")
    space = parse_space(search, settings)
    tuning = settings.tuning
    points = space.points(tuning.trials, tuning.sampler, tuning.seed, tuning.known)
    chosen = [space.settings(point) for point in points]
    metric = metric_of(settings, validation_images(manifest, settings.training.validation_images), manifest)
    require_writable(out)
    capacity = connect(settings.ray)
    slots = plan_trials(chosen, capacity, metric)
    names = tuple(parameter.name for parameter in space.parameters)
    started = time.monotonic()
    with relay() as voice:
        results = _run(manifest, out, chosen, points, metric, slots, capacity, voice)
        trials = tuple(ranked([_trial(result, points, chosen) for result in results]))
        board = Leaderboard(metric, names, settings, trials)
        write_leaderboard(board, join(out, "leaderboard.parquet"))
        if trials[0].status not in (FINISHED, STOPPED):
            raise SettingsError(f"no trial can be taken; the best one: {trials[0].problem}")
        best, why = choose(trials)
        voice.say(f"{table(board)}\nsearched in {time.monotonic() - started:.0f} s")
        if why:
            voice.say(why)
        voice.say(f"training trial {best.number}")
    write_report(board, best, why, join(out, "report.html"))
    return _crown(manifest, out, board, best, chosen[best.number])


def _crown(manifest: str, out: str, board: Leaderboard, best: Trial, settings: Settings) -> Sweep:
    """Write the best settings, train them, and remove what the search kept."""
    plain = settings.model_dump(mode="json", exclude={"ray", "storage", "tuning"})
    write_bytes(join(out, "best.yaml"), yaml.safe_dump(plain, sort_keys=False).encode())
    if settings.tuning.refit:
        manifest = with_all_outliers(manifest, join(out, "refit-manifest.parquet"))
    bundle = train(manifest, join(out, MODEL), settings)
    promote(f"{out}@{CHAMPION}", join(out, MODEL))
    remove_folder(join(out, _STATE))
    return Sweep(board, best, settings, bundle, out)


def _run(
    manifest: str,
    out: str,
    chosen: Sequence[Settings],
    points: Sequence[Point],
    metric: str,
    slots: int,
    capacity: Capacity,
    voice: Voice,
) -> list[tune.Result]:
    base = chosen[0]
    repeats = range(base.tuning.repeats)
    state = join(out, _STATE)
    key = json.dumps([run_name(manifest, base), base.tuning.model_dump(mode="json"), points], sort_keys=True)
    name = hashlib.sha256(key.encode()).hexdigest()[:16]
    folder = join(state, f"{name}-trials")
    manifests = [redraw(manifest, join(folder, f"split-{number}.parquet"), number) for number in repeats]
    plans = [Plan(one, tuple(f"{data_key(one)}-{number}" for number in repeats)) for one in chosen]
    prepared: dict[str, list[Any]] = {}
    # Without a CPU of its own: trials wait for it on theirs, also when a lost node takes it along.
    load = ray.remote(num_cpus=0, max_retries=-1, scheduling_strategy="SPREAD")(_load)
    for plan in plans:
        if plan.settings.training.workers > 1:
            continue
        for number, one in enumerate(plan.data):
            if one not in prepared:
                prepared[one] = [load.remote(manifests[number], plan.settings, metric, base.storage, voice)]
    voice.say(_announce(points, metric, slots, len(prepared), base))
    return run_trials(
        Common(plans, metric, manifests, folder, base.storage),
        prepared,
        points,
        _resources(chosen, capacity),
        slots,
        (state, name),
        voice,
    )


def _resources(chosen: Sequence[Settings], capacity: Capacity) -> dict[str, float]:
    """Of a trial; one that only drives workers takes a byte, as Ray Tune has no trials that take nothing."""
    if any(one.training.workers > 1 for one in chosen):
        return {"memory": 1}
    return {"CPU": 1, "GPU": 1} if use_gpu(chosen[0], capacity) else {"CPU": 1}


def _load(manifest: str, settings: Settings, metric: str, storage: Any, voice: Voice) -> Prepared:
    configure(storage)
    return prepare(manifest, settings, metric, voice)


def _trial(result: tune.Result, points: Sequence[Point], chosen: Sequence[Settings]) -> Trial:
    metrics = result.metrics or {}
    number = (result.config or metrics["config"])["number"]
    settings = chosen[number]
    told = str(metrics.get("problem", "")) or (str(result.error).splitlines()[0] if result.error else "")
    over = over_limits(metrics, settings.tuning)
    whole = metrics.get("train_s") is not None
    status = FAILED if told else OVER if over else FINISHED if whole else STOPPED
    return Trial(
        number,
        points[number],
        status,
        metrics.get("figure"),
        tuple(metrics.get("figures", ())),
        _looks(result, settings),
        float(metrics.get("seconds", 0.0)),
        metrics.get("train_s"),
        metrics.get("image_ms"),
        metrics.get("model_mib"),
        told or over,
    )


def _looks(result: tune.Result, settings: Settings) -> tuple[tuple[float, float], ...]:
    frame = result.metrics_dataframe
    if frame is None or "look" not in frame:
        return ()
    rows = frame.drop_duplicates("look", keep="last")
    done = rows["step"] if told_within(settings) else rows["look"]
    whole = settings.training.steps if told_within(settings) else settings.tuning.repeats
    return tuple((float(at) / whole, float(value)) for at, value in zip(done, rows["figure"], strict=True))


def _announce(points: Sequence[Point], metric: str, slots: int, prepared: int, settings: Settings) -> str:
    tuning = settings.tuning
    stop = "weak ones stopped early" if tuning.stop_early else "all to their end"
    splits = "" if tuning.repeats == 1 else f" over {tuning.repeats} splits"
    return (
        f"{len(points)} trials, {slots} at once, {stop}; judged by {metric} on validation{splits};"
        f" images prepared {prepared} time(s) for all"
    )
