"""The scoring job: manifest + bundle -> committed score and reject rows."""

from __future__ import annotations

import tempfile
import time
import uuid
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import ray.data

from raysvq import log
from raysvq.data.manifest import Row
from raysvq.data.preflight import require_readable
from raysvq.errors import AccountingError
from raysvq.results import Commit, RunRecord, publish
from raysvq.results.reconcile import require_complete, write_run_ids
from raysvq.results.rewrite import rewrite_without
from raysvq.runtime.lease import lease
from raysvq.runtime.stall import stall_reporter
from raysvq.scoring.heatmaps import find_worst, write_worst
from raysvq.scoring.pending import Pending
from raysvq.scoring.plan import Request, RunPlan, Workers, open_request, plan_run, share_out
from raysvq.scoring.summary import ScoreSummary
from raysvq.scoring.takeover import Leftovers, find_leftovers, finished_folders
from raysvq.scoring.work import remove_work
from raysvq.scoring.worker import Job, ScoringActor, report_of, score_units
from raysvq.settings import Settings
from raysvq.storage import join, require_put_if_absent

PROBED_IMAGES = 8  # read before a run starts


def score(manifest: str, model: str, out: str, settings: Settings) -> ScoreSummary:
    """Score every image of a manifest that is not yet scored in `out`, or has changed since.

    Stopped at any instant and started again, it goes on where it was: what counts in the end is the same
    as if it had never been stopped.

    Args:
        manifest: a manifest, path or URI; also a folder of them, none of whose images overlap.
        model: a bundle's folder, path or URI.
        out: the score directory to fill, path or URI.

    Raises:
        DataError, BundleError, StorageError, SettingsError: the run cannot start.
        ScoringError: the processes that score some images die again and again, or more images than
            `scoring.max_rejected` are rejected for reasons outside them.
        AccountingError: scored and rejected rows do not add up to the manifest.
    """
    request = open_request(manifest, model, out, settings)
    out = request.out
    assert request.manifest is not None
    require_readable(request.manifest.head(PROBED_IMAGES, columns=["uri"])["uri"].to_pylist())
    run_id = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:8]}"
    with lease(out, run_id) as require_held, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        require_put_if_absent(out)
        leftovers = find_leftovers(out, folder)
        pending = request.find_pending(folder, leftovers.paths, mend=True)
        if not pending.images:
            remove_work(finished_folders(leftovers))
            return ScoreSummary(out, run_id, 0, pending.done)
        started = time.monotonic()
        plan = plan_run(request, run_id, pending, leftovers)
        taken = plan.takeover.images
        summary = ScoreSummary(out, run_id, pending.images, pending.done, pending.rescored, taken)
        for report in plan.takeover.reports:
            summary.add(report)
        log.info(_announce(summary, request, plan), "start", images=summary.images)
        if plan.units:
            _score_units(plan, summary)
        commit = _make_commit(request, pending, leftovers, plan, summary)
        require_held()
        publish(out, commit)
        remove_work([*finished_folders(leftovers), plan.run.folder(out)])
        summary.seconds = time.monotonic() - started
    return summary


def _make_commit(
    request: Request, pending: Pending, leftovers: Leftovers, plan: RunPlan, summary: ScoreSummary
) -> Commit:
    """Account for every image, and write what the commit names beside the rows: overlays, old rows, ids.

    Raises:
        AccountingError: scored and rejected rows do not add up to the images that were to be scored. The
            work that they came of is removed, so that no run builds on it.
    """
    out, scoring, folder = request.out, request.settings.scoring, leftovers.folder
    try:
        require_complete(out, summary.files, pending.path, folder)
    except AccountingError:
        remove_work([*(left.folder for left in leftovers.runs), plan.run.folder(out)])
        raise
    worst = find_worst(out, summary.files["scores"], scoring.worst)
    drawn = write_worst(worst, summary.run_id, out, plan.session)
    summary.heatmaps = [join(out, name) for name in drawn]
    version = pending.version + 1
    kept, replaced = rewrite_without(out, pending.rescored_ids(), pending.replaces, version)
    record = RunRecord(
        **plan.origin,
        created_at=datetime.now(UTC).isoformat(),
        images=summary.images,
        scored=summary.scored,
        rejected=summary.rejects.total(),
        run_ids=tuple(sorted({summary.run_id, *plan.takeover.run_ids})),
        heatmaps=tuple(drawn),
    )
    return Commit(
        version=version,
        runs=(record,),
        partition_by=scoring.partition_by,
        files=summary.files,
        kept=kept,
        replaced=replaced,
        ids=write_run_ids(out, version, pending.path, folder, request.digests()),
        settings=_resolved(request),
    )


def _resolved(request: Request) -> Row:
    """The settings of a run: the model's own, and those of the job."""
    own = {"scoring": request.settings.scoring, "ray": request.settings.ray}
    resolved: Row = request.bundle.settings.model_copy(update=own).model_dump(mode="json")
    return resolved


def _announce(summary: ScoreSummary, request: Request, plan: RunPlan) -> str:
    done = f"; {summary.done_before} are scored already" if summary.done_before else ""
    changed = f", {summary.rescored} of them again" if summary.rescored else ""
    line = (
        f"scoring {summary.images} images{changed} with model {request.bundle.model_version}"
        f" on {plan.workers.count} {plan.workers.name}(s) in {plan.session.precision}{done}"
    )
    return "\n".join([line, *plan.takeover.lines()])


def _score_units(plan: RunPlan, summary: ScoreSummary) -> None:
    """Score the images that are left on the cluster, and count them as they are done."""
    job = Job(
        session=plan.session,
        out=summary.out,
        work=plan.run.begin(summary.out, plan.takeover.rest.path, plan.unit_images),
        origin=tuple(plan.origin.items()),
        unit_images=plan.unit_images,
        budget=plan.budget,
    )
    meter = log.ProgressMeter(summary.images, before=summary.done)
    with stall_reporter("work unit finished") as alive:
        for row in _outcomes(job, plan.workers, plan.units).iter_rows():
            alive.set()
            report = report_of(row)
            summary.add(report)
            summary.spent.update(report.seconds)
            plan.budget.require(summary.rejects, report.example)
            meter.update(summary.done, summary.rejects.total())


def _outcomes(job: Job, workers: Workers, units: int) -> ray.data.Dataset:
    """A stream with one row per work unit, for `report_of`; nothing starts before it is read."""
    parts = share_out(units, workers.count)
    # Blocks put by the driver live beside it: a node that is lost takes none of them along.
    numbers = ray.data.from_arrow([pa.table({"id": np.array(part)}) for part in parts])
    numbers.context.target_max_block_size = 1  # each report comes as it is made, not at a block's end
    if workers.use_gpu:
        return numbers.map_batches(
            ScoringActor,
            fn_constructor_args=(job,),
            batch_size=1,
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(size=workers.count),
            num_cpus=workers.cpus,
            num_gpus=1,
        )
    return numbers.map_batches(
        partial(score_units, job=job),
        batch_size=1,
        batch_format="numpy",
        num_cpus=workers.cpus,
    )
