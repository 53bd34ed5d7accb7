"""The scoring job: manifest + bundle -> committed score and reject rows."""

from __future__ import annotations

import hashlib
import heapq
import json
import tempfile
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import ray.data
from ray.exceptions import RayTaskError

from raysvq.cluster import connect
from raysvq.data.manifest import Tally, open_manifest
from raysvq.data.probe import require_readable
from raysvq.errors import AccountingError, RaysvqError
from raysvq.model.bundle import Bundle, load_bundle
from raysvq.scoring.heatmaps import write_heatmaps
from raysvq.scoring.lease import lease
from raysvq.scoring.pending import PENDING, Pending, find_pending
from raysvq.scoring.plan import ActorPlan, plan_actors
from raysvq.scoring.rows import Row, provenance
from raysvq.scoring.sink import File, write_commit
from raysvq.scoring.worker import ScoreImages
from raysvq.settings import ScoringSettings, Settings, digest
from raysvq.storage import (
    canonical,
    exists,
    filesystem,
    join,
    put_file,
    read_bytes,
    remove_folder,
    write_bytes,
)

PROBED = 8
REPORT_EVERY_S = 5.0
WORK = "_work"  # below a score directory: what a run that is not finished has done
READERS = 16  # result files read at once for the final count
MOST_BLOCKS = 2000  # beyond, several work units share one


@dataclass
class ScoreSummary:
    """What a scoring run did."""

    out: str
    run_id: str
    images: int  # to score in this run
    done_before: int = 0  # images of the manifest that earlier runs committed
    scored: int = 0
    anomalous: int = 0
    rejects: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    heatmaps: list[str] = field(default_factory=list)
    files: dict[str, list[File]] = field(default_factory=lambda: {"scores": [], "rejects": [], "maps": []})
    worst: list[list[Any]] = field(default_factory=list)  # score, image_id, uri

    @property
    def done(self) -> int:
        """Images accounted for so far."""
        return self.scored + self.rejects.total()


def score(manifest: str, model: str, out: str, settings: Settings) -> ScoreSummary:
    """Score every image of a manifest that is not yet scored in `out`.

    Stopped at any instant and started again with the same arguments, it goes on where it was: what
    counts in the end is the same as if it had never been stopped.

    Args:
        manifest: a manifest, path or URI.
        model: a bundle's folder, path or URI.
        out: the score directory to fill, path or URI.

    Raises:
        DataError, BundleError, StorageError, SettingsError: the run cannot start.
        AccountingError: scored and rejected rows do not add up to the manifest.
    """
    manifest, model, out = canonical(manifest), canonical(model), canonical(out)
    rows = open_manifest(manifest)
    bundle = load_bundle(model)
    require_readable(rows.head(PROBED, columns=["uri"])["uri"].to_pylist())
    settings_digest = _digest(bundle, settings.scoring)
    run_id = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:8]}"
    with lease(out, run_id) as require_held, tempfile.TemporaryDirectory() as folder:
        origin = provenance(bundle, run_id, settings_digest)
        pending = find_pending(rows, out, origin, Path(folder))
        work = _work_folder(out, pending, f"{bundle.model_digest}:{digest(settings.scoring)}")
        run_id = _adopt(work, run_id, pending)
        summary = ScoreSummary(out, run_id, pending.rows.count, done_before=pending.done)
        if not summary.images:
            return summary
        origin["run_id"] = run_id
        started = time.monotonic()
        plan = plan_actors(connect(settings.ray))
        reports = _run(model, out, work, origin, settings.scoring, plan, summary.images)
        print(_announce(summary, bundle), flush=True)
        _collect(reports, summary, settings.scoring.worst)
        _account(out, summary.files, pending)
        summary.heatmaps = write_heatmaps(summary.worst, model, settings.scoring, out)
        require_held()
        write_commit(out, origin, _resolved(bundle, settings), summary.files, summary.images)
        remove_folder(join(out, WORK))  # with what runs left that were never taken up again
        summary.seconds = time.monotonic() - started
    return summary


def _digest(bundle: Bundle, scoring: ScoringSettings) -> str:
    """Of the settings that decide what a row says; how the work is cut up is not among them."""
    kept = {"max_pixels", "image_memory_mib", "precision"}
    deciding = ScoringSettings.model_validate(scoring.model_dump(include=kept))
    return digest(bundle.settings.model_copy(update={"scoring": deciding}))


def _resolved(bundle: Bundle, settings: Settings) -> Row:
    """The settings of a run: the model's own, and those of the job."""
    own = {"scoring": settings.scoring, "ray": settings.ray}
    resolved: Row = bundle.settings.model_copy(update=own).model_dump(mode="json")
    return resolved


def _work_folder(out: str, pending: Pending, how: str) -> str:
    """Where a run keeps its receipts: the same for the same rows left, model and scoring settings."""
    with pending.path.open("rb") as file:
        left = hashlib.file_digest(file, "sha256").hexdigest()
    return join(out, WORK, hashlib.sha256(f"{how}:{left}".encode()).hexdigest()[:16])


def _adopt(work: str, run_id: str, pending: Pending) -> str:
    """Put the pending rows in place for a new run; of one that was interrupted, take the id over."""
    name = join(work, "run.json")
    if exists(name):
        taken: str = json.loads(read_bytes(name))["run_id"]
        return taken
    if pending.rows.count:
        put_file(pending.path, join(work, PENDING))
        write_bytes(name, json.dumps({"run_id": run_id}).encode())
    return run_id


def _announce(summary: ScoreSummary, bundle: Bundle) -> str:
    before = f"; {summary.done_before} are scored already" if summary.done_before else ""
    return f"scoring {summary.images} images with model {bundle.model_version}{before}"


def _run(
    model: str, out: str, work: str, origin: Row, scoring: ScoringSettings, plan: ActorPlan, images: int
) -> ray.data.Dataset:
    """Start nothing yet: the stream of work-unit reports, one JSON text each."""
    units = -(-images // scoring.batch_images)
    return ray.data.range(units, override_num_blocks=min(units, MOST_BLOCKS)).map_batches(
        ScoreImages,
        fn_constructor_args=(model, out, work, scoring, origin, "cuda" if plan.use_gpu else "cpu"),
        batch_size=1,
        batch_format="numpy",
        compute=ray.data.ActorPoolStrategy(size=plan.actors),
        num_cpus=plan.cpus,
        num_gpus=1 if plan.use_gpu else None,
    )


def _collect(reports: ray.data.Dataset, summary: ScoreSummary, worst: int) -> None:
    started = told = time.monotonic()
    try:
        for row in reports.iter_rows():
            report = json.loads(row["report"])
            summary.scored += report["scored"]
            summary.anomalous += report["anomalous"]
            summary.rejects.update(report["reasons"])
            summary.worst = heapq.nlargest(worst, summary.worst + report["worst"])
            for kind, files in report["files"].items():
                summary.files[kind] += [File(**file) for file in files]
            now = time.monotonic()
            if now - told > REPORT_EVERY_S or summary.done == summary.images:
                told = now
                print(_line(summary, now - started), flush=True)
    except RayTaskError as error:
        if isinstance(error.cause, RaysvqError):
            raise error.cause from error
        raise


def _line(summary: ScoreSummary, seconds: float) -> str:
    pace = summary.done / max(seconds, 1e-9)
    left = (summary.images - summary.done) / pace if pace else 0.0
    return (
        f"{summary.done}/{summary.images} images  {pace:.1f} images/s"
        f"  {summary.rejects.total()} rejected  {left:.0f} s left"
    )


def _account(out: str, files: dict[str, list[File]], pending: Pending) -> None:
    """Compare the ids in the files just written with the rows that were to be scored."""
    written = [file for kind in ("scores", "rejects") for file in files[kind]]
    found = Tally()
    with ThreadPoolExecutor(READERS) as pool:
        for part in pool.map(lambda file: _tally_of(out, file), written):
            found.merge(part)
    if found == pending.rows:
        return
    ids = [image for file in written for image in _ids(out, file).to_pylist()]
    wanted = set(pq.read_table(pending.path, columns=["image_id"])["image_id"].to_pylist())
    twice = [image for image, times in Counter(ids).items() if times > 1]
    lost, strange = sorted(wanted - set(ids)), sorted(set(ids) - wanted)
    raise AccountingError(
        f"{out}: {pending.rows.count} images to score, {found.count} rows written;"
        f" lost {lost[:5]}, twice {twice[:5]}, not in the manifest {strange[:5]}; nothing was committed"
    )


def _tally_of(out: str, file: File) -> Tally:
    result = Tally()
    result.add(_ids(out, file))
    return result


def _ids(out: str, file: File) -> pa.ChunkedArray:
    fs, path = filesystem(join(out, file.name))
    return ds.dataset(path, filesystem=fs, format="parquet").to_table(columns=["image_id"])["image_id"]
