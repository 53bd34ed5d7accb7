"""A large night on one driver: a manifest planned, and its results reconciled and committed, with ids only.

Run: python -m benchmarks.scale [--rows 1000000 100000000] [--json FILE] [--folder FOLDER]. No image exists
and none is scored: result files hold what reconciling reads of them. Planning and reconciling each run
in a process of their own, whose peak memory is printed. 100 million rows take about 40 GB of the folder, for
about half an hour.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.hardware import processor
from benchmarks.process_memory import peak_bytes
from raysvq.data.manifest import ROW_GROUP, open_manifest
from raysvq.results.format import Commit, File, Files, RunRecord, no_files
from raysvq.results.reconcile import require_complete, write_run_ids
from raysvq.schema import MANIFEST
from raysvq.scoring.pending import PENDING, find_pending
from raysvq.scoring.plan import unit_images
from raysvq.settings import ScoringSettings

PREFIXES = 10_000  # cameras, each with the same share of the images
IMAGE_BYTES = 1_000_000  # of the smallest file
DIGESTS = {"model_digest": "0" * 64, "settings_digest": "1" * 64}
STEPS = ("plan", "reconcile")

_MANIFEST = """
copy (
    select md5(uri) as image_id, uri, {image_bytes} + i % 9973 as size_bytes, md5(uri || 'v') as etag,
    timestamptz '2026-05-04 22:00:00+00' as mtime, 'unknown' as label, null::varchar as mask_uri,
    'none' as split, null::varchar as "group", null::varchar as defect_type,
    timestamptz '2026-05-04 21:00:00+00' as captured_at
    from (select i, format('s3://raw/north/camera-{{:05d}}/2026-05-04/{{:09d}}.png', i % {prefixes}, i) as uri
    from range({rows}) t(i))
) to '{path}' (format parquet, compression zstd, row_group_size 122880)
"""


def make_manifest(folder: Path, rows: int) -> Path:
    """A manifest of so many images over PREFIXES prefixes."""
    raw, path = folder / "raw.parquet", folder / "listed.parquet"
    with duckdb.connect() as connection:
        connection.execute("set preserve_insertion_order = false; set memory_limit = '2GiB'")
        connection.execute(_MANIFEST.format(prefixes=PREFIXES, image_bytes=IMAGE_BYTES, rows=rows, path=raw))
    with pq.ParquetWriter(path, MANIFEST, compression="zstd") as writer:
        for batch in pq.ParquetFile(raw).iter_batches(batch_size=ROW_GROUP):
            meta = pa.nulls(batch.num_rows, MANIFEST.field("meta").type)
            writer.write_table(pa.Table.from_batches([batch]).append_column("meta", meta).cast(MANIFEST))
    raw.unlink()
    return path


def make_results(folder: Path) -> Path:
    """Result files for all pending rows, as many per file as a work unit has; returns their list."""
    scores = folder / "scores" / "scores"
    scores.mkdir(parents=True)
    pending = pq.ParquetFile(folder / PENDING)
    size = unit_images(pending.metadata.num_rows, IMAGE_BYTES, None)
    names: list[tuple[str, int]] = []
    for batch in pending.iter_batches(batch_size=size, columns=["image_id"]):
        name = f"scores/part-{len(names):09d}.parquet"
        pq.write_table(pa.Table.from_batches([batch]), folder / "scores" / name, compression="zstd")
        names.append((name, batch.num_rows))
    listed = folder / "files.json"
    listed.write_text(json.dumps(names))
    return listed


def plan(folder: Path) -> dict[str, float]:
    """What is new, against an empty score directory."""
    manifest = open_manifest(str(folder / "listed.parquet"))
    pending = find_pending(manifest, str(folder / "scores"), DIGESTS, ScoringSettings(), folder)
    size = unit_images(pending.images, pending.image_bytes, None)
    return {"images": pending.images, "units": -(-pending.images // size), "unit_images": size}


def reconcile(folder: Path) -> dict[str, float]:
    """Ids of all rows against those that were to be scored; then the id index and the record."""
    files: Files = no_files() | {
        "scores": [
            File(name, rows, "0" * 64, 0) for name, rows in json.loads((folder / "files.json").read_text())
        ]
    }
    out = str(folder / "scores")
    require_complete(out, files, folder / PENDING, folder)
    ids = write_run_ids(out, 1, folder / PENDING, folder, DIGESTS)
    images = sum(file.rows for file in files["scores"])
    run = RunRecord(
        run_id="run",
        model_version="model",
        **DIGESTS,
        code_version="0",
        precision="float32",
        created_at="",
        images=images,
        scored=images,
        rejected=0,
        run_ids=("run",),
    )
    record = Commit(version=1, runs=(run,), partition_by=(), files=files, ids=ids).to_json()
    return {
        "files": len(files["scores"]),
        "record_mb": len(record) / 1e6,
        "ids_bytes_per_image": sum(file.size_bytes or 0 for file in ids) / images,
    }


def measured(step: str, folder: Path) -> dict[str, Any]:
    """A step in a process of its own: its seconds and peak memory, and what it counted."""
    command = [sys.executable, "-m", "benchmarks.scale", "--step", step, "--folder", str(folder)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def run_step(step: str, folder: Path) -> None:
    """What the process of its own does."""
    started = time.monotonic()
    counted = {"plan": plan, "reconcile": reconcile}[step](folder)
    seconds = time.monotonic() - started
    rss_mib = peak_bytes() / 2**20
    print(json.dumps({"seconds": seconds, "rss_mib": rss_mib, **counted}), flush=True)


def measure(rows: int, folder: Path) -> dict[str, Any]:
    """All steps for a night of so many images."""
    manifest = make_manifest(folder, rows)
    found: dict[str, Any] = {"rows": rows, "manifest_bytes_per_image": manifest.stat().st_size / rows}
    found["plan"] = measured("plan", folder)
    make_results(folder)
    found["reconcile"] = measured("reconcile", folder)
    return found


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--rows", type=int, nargs="+", default=[1_000_000, 100_000_000], help="of the manifests"
    )
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--folder", type=Path, help="where there is room for it")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        run_step(arguments.step, arguments.folder)
        return
    results = []
    for rows in arguments.rows:
        folder = Path(tempfile.mkdtemp(dir=arguments.folder))
        try:
            results.append(measure(rows, folder))
        finally:
            shutil.rmtree(folder)
        print_result(results[-1])
    if arguments.json:
        report = {"processor": processor(), "cores": os.cpu_count(), "nights": results}
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


def print_result(found: dict[str, Any]) -> None:
    """A night's figures."""
    planned, reconciled = found["plan"], found["reconcile"]
    print(f"{found['rows']:,} images over {PREFIXES:,} prefixes")
    print(f"  manifest   {found['manifest_bytes_per_image']:.0f} bytes per image")
    for name, step in (("plan", planned), ("reconcile", reconciled)):
        print(f"  {name:<10} {step['seconds']:.0f} s, peak {step['rss_mib']:.0f} MiB")
    print(f"  units      {planned['units']:,} of {planned['unit_images']:,} images")
    print(f"  record     {reconciled['record_mb']:.1f} MB for {reconciled['files']:,} files")
    print(f"  ids        {reconciled['ids_bytes_per_image']:.0f} bytes per image", flush=True)


if __name__ == "__main__":
    main()
