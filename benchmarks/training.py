"""What Ray costs in training: tiles/s of `raysvq train` beside plain PyTorch, and how long it waits for data.

Run: python -m benchmarks.training [--steps 800] [--rounds 3] [--json FILE]. Trains configs/sample.yaml's
model on generated images in these ways, in turn:

    bare     one process over tiles in memory, as float32: benchmarks/bare_training.py
    raysvq   `raysvq train` with one worker; tiles decoded once, then kept in memory
    torchrun two processes of the bare loop, data-parallel over gloo
    raysvq2  `raysvq train` with two workers
    disk     one worker that keeps no tiles: they are decoded anew in every epoch, from local disk
    s3       the same, from an S3 server on this machine

Rates are of the second half of the steps; validations and checkpoints lie outside. Ratios are medians over
the rounds, with the smallest and the largest. `waiting` is the share of its steps' time that the first worker
spends on getting its batches.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow.compute as pc
import ray

from devtools.s3_server import BUCKET, s3_server, upload
from raysvq.cluster import connect
from raysvq.data.index import build_index
from raysvq.data.manifest import open_manifest, write_manifest
from raysvq.data.stream import normal_tiles, outlier_tiles
from raysvq.imaging.sample import write_sample
from raysvq.model.network import CELL
from raysvq.relay import relay
from raysvq.schema import ANOMALOUS, VALIDATION
from raysvq.settings import Settings, load_settings
from raysvq.training import launch
from raysvq.training.batches import Batches
from raysvq.training.worker import train_on_worker

Pace = dict[str, float]  # tiles_per_s, waiting

RAYSVQ = {
    "raysvq": ["training.workers=1"],
    "raysvq2": ["training.workers=2"],
    "disk": ["training.workers=1", "training.cache_mib=0"],
    "s3": ["training.workers=1", "training.cache_mib=0"],
}
RATIOS = {"raysvq": "bare", "raysvq2": "torchrun"}
WAYS = ["bare", "raysvq", "torchrun", "raysvq2", "disk", "s3"]


def run_bare(tiles: Path, settings: Settings, workers: int) -> Pace:
    """In processes of their own."""
    config = tiles.with_suffix(".json")
    config.write_text(settings.model_dump_json())
    torchrun = ["torch.distributed.run", "--standalone", f"--nproc-per-node={workers}", "-m"]
    command = [*(torchrun if workers > 1 else []), "benchmarks.bare_training", str(tiles), str(config)]
    done = subprocess.run([sys.executable, "-m", *command], check=True, stdout=subprocess.PIPE, text=True)
    return {"tiles_per_s": float(done.stdout)}


def run_raysvq(manifest: str, out: str, settings: Settings) -> Pace:
    """On a cluster of its own."""
    with mock.patch.object(launch, "train_on_worker", timed_worker):
        bundle = launch.train(manifest, out, settings)
    ray.shutdown()
    pace: float = bundle.training["tiles_per_s"]
    before, last = bundle.history["history"]
    tiles = (last["step"] - before["step"]) * settings.training.batch_size
    return {"tiles_per_s": pace, "waiting": last["waited_s"] * pace / tiles}


def timed_worker(config: dict[str, Any]) -> dict[str, Any]:
    """`train_on_worker`; the last row of the history says how long it waited for its batches."""
    waited: list[float] = []
    take = Batches.__next__

    def timed(batches: Batches) -> Any:
        started = time.perf_counter()
        batch = take(batches)
        waited.append(time.perf_counter() - started)
        return batch

    with mock.patch.object(Batches, "__next__", timed):
        outcome = train_on_worker(config)
    before, last = outcome["history"]
    last["waited_s"] = sum(waited[before["step"] - last["step"] :])
    return outcome


def make_manifest(source: str, manifest: str, settings: Settings) -> None:
    """Without outliers to validate on: the model of the last step is kept, and its pace."""
    build_index(source, manifest, settings.split)
    validating = (pc.field("split") == VALIDATION) & (pc.field("label") == ANOMALOUS)
    write_manifest(open_manifest(manifest).to_table(filter=~validating).to_pylist(), manifest)


def save_tiles(manifest: str, settings: Settings, file: Path) -> dict[str, int]:
    """The tiles that raysvq trains on, for the bare loop. Returns how many."""
    connect(settings.ray)
    with relay() as voice:
        normal = _columns(normal_tiles(manifest, settings, voice))
        outlier = _columns(outlier_tiles(manifest, settings, CELL, voice))
    ray.shutdown()
    np.savez(file, normal=normal["tile"], outlier=outlier["tile"], weight=outlier["weight"])
    return {"normal": len(normal["tile"]), "outlier": len(outlier["tile"])}


def _columns(rows: ray.data.Dataset) -> dict[str, np.ndarray]:
    batches = list(rows.iter_batches(batch_size=256, batch_format="numpy"))
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=800, help="of each training (default 800)")
    parser.add_argument("--rounds", type=int, default=3, help="times that all ways are run (default 3)")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    length = [f"training.steps={arguments.steps}", f"training.validate_every={arguments.steps // 2}"]
    settings = {
        way: load_settings("sample", [*length, "training.validation_images=8", *RAYSVQ.get(way, [])])
        for way in WAYS
    }
    found: dict[str, list[Pace]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as name, s3_server(Path(name) / "s3") as server:
        folder = Path(name)
        os.environ |= server.environment
        places = {"disk": str(folder / "disk"), "s3": f"s3://{BUCKET}"}
        source = Path(write_sample(folder / "disk" / "sample"))
        upload(source.parent, f"{places['s3']}/sample")
        for place in places.values():
            make_manifest(f"{place}/sample/{source.name}", f"{place}/manifest.parquet", settings["bare"])
        tiles = folder / "tiles.npz"
        counts = save_tiles(f"{places['disk']}/manifest.parquet", settings["bare"], tiles)
        for turn in range(arguments.rounds):
            for way in arguments.ways:
                place = places["s3" if way == "s3" else "disk"]
                if way in RAYSVQ:
                    out = f"{place}/model-{way}-{turn}"
                    pace = run_raysvq(f"{place}/manifest.parquet", out, settings[way])
                else:
                    pace = run_bare(tiles, settings[way], 2 if way == "torchrun" else 1)
                print(f"round {turn + 1}, {way}: {pace['tiles_per_s']:.1f} tiles/s", flush=True)
                found[way].append(pace)
    rows = [_row(way, found) for way in arguments.ways]
    batch = settings["bare"].training.batch_size
    print(f"\n{arguments.steps} steps of {batch} tiles of 64 x 64 pixels, {_hardware()}")
    print(f"{'':<10}{'tiles/s':>9}{'of':>11}{'ratio':>8}{'from':>7}{'to':>7}{'waiting':>10}")
    for row in rows:
        ratio = (
            f"{row['of']:>11}{row['ratio']:>8.3f}{row['smallest']:>7.3f}{row['largest']:>7.3f}"
            if "ratio" in row
            else " " * 33
        )
        waiting = f"{row['waiting']:>10.1%}" if "waiting" in row else ""
        print(f"{row['way']:<10}{row['tiles_per_s']:>9.1f}{ratio}{waiting}")
    if arguments.json:
        versions = {name: version(name) for name in ("ray", "torch")}
        record = {"hardware": _hardware(), "versions": versions, "steps": arguments.steps, "tiles": counts}
        arguments.json.write_text(json.dumps(record | {"rows": rows}, indent=1) + "\n")


def _row(way: str, found: dict[str, list[Pace]]) -> dict[str, Any]:
    paces = [each["tiles_per_s"] for each in found[way]]
    row: dict[str, Any] = {"way": way, "tiles_per_s": statistics.median(paces), "rounds": paces}
    if way in RAYSVQ:
        row["waiting"] = statistics.median(each["waiting"] for each in found[way])
    if found.get(RATIOS.get(way, "")):
        others = [each["tiles_per_s"] for each in found[RATIOS[way]]]
        ratios = [one / other for one, other in zip(paces, others, strict=True)]
        row |= {"of": RATIOS[way], "ratio": statistics.median(ratios)}
        row |= {"smallest": min(ratios), "largest": max(ratios)}
    return row


def _hardware() -> str:
    """Cores and the processor's name."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    name = names[0].partition(": ")[2] if names else platform.machine()
    return f"{os.cpu_count()} cores, {name}"


if __name__ == "__main__":
    main()
