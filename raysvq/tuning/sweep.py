"""`raysvq tune`: a search, its leaderboard and report, and the best settings made a model."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from raysvq import log
from raysvq.errors import DataError, SettingsError
from raysvq.model.alias import is_alias
from raysvq.model.bundle import Bundle
from raysvq.report.sweep import write_report
from raysvq.runtime.cluster import Capacity, connect
from raysvq.runtime.lease import lease
from raysvq.runtime.progress import Progress, forwarded_progress
from raysvq.settings import Settings
from raysvq.storage import (
    canonical,
    configure,
    exists,
    join,
    remove_folder,
    require_writable,
)
from raysvq.training.plan import require_trainable, run_name
from raysvq.training.validation import validation_images
from raysvq.tuning.choice import choose
from raysvq.tuning.crown import CHAMPION, MODEL, crown
from raysvq.tuning.judging import metric_of
from raysvq.tuning.kept import Kept
from raysvq.tuning.leaderboard import (
    FINISHED,
    STOPPED,
    Leaderboard,
    Trial,
    ranked,
    table,
    trial_of,
    write_leaderboard,
)
from raysvq.tuning.plan import plan_trials, use_gpu
from raysvq.tuning.prepared import data_key
from raysvq.tuning.records import Records
from raysvq.tuning.runner import run_trials, scheduler_for
from raysvq.tuning.sharing import share
from raysvq.tuning.space import Point, parse_space
from raysvq.tuning.splits import redraw, with_all_outliers
from raysvq.tuning.trial import Common, Plan

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
    """Search, write `leaderboard.parquet`, `report.html` and `best.yaml`; the best model is `out@champion`.

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
    space = parse_space(search, settings)
    tuning = settings.tuning
    points = space.points(tuning.trials, tuning.sampler, tuning.seed, tuning.known)
    chosen = [space.settings(point) for point in points]
    images = validation_images(manifest, settings.training.validation_images)
    metric = metric_of(settings, images, manifest)
    name = _name(manifest, chosen[0], points, metric)
    state = join(out, _STATE, name)
    _require_unfinished(out, state)
    require_writable(out)
    capacity = connect(settings.ray)
    slots = plan_trials(chosen, capacity, metric)
    resources = _resources(chosen, capacity)
    with lease(out, name) as require_held:
        _remove_ended(out)
        _require_unfinished(out, state)  # another run may just have ended
        final = _final_manifest(manifest, state, settings)
        for one in {(data_key(one), one.training.patience): one for one in chosen}.values():
            require_trainable(final, one)
        with forwarded_progress() as progress:
            trials = _run(manifest, state, chosen, points, metric, slots, resources, capacity, progress)
        names = tuple(parameter.name for parameter in space.parameters)
        board = Leaderboard(metric, names, settings, tuple(ranked(trials)))
        require_held()
        best = _report(board, out)
        bundle = crown(final, out, best.number, chosen[best.number], Kept(state), resources, require_held)
        remove_folder(join(out, _STATE))
    return Sweep(board, best, chosen[best.number], bundle, out)


def _require_unfinished(out: str, state: str) -> None:
    """Refuse a folder with a model, unless this sweep made it and was interrupted before the alias."""
    model = join(out, MODEL)
    if exists(join(model, "bundle.json")) and not exists(state):
        raise DataError(f"{model} already holds a model; choose another --out, or remove it")


def _remove_ended(out: str) -> None:
    """Do what is left of a sweep that ended but for its last deed."""
    model, state = join(out, MODEL), join(out, _STATE)
    if exists(join(model, "bundle.json")) and exists(state) and is_alias(f"{out}@{CHAMPION}", model):
        remove_folder(state)


def _name(manifest: str, base: Settings, points: Sequence[Point], metric: str) -> str:
    """The same for a sweep of the same data and settings, so that a restart finds its trials."""
    several = base.training.workers > 1  # tells less as it goes
    judged = [base.evaluation.model_dump(mode="json"), base.tuning.model_dump(mode="json")]
    key = json.dumps([run_name(manifest, base), judged, points, metric, several], sort_keys=True)
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def _final_manifest(manifest: str, state: str, settings: Settings) -> str:
    """What the model taken has learnt from."""
    if not settings.tuning.refit:
        return manifest
    return with_all_outliers(manifest, join(state, "refit-manifest.parquet"))


def _run(
    manifest: str,
    state: str,
    chosen: Sequence[Settings],
    points: Sequence[Point],
    metric: str,
    slots: int,
    resources: dict[str, float],
    capacity: Capacity,
    progress: Progress,
) -> list[Trial]:
    base = chosen[0]
    repeats = range(base.tuning.repeats)
    records = Records(state)
    manifests = [redraw(manifest, join(state, f"split-{number}.parquet"), number) for number in repeats]
    plans = [Plan(one, tuple(f"{data_key(one)}-{number}" for number in repeats)) for one in chosen]
    known = records.known(range(len(plans)))
    missing = [plan for number, plan in enumerate(plans) if number not in known]
    if known:
        progress(f"going on with a sweep, {len(known)} of its trials have ended")
    common = Common(plans, metric, manifests, records, Kept(state), base.storage)
    prepared = share(common, missing, capacity, progress)
    progress(_announce(points, metric, slots, len(prepared), base))
    started = time.monotonic()
    failed = run_trials(common, prepared, points, known, resources, slots)
    known |= records.known(number for number in range(len(plans)) if number not in known)
    progress(f"searched in {time.monotonic() - started:.0f} s")
    return [
        trial_of(number, point, chosen[number].tuning, known.get(number), failed.get(number, ""))
        for number, point in enumerate(points)
    ]


def _resources(chosen: Sequence[Settings], capacity: Capacity) -> dict[str, float]:
    """Of a trial; one that only drives workers takes a byte, as Ray Tune has no trials that take nothing."""
    if any(one.training.workers > 1 for one in chosen):
        return {"memory": 1}
    return {"CPU": 1, "GPU": 1} if use_gpu(chosen[0], capacity) else {"CPU": 1}


def _report(board: Leaderboard, out: str) -> Trial:
    """Write the leaderboard and show it. The trial to take."""
    write_leaderboard(board, join(out, "leaderboard.parquet"))
    first = board.trials[0]
    if first.status not in (FINISHED, STOPPED):
        raise SettingsError(f"no trial can be taken; the best one: {first.problem}")
    best, why = choose(board.trials, board.metric)
    lines = [table(board), why]
    log.info("\n".join(line for line in lines if line), "leaderboard", trial=best.number)
    write_report(board, best, why, join(out, "report.html"))
    return best


def _announce(points: Sequence[Point], metric: str, slots: int, prepared: int, settings: Settings) -> str:
    tuning = settings.tuning
    stop = "weak ones stopped early" if scheduler_for(settings) else "all to their end"
    splits = "" if tuning.repeats == 1 else f" over {tuning.repeats} splits"
    return (
        f"{len(points)} trials, {slots} at once, {stop}; judged by {metric} on validation{splits};"
        f" images prepared {prepared} time(s) for all"
    )
