"""Peak memory of the driver for a small and for a large manifest: `raysvq score --plan`.

Run: python -m benchmarks.driver_memory [--rows 10000 10000000] [--json FILE]. Each manifest is planned
in a process of its own; the difference is what counts, since PyTorch and Ray take the same in both.
Every row has a URI of its own, and every URI can be read: folders that link to themselves give one
picture as many names as are needed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from devtools.untrained import untrained_bundle
from raysvq.model.bundle import save_bundle
from raysvq.schema import MANIFEST
from raysvq.settings import load_settings
from raysvq.storage import image_id
from raysvq.tables import ROW_GROUP

LINKS = 60  # of each folder to itself: 60^4 names for one picture


def make_inputs(folder: Path) -> None:
    """One picture under many names, and a bundle with random weights."""
    images = folder / "images"
    images.mkdir()
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    (images / "picture.png").write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    for number in range(LINKS):
        (images / f"line-{number:02d}").symlink_to(".")
    settings = load_settings(None, ["model.hidden=16"])
    save_bundle(untrained_bundle(settings, threshold=1e9), str(folder / "model"))


def make_manifest(folder: Path, rows: int) -> Path:
    """A manifest of so many rows, written a row group at a time."""
    path = folder / f"manifest-{rows}.parquet"
    size = (folder / "images/picture.png").stat().st_size
    constant = {"size_bytes": size, "etag": None, "mtime": datetime(2026, 1, 1, tzinfo=UTC)}
    constant |= {"label": "unknown", "mask_uri": None, "split": "none", "group": None, "defect_type": None}
    constant |= {"captured_at": None, "meta": [("site", "north")]}
    with pq.ParquetWriter(path, MANIFEST, compression="zstd") as writer:
        for start in range(0, rows, ROW_GROUP):
            numbers = range(start, min(start + ROW_GROUP, rows))
            uris = [f"{folder}/images/{_links(number)}/picture.png" for number in numbers]
            columns = {"image_id": [image_id(uri) for uri in uris], "uri": uris}
            columns |= {name: [value] * len(uris) for name, value in constant.items()}  # type: ignore[dict-item]
            writer.write_table(pa.table(columns, schema=MANIFEST))
    return path


def _links(number: int) -> str:
    places = [number // LINKS**power % LINKS for power in range(4)]
    return "/".join(f"line-{place:02d}" for place in places)


def plan(manifest: Path, folder: Path) -> dict[str, float]:
    """Plan in a process of its own: {"rss_mib": its peak, "seconds": …}."""
    command = [sys.executable, "-m", "benchmarks.driver_memory", "--plan", str(manifest), str(folder)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    print(done.stdout, end="")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def plan_here(manifest: str, folder: str) -> None:
    """What the process of its own does."""
    from raysvq.cli import main

    started = time.monotonic()
    main_arguments = ["score", manifest, "--model", f"{folder}/model", "--out", f"{folder}/scores", "--plan"]
    try:
        main(main_arguments)
    except SystemExit as end:
        if end.code:
            raise
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"rss_mib": rss, "seconds": time.monotonic() - started}), flush=True)


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 10_000_000], help="of the manifests")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--plan", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.plan:
        plan_here(*arguments.plan)
        return
    results = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_inputs(folder)
        for rows in arguments.rows:
            manifest = make_manifest(folder, rows)
            results.append({"rows": rows, **plan(manifest, folder)})
            manifest.unlink()
    print(f"{'rows':>12}{'driver, MiB':>14}{'seconds':>10}")
    for result in results:
        print(f"{result['rows']:>12,}{result['rss_mib']:>14.0f}{result['seconds']:>10.1f}")
    print(f"difference {results[-1]['rss_mib'] - results[0]['rss_mib']:.0f} MiB")
    if arguments.json:
        arguments.json.write_text(json.dumps({"cores": os.cpu_count(), "rows": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
