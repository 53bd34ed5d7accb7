"""The scoring job: manifest + bundle -> committed score and reject rows."""

from __future__ import annotations

import hashlib
import heapq
import json
import tempfile
import time
import uuid
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray.data

from raysvq import __version__, errors
from raysvq.cluster import connect, result_of
from raysvq.data.manifest import open_manifest
from raysvq.data.probe import require_readable
from raysvq.lease import lease
from raysvq.model.alias import resolve
from raysvq.model.bundle import Bundle, load_bundle
from raysvq.model.precision import Precision, choose_precision, has_fast_bfloat16
from raysvq.results import COMMITS, SCHEMAS
from raysvq.scoring.account import require_complete
from raysvq.scoring.heatmaps import write_worst
from raysvq.scoring.pending import PENDING, Pending, find_pending
from raysvq.scoring.plan import WorkPlan, plan_work, share_out, unit_images
from raysvq.scoring.progress import Progress
from raysvq.scoring.replace import without_images
from raysvq.scoring.rows import Row, provenance
from raysvq.scoring.sink import Commit, File, Files, write_commit
from raysvq.scoring.worker import Actor, Job, score_units
from raysvq.settings import ScoringSettings, Settings, digest
from raysvq.storage import (
    canonical,
    configure,
    exists,
    join,
    list_objects,
    put_file,
    read_bytes,
    remove_folder,
    write_bytes,
)
from raysvq.watchdog import watchdog

PROBED = 8
WORK = "_work"  # below a score directory: what a run that is not finished has done


@dataclass
class ScoreSummary:
    """What a scoring run did."""

    out: str
    run_id: str
    images: int  # to score in this run
    done_before: int = 0  # images of the manifest that earlier runs committed
    rescored: int = 0  # images whose committed rows this run replaced
    scored: int = 0
    anomalous: int = 0
    rejects: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    spent: Counter[str] = field(default_factory=Counter)  # seconds of all workers: read, score, rows, write
    heatmaps: list[str] = field(default_factory=list)  # of the worst
    files: Files = field(default_factory=lambda: {kind: [] for kind in SCHEMAS})
    worst: list[list[Any]] = field(default_factory=list)  # score, image_id, uri

    @property
    def done(self) -> int:
        """Images accounted for so far."""
        return self.scored + self.rejects.total()

    def add(self, report: dict[str, Any], worst: int) -> None:
        """Count a work unit's report."""
        self.scored += report["scored"]
        self.anomalous += report["anomalous"]
        self.rejects.update(report["reasons"])
        self.spent.update(report["seconds"])
        self.worst = heapq.nlargest(worst, self.worst + report["worst"])
        for kind, files in report["files"].items():
            self.files[kind] += [File(**file) for file in files]


def score(manifest: str, model: str, out: str, settings: Settings) -> ScoreSummary:
    """Score every image of a manifest that is not yet scored in `out`, or has changed since.

    Stopped at any instant and started again with the same arguments, it goes on where it was: what
    counts in the end is the same as if it had never been stopped.

    Args:
        manifest: a manifest, path or URI.
        model: a bundle's folder, path or URI.
        out: the score directory to fill, path or URI.

    Raises:
        DataError, BundleError, StorageError, SettingsError: the run cannot start.
        ScoringError: the processes that score some images die again and again.
        AccountingError: scored and rejected rows do not add up to the manifest.
    """
    configure(settings.storage)
    manifest, model, out = canonical(manifest), resolve(model), canonical(out)
    rows = open_manifest(manifest)
    bundle = load_bundle(model)
    require_readable(rows.head(PROBED, columns=["uri"])["uri"].to_pylist())
    run_id = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:8]}"
    with lease(out, run_id) as require_held, tempfile.TemporaryDirectory() as folder:
        digests = digests_of(bundle, settings.scoring)
        pending = find_pending(rows, out, digests, settings.scoring, Path(folder))
        if not pending.rows.count:
            _clear(out)
            return ScoreSummary(out, run_id, 0, pending.done)
        started = time.monotonic()
        plan = plan_work(connect(settings.ray))
        how = [bundle.model_version, digests["settings_digest"], digest(settings.scoring), __version__]
        work = _work_folder(out, pending, ":".join(how))
        run = _adopt(work) or _begin(work, run_id, resolve_precision(bundle, settings, plan), pending)
        origin = provenance(bundle, run["run_id"], digests["settings_digest"], run["precision"])
        summary = ScoreSummary(out, run["run_id"], pending.rows.count, pending.done, pending.rescored)
        job = Job(
            model=model,
            out=out,
            work=work,
            origin=tuple(origin.items()),
            scoring=settings.scoring,
            storage=settings.storage,
            unit_images=unit_images(summary.images, settings.scoring.batch_images),
            device=plan.device,
            precision=run["precision"],
            decoders=max(1, int(plan.cpus)) if plan.use_gpu else 0,
        )
        print(_announce(summary, bundle, plan, job.precision), flush=True)
        _collect(_reports(job, plan, summary.images), summary, settings.scoring.worst)
        try:
            require_complete(out, summary.files, pending)
        except errors.AccountingError:
            _clear(out)  # a run that is started again must not build on this one
            raise
        kept, replaced = without_images(out, pending.rescored_ids(), run["run_id"])
        require_held()
        write_commit(
            out,
            Commit(
                origin=origin,
                settings=_resolved(bundle, settings),
                images=summary.images,
                files=summary.files,
                kept=kept,
                replaced=replaced,
                partition_by=settings.scoring.partition_by,
            ),
        )
        _clear(out)
        summary.heatmaps = write_worst(summary.worst, model, settings.scoring, out, settings.storage)
        summary.seconds = time.monotonic() - started
    return summary


def _clear(out: str) -> None:
    """Remove what runs left that are not to be taken up again; what stays is not taken up either."""
    work = join(out, WORK)
    with suppress(errors.StorageError):
        if exists(work):
            remove_folder(work)


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


def _work_folder(out: str, pending: Pending, how: str) -> str:
    """Where a run keeps its receipts: the same for the same rows left, model and scoring settings.

    Another one after each commit: what a run left that was stopped after its own is not taken up.
    """
    runs = [info.uri for info in list_objects(join(out, COMMITS), must_exist=False)]
    committed = sum(uri.endswith(".json") for uri in runs)
    with pending.path.open("rb") as file:
        left = hashlib.file_digest(file, "sha256").hexdigest()
    return join(out, WORK, hashlib.sha256(f"{how}:{committed}:{left}".encode()).hexdigest()[:16])


def _adopt(work: str) -> Row | None:
    """What an interrupted run over the same rows was: its id and precision."""
    name = join(work, "run.json")
    return dict(json.loads(read_bytes(name))) if exists(name) else None


def _begin(work: str, run_id: str, precision: Precision, pending: Pending) -> Row:
    """Put the pending rows of a new run in place."""
    run: Row = {"run_id": run_id, "precision": precision}
    put_file(pending.path, join(work, PENDING))
    write_bytes(join(work, "run.json"), json.dumps(run).encode())
    return run


def _announce(summary: ScoreSummary, bundle: Bundle, plan: WorkPlan, precision: Precision) -> str:
    before = f"; {summary.done_before} are scored already" if summary.done_before else ""
    changed = f", {summary.rescored} of them again" if summary.rescored else ""
    return (
        f"scoring {summary.images} images{changed} with model {bundle.model_version}"
        f" on {plan.workers} {plan.name}(s) in {precision}{before}"
    )


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


def _collect(reports: ray.data.Dataset, summary: ScoreSummary, worst: int) -> None:
    progress = Progress(summary.images)
    with watchdog("work unit finished") as alive:
        for row in reports.iter_rows():
            alive.set()
            report = json.loads(row["report"])
            if "error" in report:
                raise getattr(errors, report["error"], errors.StorageError)(report["says"])
            summary.add(report, worst)
            progress.tell(summary.done, summary.rejects.total())
