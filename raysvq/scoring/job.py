"""The scoring job: manifest + bundle -> committed score and reject rows."""

from __future__ import annotations

import heapq
import json
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import ray.data
from ray.exceptions import RayTaskError

from raysvq.cluster import Capacity, connect
from raysvq.data.manifest import Tally, open_manifest, tally
from raysvq.data.probe import require_readable
from raysvq.errors import AccountingError, DataError, RaysvqError
from raysvq.model.bundle import load_bundle
from raysvq.results import find_commits
from raysvq.schema import SOURCE_FIELDS
from raysvq.scoring.heatmaps import write_heatmaps
from raysvq.scoring.rows import Row, provenance
from raysvq.scoring.sink import File, write_commit
from raysvq.scoring.worker import ScoreImages
from raysvq.settings import Settings, digest
from raysvq.storage import canonical, filesystem, join, require_writable

PROBED = 8
REPORT_EVERY_S = 5.0
_COLUMNS = [*(item.name for item in SOURCE_FIELDS), "label", "split"]


@dataclass
class ScoreSummary:
    """What a scoring run did."""

    out: str
    run_id: str
    images: int
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
    """Score every image of a manifest.

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
    _require_fresh(out)
    require_readable(rows.head(PROBED, columns=["uri"])["uri"].to_pylist())
    require_writable(out)
    expected = tally(rows)
    run_id = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:8]}"
    origin = provenance(
        bundle, run_id, digest(bundle.settings.model_copy(update={"scoring": settings.scoring}))
    )
    summary = ScoreSummary(out, run_id, expected.count)
    started = time.monotonic()
    reports = _run(manifest, model, origin, settings, connect(settings.ray), out)
    print(f"scoring {expected.count} images with model {bundle.model_version}", flush=True)
    _collect(reports, summary, settings.scoring.worst)
    _account(out, summary.files, expected, rows)
    summary.heatmaps = write_heatmaps(summary.worst, model, settings.scoring, out)
    write_commit(out, origin, summary.files, expected.count)
    summary.seconds = time.monotonic() - started
    return summary


def _require_fresh(out: str) -> None:
    if commits := find_commits(out):
        runs = ", ".join(commit["run_id"] for commit in commits)
        raise DataError(f"{out} already holds the finished run {runs}; choose another folder")


def _run(
    manifest: str, model: str, origin: Row, settings: Settings, capacity: Capacity, out: str
) -> ray.data.Dataset:
    """Start nothing yet: the stream of work-unit reports, one JSON row each."""
    fs, path = filesystem(manifest)
    gpus = int(capacity.gpus)
    actors = gpus or max(1, int(capacity.cpus))
    # One CPU stays free for reading the manifest and for rebuilding what a lost node held.
    cpus = max(0.1, int(100 * (capacity.cpus - 1) / actors) / 100)
    units = (
        ray.data.read_parquet(path, filesystem=fs)
        .select_columns(_COLUMNS)
        .repartition(target_num_rows_per_block=settings.scoring.batch_images)
    )
    return units.map_batches(
        ScoreImages,
        fn_constructor_args=(model, out, settings.scoring, origin, "cuda" if gpus else "cpu"),
        batch_size=settings.scoring.batch_images,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=actors),
        num_cpus=min(1.0, cpus),
        num_gpus=1 if gpus else None,
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


def _account(out: str, files: dict[str, list[File]], expected: Tally, manifest: ds.Dataset) -> None:
    """Compare the ids in the files just written with the manifest's."""
    written = [_ids(out, file) for kind in ("scores", "rejects") for file in files[kind]]
    found = Tally()
    for ids in written:
        found.add(ids)
    if found == expected:
        return
    ids = pa.concat_arrays([part.combine_chunks() for part in written]).to_pylist() if written else []
    wanted = set(manifest.to_table(columns=["image_id"])["image_id"].to_pylist())
    twice = [image for image, times in Counter(ids).items() if times > 1]
    lost, strange = sorted(wanted - set(ids)), sorted(set(ids) - wanted)
    raise AccountingError(
        f"{out}: {expected.count} images in the manifest, {found.count} rows written;"
        f" lost {lost[:5]}, twice {twice[:5]}, not in the manifest {strange[:5]}; nothing was committed"
    )


def _ids(out: str, file: File) -> pa.ChunkedArray:
    fs, path = filesystem(join(out, file.name))
    return ds.dataset(path, filesystem=fs, format="parquet").to_table(columns=["image_id"])["image_id"]
