"""A night of a large fleet planned on one driver, with ids only: what is new against a long history.

Run: python -m benchmarks.fleet_planning [--cameras 1000] [--images 1000] [--nights 0 30 1000] [--filled 30]
[--json FILE] [--folder FOLDER]. No image exists and none is scored. Every camera has so many images on each
day; the last four days are within the lateness window. Earlier nights are closed: some of them hold all
their rows, further ones are hard links to those, under names of their own. Each plan runs in a process of
its own, whose peak memory is printed.
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
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.hardware import processor
from benchmarks.process_memory import peak_bytes
from raysvq.data.sources.folder_scan import Skips
from raysvq.fleet.listing.listing import LISTED, Listing
from raysvq.fleet.planning.plan import known_versions, plan_night
from raysvq.fleet.planning.windows import by_camera, window_of
from raysvq.fleet.settings.cameras import Camera
from raysvq.ledger.entries import append_entries, date_folder
from raysvq.ledger.nights import read_nights, write_nights
from raysvq.ledger.records import ENTRIES, CameraNight, FleetRun
from raysvq.ledger.runs import publish_run
from raysvq.results.commit_log import record_uri
from raysvq.results.format import Commit, RunRecord, no_files
from raysvq.tables import ROW_GROUP

TODAY = date(2026, 5, 4)
LATENESS, CATCH_UP = 3, 31  # days
OPEN = LATENESS + 1  # days before today that are listed: the last night was yesterday
RECORDS = 30  # in each camera's log of commits, and runs in the ledger
CASES = ("new", "nothing")

_IMAGES = """
select 'line-' || c // 20 || '.cam-' || lpad(c::varchar, 4, '0') as camera, date '{day}' as date,
md5(uri) as image_id, uri, 1000000 + i % 9973 as size_bytes, md5(uri || 'v') as etag,
timestamptz '{day} 22:00:00+00' as mtime, c, i
from (
    select c, i, format('s3://raw/north/line-{{}}/cam-{{:04d}}/{day}/{{:06d}}.png', c // 20, c, i) as uri
    from range({cameras}) cameras(c), range({images}) images(i)
)
"""
_ENTRIES = """
select camera, date, image_id, uri, size_bytes, etag, mtime, 'scored' as outcome, i % 100 = 0 as is_anomalous,
'v1' as model_version, repeat('0', 64) as model_digest, repeat('1', 64) as settings_digest,
'conformal' as policy, repeat('2', 64) as decisions_digest, 'run-{day}' as run_id,
{version}::bigint as version, timestamptz '{day} 23:00:00+00' as committed_at
from ({source}) order by camera, image_id
"""
_LISTED = """
select camera, date, image_id, uri, size_bytes, etag, mtime, null::timestamptz as captured_at,
map {{'line': 'line-' || c // 20, 'camera': camera}} as meta from ({source})
"""


def cameras(count: int) -> list[str]:
    """Their names."""
    return [f"line-{number // 20}.cam-{number:04d}" for number in range(count)]


def make_window(out: Path, count: int, images: int) -> None:
    """Entries of the days that are listed again, a file per camera and day as by runs; the records."""
    for ago in range(1, OPEN + 1):
        day = TODAY - ago * timedelta(days=1)
        source = _IMAGES.format(day=day, cameras=count, images=images)
        query = _ENTRIES.format(day=day, version=RECORDS - ago + 1, source=source)
        with duckdb.connect() as connection:
            table = connection.sql(query).to_arrow_table().cast(ENTRIES)
        for number in range(count):
            append_entries(str(out), table.slice(number * images, images))
    run = RunRecord(
        *("run", "v1", "0" * 64, "1" * 64, "0", "float32", "2026-05-03T23:00:00+00:00"),
        images=images,
        scored=images,
        rejected=0,
        run_ids=("run",),
    )
    for name in cameras(count):
        scores = Camera(name, (), "model").folder(str(out))
        for version in range(1, RECORDS + 1):
            uri = Path(record_uri(scores, version))
            uri.parent.mkdir(parents=True, exist_ok=True)
            uri.write_bytes(
                Commit(version, (run,), ("date",), no_files()).to_json() if version == RECORDS else b""
            )


def make_runs(out: Path, count: int) -> None:
    """Nights and records of the last runs."""
    for number in range(1, RECORDS + 1):
        day = TODAY - (RECORDS - number + 1) * timedelta(days=1)
        window = {"listed_since": f"{day - OPEN * timedelta(days=1)}", "listed_until": f"{day}"}
        nights = [
            CameraNight(name, f"run-{number}", f"{day}", "ok", {"camera": name}, **window, version=number)
            for name in cameras(count)
        ]
        write_nights(str(out), number, nights)
        run = FleetRun(
            number,
            f"run-{number}",
            "fleet",
            f"{day}",
            "",
            "",
            "0",
            "",
            {},
            count,
            {},
            0,
            0,
            0,
            0,
            0,
            0,
            0.0,
            0.0,
            {},
        )
        publish_run(str(out), run)


def make_history(out: Path, count: int, images: int, nights: int, filled: int) -> int:
    """Closed nights up to so many; returns the bytes of those with rows of their own."""
    size = 0
    for ago in range(nights):
        day = TODAY - (OPEN + 1 + ago) * timedelta(days=1)
        path = Path(date_folder(str(out), day)) / f"{ago:032x}.parquet"
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if ago < filled:
            source = _IMAGES.format(day=day, cameras=count, images=images)
            with duckdb.connect() as connection:
                query = _ENTRIES.format(day=day, version=1, source=source)
                connection.execute(f"copy ({query}) to '{path}' (format parquet, compression zstd)")
            size += path.stat().st_size
        else:
            earlier = TODAY - (OPEN + 1 + ago % filled) * timedelta(days=1)
            os.link(Path(date_folder(str(out), earlier)) / f"{ago % filled:032x}.parquet", path)
    return size


def make_listing(path: Path, count: int, images: int, new: bool) -> None:
    """What is found in the window."""
    with pq.ParquetWriter(path, LISTED, compression="zstd") as writer:
        for ago in range(0 if new else 1, OPEN + 1):
            source = _IMAGES.format(day=TODAY - ago * timedelta(days=1), cameras=count, images=images)
            with duckdb.connect() as connection:
                for batch in connection.sql(_LISTED.format(source=source)).to_arrow_reader(ROW_GROUP):
                    writer.write_table(pa.Table.from_batches([batch]).cast(LISTED))


def plan(out: Path, case: str, count: int, folder: Path) -> dict[str, float]:
    """One night, from the ledger to what is to be scored."""
    started, used = time.monotonic(), time.process_time()
    history = read_nights(str(out))
    nights = by_camera(history)
    read = time.monotonic()
    windows = {name: window_of(nights[name], TODAY, LATENESS, CATCH_UP) for name in cameras(count)}
    found = {name: Camera(name, (("camera", name),), "model") for name in cameras(count)}
    listing = Listing(out.parent / f"{case}.parquet", found, {}, {}, Skips())
    planned = plan_night(
        str(out),
        listing,
        lambda name: windows[name].since,
        TODAY,
        known_versions(history),
        lambda camera: None,
        folder,
    )
    plans = planned.cameras.values()
    return {
        "listed": sum(each.listed for each in plans),
        "new": sum(each.new for each in plans),
        "failures": sum(each.failure is not None for each in plans),
        "nights_s": read - started,
        "plan_s": time.monotonic() - read,
        "cpu_s": time.process_time() - used,
        "rss_mib": peak_bytes() / 2**20,
    }


def measured(out: Path, case: str, count: int) -> dict[str, float]:
    """A plan in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.fleet_planning", "--case", case, "--folder", str(out)]
    done = subprocess.run([*command, "--cameras", str(count)], check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure(count: int, images: int, nights: list[int], filled: int, place: Path) -> list[dict[str, Any]]:
    """A night with new images at every camera and one without, for histories of growing length."""
    out = place / "fleet"
    make_window(out, count, images)
    make_runs(out, count)
    for case in CASES:
        make_listing(place / f"{case}.parquet", count, images, case == "new")
    results = []
    for closed in sorted(nights):
        written = make_history(out, count, images, closed, filled)
        for case in CASES:
            found = measured(out, case, count)
            results.append({"case": case, "closed_nights": closed, **found})
            print(
                f"{closed:>5} closed nights, {case}: {found['listed']:,.0f} listed, {found['new']:,.0f} new;"
                f" nights read in {found['nights_s']:.1f} s, planned in {found['plan_s']:.1f} s"
                f" ({found['cpu_s']:.1f} s of CPU for both), peak {found['rss_mib']:.0f} MiB"
                + (f" ({written / 1e9:.1f} GB written)" if written else ""),
                flush=True,
            )
            if found["failures"] or found["new"] != (count * images if case == "new" else 0):
                raise RuntimeError(f"the plan is wrong: {found}")
    return results


def main() -> None:
    """Measure, print, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cameras", type=int, default=1000)
    parser.add_argument("--images", type=int, default=1000, help="of each camera and day")
    parser.add_argument("--nights", type=int, nargs="+", default=[0, 30, 1000], help="that are closed")
    parser.add_argument("--filled", type=int, default=30, help="closed nights with rows of their own")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--folder", type=Path, help="where there is room for it")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        with tempfile.TemporaryDirectory(dir=arguments.folder.parent) as name:
            print(json.dumps(plan(arguments.folder, arguments.case, arguments.cameras, Path(name))))
        return
    place = Path(tempfile.mkdtemp(dir=arguments.folder))
    try:
        results = measure(arguments.cameras, arguments.images, arguments.nights, arguments.filled, place)
    finally:
        shutil.rmtree(place)
    if arguments.json:
        report = {"processor": processor(), "cores": os.cpu_count(), "date": f"{datetime.now(UTC):%F}"}
        arguments.json.write_text(json.dumps(report | {"plans": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
