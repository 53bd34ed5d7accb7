"""Deciding what is new: does it cost what is new, or all that was ever scored?

Nights of so many images are committed to an S3 server on this machine, with ids and records as `raysvq score`
writes them; the score files are named in the records and not written, for nothing here opens them. Then
`find_pending`, what a run does before it scores, is timed in a process of its own against 5, 15 and 30
nights: for the next night, and for the last one once more. With a folder per date, and with one folder for
all. Requirements, with a million images per night: less than 60 s and 1000 MB each; with a folder per date,
after 30 nights at most 1.5 times as much as after 5.

    python -m benchmarks.history --json benchmarks/results/history.json
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.process_memory import peak_bytes
from devtools.s3_server import BUCKET, s3_server
from raysvq.data.manifest import open_manifest
from raysvq.results import Commit, File, RunRecord, publish
from raysvq.results.format import no_files
from raysvq.results.ids import folder_sql, write_ids
from raysvq.schema import MANIFEST
from raysvq.scoring.pending import find_pending
from raysvq.settings import ScoringSettings, StorageSettings
from raysvq.storage import configure, forget_clients, put_file

NIGHTS = (5, 15, 30)  # committed when it is measured
FILES = 4000  # of scores, that a night's record names
MAX_SECONDS, MAX_MB, MAX_GROWTH = 60, 1000, 1.5
LAYOUTS = {
    "a folder per date": "s3://fleet/cam/night-{night:02d}/",
    "one folder": "s3://fleet/cam/{night:02d}-",
}
ORIGIN = {"model_digest": "a" * 64, "settings_digest": "b" * 64}

# The hash stands for that of raysvq.storage.image_id, which makes as many random bits of a URI.
_IMAGES = """
select md5(uri) as image_id, uri, 100000 + hash(uri) % 900000 as size_bytes,
'"' || md5(uri || '#') || '"' as etag,
timestamp '2026-05-01' + interval (n) millisecond as mtime, n
from (select '{prefix}' || lpad(n::varchar, 9, '0') || '.png' as uri, n from range({images}) r(n))
"""
_IDS = """
select unhex(image_id) as image_id, {folder} as folder, size_bytes, etag, mtime, null::varchar as reason,
'{model_digest}' as model_digest, '{settings_digest}' as settings_digest,
'scores/part-' || lpad((n * {files} // {images})::varchar, 24, '0') || '-0123456789abcdef.parquet' as file,
null::varchar as maps_file, false as rescored, {version}::ubigint as version
from ({rows}) order by folder, image_id
"""


def commit_night(out: str, prefix: str, images: int, version: int) -> None:
    """Write ids and record of a night."""
    query = _IDS.format(
        folder=folder_sql("uri"),
        files=FILES,
        images=images,
        version=version,
        rows=_IMAGES.format(prefix=prefix, images=images),
        **ORIGIN,
    )
    with duckdb.connect() as connection:
        written = write_ids(out, f"{version:020d}", connection.sql(query))
    ends = [images * number // FILES for number in range(FILES + 1)]
    files = no_files() | {
        "scores": [
            File(f"scores/part-{number:024d}-0123456789abcdef.parquet", end - start, "c" * 64, 500_000)
            for number, (start, end) in enumerate(itertools.pairwise(ends))
            if end > start
        ]
    }
    names = {"run_id": f"night-{version}", "model_version": "m", "code_version": "0", "precision": "float32"}
    counts = {"images": images, "scored": images, "rejected": 0}
    run = RunRecord(**ORIGIN, **names, **counts, created_at="2026-05-01T00:00:00+00:00", run_ids=())
    publish(out, Commit(version, (run,), (), files, ids=written))


def write_night(manifest: str, prefix: str, images: int, folder: Path) -> None:
    """Write the manifest of a night."""
    path = folder / "manifest.parquet"
    with duckdb.connect() as connection, pq.ParquetWriter(path, MANIFEST, compression="zstd") as writer:
        rows = connection.sql(_IMAGES.format(prefix=prefix, images=images))
        for batch in rows.to_arrow_reader(65_536):
            count = batch.num_rows
            constant = {"label": "unknown", "split": "none"}
            columns = [
                batch[field.name].cast(field.type)
                if field.name in batch.schema.names
                else pa.array([constant[field.name]] * count)
                if field.name in constant
                else pa.array([[]] * count, field.type)
                if field.name == "meta"
                else pa.nulls(count, field.type)
                for field in MANIFEST
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=MANIFEST))
    put_file(path, manifest)


def decide(manifest: str, out: str) -> None:
    """What the process of its own does."""
    configure(StorageSettings())
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        pending = find_pending(open_manifest(manifest), out, ORIGIN, ScoringSettings(), Path(name))
    seconds = time.monotonic() - started
    used = resource.getrusage(resource.RUSAGE_SELF)
    found = {"new": pending.images, "done": pending.done, "seconds": round(seconds, 1)}
    found |= {"cpu_s": round(used.ru_utime + used.ru_stime, 1), "mb": round(peak_bytes() / 1e6)}
    print(json.dumps(found), flush=True)


def measure(layout: str, images: int, nights: tuple[int, ...], folder: Path) -> Iterator[dict[str, Any]]:
    """Commit nights, and decide after some of them."""
    out = f"s3://{BUCKET}/{layout.replace(' ', '-')}/scores"
    manifest = f"s3://{BUCKET}/{layout.replace(' ', '-')}/manifest.parquet"
    for night in range(1, max(nights) + 1):
        commit_night(out, LAYOUTS[layout].format(night=night), images, night)
        if night not in nights:
            continue
        for asked, number, new in (("the next night", night + 1, images), ("the last night again", night, 0)):
            write_night(manifest, LAYOUTS[layout].format(night=number), images, folder)
            command = [sys.executable, "-m", "benchmarks.history", "--decide", manifest, out]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            found = json.loads(done.stdout.splitlines()[-1])
            if (found["new"], found["done"]) != (new, images - new):
                raise SystemExit(f"{layout}, {asked}: expected {new} new images, found {found}")
            yield {"layout": layout, "asked": asked, "nights": night, "images": images, **found}


def problems(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Requirements that the figures do not meet."""
    for row in rows:
        what = f"{row['layout']}, {row['nights']} nights, {row['asked']}"
        if row["seconds"] > MAX_SECONDS or row["mb"] > MAX_MB:
            yield f"{what}: {row['seconds']} s, {row['mb']} MB; expected at most {MAX_SECONDS} s, {MAX_MB} MB"
        first = next(one for one in rows if (one["layout"], one["asked"]) == (row["layout"], row["asked"]))
        if "date" in row["layout"] and row["seconds"] > MAX_GROWTH * first["seconds"] + 1:
            yield f"{what}: {row['seconds']} s, after {first['nights']} nights it was {first['seconds']} s"


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=1_000_000, help="of a night")
    parser.add_argument("--nights", type=int, nargs="+", default=NIGHTS, help="committed when it is measured")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--decide", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.decide:
        decide(*arguments.decide)
        return
    rows: list[dict[str, Any]] = []
    print(f"{'layout':<19}{'asked':<22}{'nights':>6}{'images':>11}{'new':>11}{'s':>7}{'CPU s':>7}{'MB':>6}")
    with tempfile.TemporaryDirectory() as name, s3_server(Path(name) / "s3") as server:
        os.environ |= server.environment
        forget_clients()
        for layout in LAYOUTS:
            for row in measure(layout, arguments.images, tuple(arguments.nights), Path(name)):
                rows.append(row)
                text = f"{row['layout']:<19}{row['asked']:<22}{row['nights']:>7}{row['images']:>11,}"
                print(
                    f"{text}{row['new']:>11,}{row['seconds']:>9}{row['cpu_s']:>7}{row['mb']:>6}", flush=True
                )
    if arguments.json:
        arguments.json.write_text(json.dumps({"cores": os.cpu_count(), "rows": rows}, indent=1) + "\n")
    missed = list(problems(rows))
    for line in missed:
        print(line)
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
