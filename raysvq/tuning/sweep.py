"""`raysvq tune`: a search, its leaderboard and report, and the model of the best settings published."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

from raysvq import log
from raysvq.errors import DataError, SettingsError
from raysvq.evaluation.leaderboard import (
    FINISHED,
    STOPPED,
    Leaderboard,
    Point,
    Trial,
    ranked,
    table,
    trial_of,
    write_leaderboard,
)
from raysvq.model.alias import is_alias
from raysvq.model.bundle import Bundle
from raysvq.report.sweep import write_report
from raysvq.runtime.cluster import Capacity, connect, quiet_ray_data
from raysvq.runtime.lease import lease
from raysvq.runtime.progress import Progress, forwarded_progress
from raysvq.settings import Settings
from raysvq.storage import canonical, configure, exists, join, remove_folder, require_writable
from raysvq.training.plan import require_trainable, run_name
from raysvq.training.validation import validation_images
from raysvq.tuning.early_stopping import scheduler_for
from raysvq.tuning.publish import CHAMPION, MODEL, choose, publish
from raysvq.tuning.runner import TrialPlan, plan_trials, run_trials
from raysvq.tuning.search import TrialSearch, first_points
from raysvq.tuning.space import Space, parse_space
from raysvq.tuning.splits import redraw, with_all_outliers
from raysvq.tuning.state import FOLDER, SweepState, require_readable
from raysvq.tuning.trial import Sweep
from raysvq.tuning.trial_data import TrialDataStore, data_key
from raysvq.tuning.trial_metrics import metric_of

_PACE = {"max_concurrent_trials", "trials_per_gpu"}  # may change before a sweep is continued


@dataclass(frozen=True)
class SweepResult:
    """The outcome of a sweep."""

    board: Leaderboard
    chosen: Trial
    settings: Settings  # of the chosen one, complete
    bundle: Bundle  # the chosen one, trained


def sweep(manifest: str, out: str, settings: Settings, search: Any) -> SweepResult:
    """Search, write `leaderboard.parquet`, `report.html` and `best.yaml`; publish the model `out@champion`.

    A sweep that was interrupted goes on when it is started again with the same arguments: no trial
    that has ended runs again.

    Args:
        manifest: the metric of trials is taken over its validation split.
        settings: what every trial starts from; the section `tuning` configures the search.
        search: the section `search` of the configuration, see `raysvq.tuning.space`.

    Raises:
        DataError, SettingsError, StorageError: the sweep cannot start.
    """
    configure(settings.storage)
    manifest, out = canonical(manifest), canonical(out)
    space = parse_space(search, settings)
    points = first_points(space, settings.tuning)
    images = validation_images(manifest, settings.training.validation_images)
    metric = metric_of(settings, images, manifest)
    name = _name(manifest, space, points, metric)
    state = SweepState(join(out, FOLDER, name))
    _require_unfinished(out, state.folder)
    require_readable(out)
    require_writable(out)
    capacity = connect(settings.ray)
    quiet_ray_data()
    known = [*space.ends(), *map(space.settings, points)]
    plan = plan_trials(known, capacity, metric)
    with lease(out, name) as require_held:
        _remove_published(out)
        _require_unfinished(out, state.folder)  # another run may just have ended
        final = manifest  # what the published model learns from
        if settings.tuning.refit:
            final = with_all_outliers(manifest, join(state.folder, "refit-manifest.parquet"))
        for one in {(data_key(one), one.training.patience): one for one in known}.values():
            require_trainable(final, one)
        with forwarded_progress() as progress:
            trials = _run(manifest, state, space, points, metric, plan, capacity, progress)
        names = tuple(parameter.name for parameter in space.parameters)
        board = Leaderboard(metric, names, settings, tuple(ranked(trials)))
        require_held()
        best = _report(board, out)
        chosen = space.settings(best.point)
        bundle = publish(final, out, best.number, chosen, state, plan.resources, require_held)
        remove_folder(join(out, FOLDER))
    return SweepResult(board, best, chosen, bundle)


def _require_unfinished(out: str, state: str) -> None:
    """Refuse a folder with a model, unless this sweep wrote it and was interrupted before the alias."""
    model = join(out, MODEL)
    if exists(join(model, "bundle.json")) and not exists(state):
        raise DataError(f"{model} already holds a model; choose another --out, or remove it")


def _remove_published(out: str) -> None:
    """Remove the state of a sweep that was published but not cleaned up."""
    model, state = join(out, MODEL), join(out, FOLDER)
    if exists(join(model, "bundle.json")) and exists(state) and is_alias(f"{out}@{CHAMPION}", model):
        remove_folder(state)


def _name(manifest: str, space: Space, points: Sequence[Point], metric: str) -> str:
    """A name derived from data and settings, by which a restart finds its trials."""
    base = space.base
    several = base.training.workers > 1  # trials of several workers report fewer rungs
    search = [base.evaluation.model_dump(mode="json"), base.tuning.model_dump(mode="json", exclude=_PACE)]
    parameters = [asdict(parameter) for parameter in space.parameters]
    key = json.dumps([run_name(manifest, base), search, parameters, points, metric, several], sort_keys=True)
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def _run(
    manifest: str,
    state: SweepState,
    space: Space,
    points: list[Point],
    metric: str,
    plan: TrialPlan,
    capacity: Capacity,
    progress: Progress,
) -> list[Trial]:
    """Run the trials that have not ended; returns all trials."""
    tuning = space.base.tuning
    points = [*points, *state.points()[len(points) :]]
    manifests = [
        redraw(manifest, join(state.folder, f"split-{number}.parquet"), number)
        for number in range(tuning.repeats)
    ]
    results = state.results(range(len(points)))
    if results:
        progress(f"going on with a sweep, {len(results)} of its trials have ended")
    started = time.monotonic()
    with closing(TrialDataStore(manifests, metric, space.base.storage, capacity, progress)) as data:
        search = TrialSearch(space, points, results, tuning.trials, state, data.require)
        progress(_announce(search.trials, metric, plan.slots, space.base))
        common = Sweep(space, metric, manifests, state)
        failed = run_trials(common, data.catalog, search, results, plan, search.trials)
    results |= state.results(number for number in range(len(search.points)) if number not in results)
    progress(f"searched in {time.monotonic() - started:.0f} s")
    return [
        trial_of(number, point, tuning, results.get(number), failed.get(number, ""))
        for number, point in enumerate(search.points)
    ]


def _report(board: Leaderboard, out: str) -> Trial:
    """Write and print the leaderboard and its page; returns the trial to publish."""
    write_leaderboard(board, join(out, "leaderboard.parquet"))
    first = board.trials[0]
    if first.status not in (FINISHED, STOPPED):
        raise SettingsError(f"no trial can be taken; the best one: {first.error}")
    best, why = choose(board.trials, board.metric)
    lines = [table(board), why]
    log.info("\n".join(line for line in lines if line), "leaderboard", trial=best.number)
    write_report(board, best, why, join(out, "report.html"))
    return best


def _announce(trials: int, metric: str, slots: int, settings: Settings) -> str:
    tuning = settings.tuning
    stop = "weak ones stopped early" if scheduler_for(settings) else "all to their end"
    splits = "" if tuning.repeats == 1 else f" over {tuning.repeats} splits"
    return (
        f"{trials} trials, {slots} at once, {stop}; sampler {tuning.sampler}; compared by {metric} on"
        f" validation{splits}"
    )
