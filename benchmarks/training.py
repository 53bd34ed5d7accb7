"""What Ray costs in training: tiles/s of `raysvq train` beside plain PyTorch, and how long it waits for data.

Run: python -m benchmarks.training [--steps 800] [--rounds 3] [--json FILE]. Trains the model of
configs/sample.yaml on generated images in these ways, in turn:

    bare      one process over tiles in memory, as float32: benchmarks/bare_training.py
    raysvq    `raysvq train` with one worker; tiles are decoded once, then kept in memory
    torchrun  two processes of the bare loop, data-parallel over gloo
    raysvq 2  `raysvq train` with two workers
    disk      one worker that keeps no tiles: they are decoded anew in every epoch, from local disk
    s3        the same, from an S3 server on this machine

Rates are of the second half of the steps, when tiles that are kept are in memory; validation lies outside.
Ratios are medians over the rounds, with the smallest and the largest. `waiting` is the share of that time
that workers wait for their batches.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import ray

from benchmarks.hardware import processor
from devtools.s3_server import BUCKET, s3_server, upload
from raysvq.data.index import build_index
from raysvq.model.network import cell_size
from raysvq.runtime.cluster import connect
from raysvq.runtime.progress import forwarded_progress
from raysvq.sample import write_sample
from raysvq.settings import Settings, load_settings
from raysvq.training.ray_trainer import train
from raysvq.training.tile_stream import normal_tiles, outlier_tiles

Pace = dict[str, float]  # tiles_per_s, waiting
Row = dict[str, Any]

RAYSVQ = {
    "raysvq": ["training.workers=1"],
    "raysvq 2": ["training.workers=2"],
    "disk": ["training.workers=1", "training.cache_mib=0"],
    "s3": ["training.workers=1", "training.cache_mib=0"],
}
BARE = {"bare": 1, "torchrun": 2}  # processes
RATIOS = {"raysvq": "bare", "raysvq 2": "torchrun"}
WAYS = ["bare", "raysvq", "torchrun", "raysvq 2", "disk", "s3"]


@dataclass(frozen=True)
class Fleet:
    """Images on disk and in the bucket, and their tiles as a file."""

    places: dict[str, str]
    tiles: Path
    counts: dict[str, int]  # of tiles


def run_bare(tiles: Path, settings: Settings, workers: int) -> Pace:
    """In processes of their own."""
    config = tiles.with_suffix(".json")
    config.write_text(settings.model_dump_json())
    torchrun = ["torch.distributed.run", "--standalone", f"--nproc-per-node={workers}", "-m"]
    command = [*(torchrun if workers > 1 else []), "benchmarks.bare_training", str(tiles), str(config)]
    done = subprocess.run(
        [sys.executable, "-m", *command],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // workers))},
    )
    return {"tiles_per_s": float(done.stdout)}


def run_raysvq(manifest: str, out: str, settings: Settings) -> Pace:
    """On a cluster of its own."""
    last = train(manifest, out, settings).history["history"][-1]
    ray.shutdown()
    return {"tiles_per_s": last["tiles_per_s"], "waiting": last["data_wait"]}


def make_fleet(folder: Path, images: int, settings: Settings) -> Fleet:
    """Draw, upload, index; and cut the tiles that raysvq trains on."""
    places = {"disk": str(folder / "disk"), "s3": f"s3://{BUCKET}"}
    listing = Path(write_sample(folder / "disk" / "sample", normal=images))
    upload(listing.parent, f"{places['s3']}/sample")
    for place in places.values():
        build_index(f"{place}/sample/{listing.name}", f"{place}/manifest.parquet", settings.split)
    manifest, tiles = f"{places['disk']}/manifest.parquet", folder / "tiles.npz"
    connect(settings.ray)
    with forwarded_progress() as progress:
        normal = _columns(normal_tiles(manifest, settings, progress))
        outlier = _columns(outlier_tiles(manifest, settings, cell_size(settings.model), progress))
    ray.shutdown()
    np.savez(tiles, normal=normal["tile"], outlier=outlier["tile"], weight=outlier["weight"])
    return Fleet(places, tiles, {"normal": len(normal["tile"]), "outlier": len(outlier["tile"])})


def _columns(rows: ray.data.Dataset) -> dict[str, np.ndarray]:
    batches = list(rows.iter_batches(batch_size=256, batch_format="numpy"))
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def run(way: str, fleet: Fleet, length: list[str], number: int) -> Pace:
    """One training."""
    settings = load_settings("sample", [*length, *RAYSVQ.get(way, [])])
    if way in BARE:
        return run_bare(fleet.tiles, settings, BARE[way])
    place = fleet.places["s3" if way == "s3" else "disk"]
    return run_raysvq(f"{place}/manifest.parquet", f"{place}/model-{number}", settings)


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=800, help="of each training (default 800)")
    parser.add_argument("--rounds", type=int, default=3, help="times that all ways are run (default 3)")
    parser.add_argument("--images", type=int, default=400, help="normal ones (default 400)")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    length = [f"training.steps={arguments.steps}", f"training.validate_every={arguments.steps // 2}"]
    length += ["training.validation_images=8", "split.test_fraction=0", "split.gamma=0.1"]
    found: dict[str, list[Pace]] = {way: [] for way in arguments.ways}
    with tempfile.TemporaryDirectory() as name, s3_server(Path(name) / "s3") as server:
        os.environ |= server.environment
        fleet = make_fleet(Path(name), arguments.images, load_settings("sample", length))
        runs = [(turn, way) for turn in range(arguments.rounds) for way in arguments.ways]
        for number, (turn, way) in enumerate(runs):
            pace = run(way, fleet, length, number)
            print(f"round {turn + 1}, {way}: {pace['tiles_per_s']:.1f} tiles/s", flush=True)
            found[way].append(pace)
    rows = [_row(way, found) for way in arguments.ways]
    print(f"\n{arguments.steps} steps, {fleet.counts['normal']} normal tiles, {processor()}\n{table(rows)}")
    if arguments.json:
        versions = {name: version(name) for name in ("ray", "torch")}
        record = {"hardware": processor(), "versions": versions, "steps": arguments.steps}
        record |= {"tiles": fleet.counts, "rows": rows}
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")


def table(rows: list[Row]) -> str:
    """Print one line per way."""
    lines = [f"{'':<10}{'tiles/s':>9}{'of':>11}{'ratio':>8}{'from':>7}{'to':>7}{'waiting':>10}"]
    for row in rows:
        line = f"{row['way']:<10}{row['tiles_per_s']:>9.1f}{row.get('of', ''):>11}"
        line += f"{row['ratio']:>8.3f}{row['from']:>7.3f}{row['to']:>7.3f}" if "ratio" in row else " " * 22
        lines.append(line + (f"{row['waiting']:>10.1%}" if "waiting" in row else ""))
    return "\n".join(lines)


def _row(way: str, found: dict[str, list[Pace]]) -> Row:
    paces = [each["tiles_per_s"] for each in found[way]]
    row: Row = {"way": way, "tiles_per_s": statistics.median(paces), "rounds": paces}
    if way in RAYSVQ:
        row["waiting"] = statistics.median(each["waiting"] for each in found[way])
    if RATIOS.get(way) in found:
        others = [each["tiles_per_s"] for each in found[RATIOS[way]]]
        ratios = [one / other for one, other in zip(paces, others, strict=True)]
        row |= {"of": RATIOS[way], "ratio": statistics.median(ratios), "from": min(ratios), "to": max(ratios)}
    return row


if __name__ == "__main__":
    main()
