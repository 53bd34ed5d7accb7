"""The scoring job: manifest + bundle -> committed score and reject rows."""

from __future__ import annotations

import json
import tempfile
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray.data

from raysvq import errors
from raysvq.data.manifest import open_manifest
from raysvq.data.probe import require_readable
from raysvq.model.alias import resolve
from raysvq.model.bundle import Bundle, load_bundle
from raysvq.model.precision import Precision, choose_precision, has_fast_bfloat16
from raysvq.results import Commit, Files, RunRecord, publish, read_snapshot
from raysvq.results.format import files_from_json, no_files
from raysvq.results.reconcile import require_complete, write_run_ids
from raysvq.results.rewrite import rewrite_without
from raysvq.runtime.cluster import connect, result_of
from raysvq.runtime.lease import lease
from raysvq.runtime.stall import watchdog
from raysvq.scoring.budget import Budget
from raysvq.scoring.heatmaps import find_worst, write_worst
from raysvq.scoring.pending import Pending, find_pending
from raysvq.scoring.plan import WorkPlan, plan_work, share_out, unit_images
from raysvq.scoring.progress import Progress
from raysvq.scoring.rows import Row, provenance
from raysvq.scoring.takeover import Takeover, find_leftovers, spent_folders, take_over
from raysvq.scoring.work import new_run, remove_work, work_folders
from raysvq.scoring.worker import Actor, Job, score_units
from raysvq.settings import ScoringSettings, Settings, digest
from raysvq.storage import canonical, configure, join, require_put_if_absent

PROBED = 8


@dataclass
class ScoreSummary:
    """What a scoring run did."""

    out: str
    run_id: str
    images: int  # to score in this run
    done_before: int = 0  # images of the manifest that earlier runs committed
    rescored: int = 0  # images whose committed rows this run replaced
    taken_over: int = 0  # images that interrupted runs had finished
    scored: int = 0
    anomalous: int = 0
    rejects: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    spent: Counter[str] = field(default_factory=Counter)  # seconds of all workers: read, score, rows, write
    heatmaps: list[str] = field(default_factory=list)  # of the worst
    files: Files = field(default_factory=no_files)

    @property
    def done(self) -> int:
        """Images accounted for so far."""
        return self.scored + self.rejects.total()

    def add(self, report: dict[str, Any]) -> None:
        """Count a work unit's report."""
        self.scored += report["scored"]
        self.anomalous += report["anomalous"]
        self.rejects.update(report["reasons"])
        for kind, files in files_from_json(report["files"]).items():
            self.files[kind] += files


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
    configure(settings.storage)
    manifest, model, out = canonical(manifest), resolve(model), canonical(out)
    rows = open_manifest(manifest)
    bundle = load_bundle(model)
    require_readable(rows.head(PROBED, columns=["uri"])["uri"].to_pylist())
    run_id = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:8]}"
    with lease(out, run_id) as require_held, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        require_put_if_absent(out)
        digests = digests_of(bundle, settings.scoring)
        snapshot = read_snapshot(out)
        leftovers = find_leftovers(out, folder)
        pending = find_pending(
            rows, snapshot, digests, settings.scoring, folder, also=leftovers.paths, mend=True
        )
        if not pending.rows.count:
            remove_work(spent_folders(leftovers))
            return ScoreSummary(out, run_id, 0, pending.done)
        started = time.monotonic()
        plan = plan_work(connect(settings.ray))
        precision = resolve_precision(bundle, settings, plan)
        origin = provenance(bundle, run_id, digests["settings_digest"], precision)
        run = new_run(origin, settings.scoring, snapshot.version)
        budget = Budget(pending.rows.count, settings.scoring.max_rejected, pending.retried)
        before = take_over(leftovers, run, pending, budget)
        summary = ScoreSummary(out, run_id, pending.rows.count, pending.done, pending.rescored, before.images)
        for report in before.reports:
            summary.add(report)
        print(_announce(summary, before, bundle, plan, precision), flush=True)
        if rest := before.rest.rows.count:
            size = unit_images(rest, settings.scoring.batch_images)
            job = Job(
                model=model,
                out=out,
                work=run.begin(out, before.rest.path, size),
                origin=tuple(origin.items()),
                scoring=settings.scoring,
                storage=settings.storage,
                unit_images=size,
                device=plan.device,
                precision=precision,
                budget=budget,
                decoders=max(1, int(plan.cpus)) if plan.use_gpu else 0,
            )
            _collect(_reports(job, plan, rest), summary, budget)
        _require_complete(out, summary, pending, folder)
        worst = find_worst(out, summary.files["scores"], settings.scoring.worst)
        drawn = write_worst(worst, run_id, model, settings.scoring, out, settings.storage)
        summary.heatmaps = [join(out, name) for name in drawn]
        kept, replaced = rewrite_without(out, pending.rescored_ids(), pending.replaces)
        version = snapshot.version + 1
        commit = Commit(
            version=version,
            runs=(_record(summary, origin, before, drawn),),
            partition_by=settings.scoring.partition_by,
            files=summary.files,
            kept=kept,
            replaced=replaced,
            ids=write_run_ids(out, version, pending.path, folder, digests),
            settings=_resolved(bundle, settings),
        )
        require_held()
        publish(out, commit)
        remove_work([*spent_folders(leftovers), run.folder(out)])
        summary.seconds = time.monotonic() - started
    return summary


def _record(summary: ScoreSummary, origin: Row, before: Takeover, heatmaps: list[str]) -> RunRecord:
    return RunRecord(
        **origin,
        created_at=datetime.now(UTC).isoformat(),
        images=summary.images,
        scored=summary.scored,
        rejected=summary.rejects.total(),
        run_ids=tuple(sorted({summary.run_id, *before.run_ids})),
        heatmaps=tuple(heatmaps),
    )


def _require_complete(out: str, summary: ScoreSummary, pending: Pending, folder: Path) -> None:
    """Raise AccountingError, and let no run build on what this one has done, where images do not add up."""
    try:
        require_complete(out, summary.files, pending.path, folder)
    except errors.AccountingError:
        remove_work(list(work_folders(out)))
        raise


def digests_of(bundle: Bundle, scoring: ScoringSettings) -> dict[str, str]:
    """Of the model, and of the settings that decide what a row says: not how the work is cut up."""
    kept = {"max_pixels", "image_memory_mib", "precision"}
    deciding = ScoringSettings.model_validate(scoring.model_dump(include=kept))
    settings = bundle.settings.model_copy(update={"scoring": deciding})
    return {"model_digest": bundle.model_digest, "settings_digest": digest(settings)}


def resolve_precision(bundle: Bundle, settings: Settings, plan: WorkPlan) -> Precision:
    """One for all of a run: with `scoring.precision=auto`, by the hardware of the first worker at hand."""
    safe = choose_precision(settings.scoring.precision, bundle.reference, fast=True)
    if settings.scoring.precision != "auto" or safe == "float32":
        return safe
    task = _has_fast_bfloat16.options(**plan.resources)
    with watchdog("work unit finished"):
        return choose_precision("auto", bundle.reference, fast=result_of(task.remote(plan.device)))


@ray.remote
def _has_fast_bfloat16(device: str) -> bool:
    return has_fast_bfloat16(device)


def _resolved(bundle: Bundle, settings: Settings) -> Row:
    """The settings of a run: the model's own, and those of the job."""
    own = {"scoring": settings.scoring, "ray": settings.ray}
    resolved: Row = bundle.settings.model_copy(update=own).model_dump(mode="json")
    return resolved


def _announce(
    summary: ScoreSummary, before: Takeover, bundle: Bundle, plan: WorkPlan, precision: Precision
) -> str:
    done = f"; {summary.done_before} are scored already" if summary.done_before else ""
    changed = f", {summary.rescored} of them again" if summary.rescored else ""
    line = (
        f"scoring {summary.images} images{changed} with model {bundle.model_version}"
        f" on {plan.workers} {plan.name}(s) in {precision}{done}"
    )
    return "\n".join([line, *before.lines()])


def _reports(job: Job, plan: WorkPlan, images: int) -> ray.data.Dataset:
    """Start nothing yet: the stream of work-unit reports, one JSON text each."""
    parts = share_out(-(-images // job.unit_images), plan.workers)
    # Blocks put by the driver live beside it: a node that is lost takes none of them along.
    numbers = ray.data.from_arrow([pa.table({"id": np.array(part)}) for part in parts])
    numbers.context.target_max_block_size = 1  # each report comes as it is made, not at a block's end
    if plan.use_gpu:
        return numbers.map_batches(
            Actor,
            fn_constructor_args=(job,),
            batch_size=1,
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(size=plan.workers),
            num_cpus=plan.cpus,
            num_gpus=1,
        )
    return numbers.map_batches(
        partial(score_units, job=job),
        batch_size=1,
        batch_format="numpy",
        num_cpus=plan.cpus,
    )


def _collect(reports: ray.data.Dataset, summary: ScoreSummary, budget: Budget) -> None:
    progress = Progress(summary.images, summary.done)
    with watchdog("work unit finished") as alive:
        for row in reports.iter_rows():
            alive.set()
            report = json.loads(row["report"])
            if "error" in report:
                raise getattr(errors, report["error"], errors.StorageError)(report["says"])
            summary.add(report)
            summary.spent.update(report["seconds"])
            budget.require_kept(summary.rejects, report["example"])
            progress.tell(summary.done, summary.rejects.total())
