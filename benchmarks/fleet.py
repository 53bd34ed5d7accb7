"""What inspecting a fleet costs beside scoring its images.

Run: python -m benchmarks.fleet [--parts plan job idle] [--json FILE]. The parts:

    plan   a night of a thousand cameras and a million images planned, ids only: benchmarks.fleet_planning
    job    images/s of one `raysvq inspect` over many small cameras, and of one `raysvq score` over the same
           images, in turn: from the first scored image to the last, and of the whole command
    idle   seconds of an `inspect` that finds nothing new at a thousand cameras of an S3 server

Each command starts its own Ray on this machine. Where a limit is not kept the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.fleet_planning import measure
from benchmarks.hardware import processor
from benchmarks.scoring import make_images
from devtools.s3_server import BUCKET, s3_server, upload
from devtools.untrained import untrained_bundle
from raysvq.model.bundle import save_bundle
from raysvq.results import read_scores
from raysvq.settings import load_settings

DAY = "2026-05-04"
LEAST_RATIO = 0.85  # of a fleet's images/s to those of one scoring run
MOST_IDLE_S = 20.0
MOST_PLAN_S, MOST_PLAN_MIB = 120.0, 1024.0  # of the driver
FILLED = 2  # closed nights with rows of their own, a million each; the others are links to them
NETWORK = ["model.hidden=32", "model.codebook_size=256", "model.embedding_dim=32"]
PARTS = ("plan", "job", "idle")
Figures = dict[str, Any]


def lay_out(folder: Path, cameras: int, images: int) -> list[str]:
    """Draw images, and file them as `raw/<camera>/DAY/<name>.jpg`; the cameras' names."""
    make_images(folder / "drawn", cameras * images)
    names = [f"cam-{number:04d}" for number in range(cameras)]
    for number, file in enumerate(sorted((folder / "drawn").iterdir())):
        place = folder / "raw" / names[number % cameras] / DAY
        place.mkdir(parents=True, exist_ok=True)
        file.rename(place / file.name)
    return names


def write_fleet(folder: Path, place: str, out: str) -> Path:
    """A fleet of one entry for all cameras below `<place>/raw`."""
    file = folder / "fleet.yaml"
    file.write_text(
        f"fleet: benchmark\nout: {out}\ntimezone: UTC\ndefaults: {{model: {place}/model}}\n"
        f'cameras:\n  - images: "{place}/raw/{{camera}}/{{date:%Y-%m-%d}}/{{name}}.jpg"\n'
    )
    return file


def raysvq(*arguments: str) -> float:
    """Seconds of a command.

    Raises:
        RuntimeError: it did not end well.
    """
    command = [sys.executable, "-c", "from raysvq.cli import main; main()", *arguments]
    started = time.monotonic()
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(f"raysvq {arguments[0]} ended with {ended.returncode}: {ended.stderr[-3000:]}")
    return time.monotonic() - started


def measure_job(folder: Path, cameras: int, images: int, rounds: int) -> Figures:
    """One job over all cameras, and one over one manifest."""
    names = lay_out(folder, cameras, images)
    save_bundle(untrained_bundle(load_settings(None, NETWORK), threshold=1e9), f"{folder}/model")
    raysvq("index", f"{folder}/raw", "--out", f"{folder}/manifest.parquet")
    rates: dict[str, list[float]] = {"score": [], "inspect": []}
    seconds: dict[str, list[float]] = {"score": [], "inspect": []}
    for turn in range(rounds):
        out = f"{folder}/scores-{turn}"
        model = ["--model", f"{folder}/model", "--out", out]
        seconds["score"].append(raysvq("score", f"{folder}/manifest.parquet", *model))
        rates["score"].append(_rate([out]))
        out = f"{folder}/fleet-{turn}"
        fleet = write_fleet(folder, str(folder), out)
        seconds["inspect"].append(raysvq("inspect", "--fleet", str(fleet), "--until", DAY))
        rates["inspect"].append(_rate([f"{out}/cameras/{name}" for name in names]))
    whole = [one / other for one, other in zip(seconds["score"], seconds["inspect"], strict=True)]
    pace = [one / other for one, other in zip(rates["inspect"], rates["score"], strict=True)]
    return {
        "cameras": cameras,
        "images": cameras * images,
        "images_per_s": rates,
        "seconds": seconds,
        "ratio": statistics.median(pace),
        "ratio_of_commands": statistics.median(whole),
    }


def measure_idle(folder: Path, cameras: int, rounds: int) -> Figures:
    """Nights with nothing new, after one with an image of each camera."""
    with s3_server(folder / "s3") as server:
        os.environ |= server.environment
        place = f"s3://{BUCKET}"
        lay_out(folder, cameras, 1)
        upload(folder / "raw", f"{place}/raw")
        save_bundle(untrained_bundle(load_settings(None, NETWORK), threshold=1e9), f"{place}/model")
        night = ["inspect", "--fleet", str(write_fleet(folder, place, f"{place}/fleet")), "--until", DAY]
        first = raysvq(*night)
        return {"cameras": cameras, "first_s": first, "idle_s": [raysvq(*night) for _ in range(rounds)]}


def measure_plan(folder: Path, nights: list[int]) -> Figures:
    """Plans against histories of so many closed nights."""
    return {"plans": measure(1000, 1000, nights, FILLED, folder)}


def _is_kept(found: Figures) -> bool:
    """Whether all limits are kept."""
    plans = found.get("plan", {}).get("plans", [])
    return (
        all(plan["nights_s"] + plan["plan_s"] <= MOST_PLAN_S for plan in plans)
        and all(plan["rss_mib"] <= MOST_PLAN_MIB for plan in plans)
        and found.get("job", {"ratio": LEAST_RATIO})["ratio"] >= LEAST_RATIO
        and all(seconds <= MOST_IDLE_S for seconds in found.get("idle", {"idle_s": []})["idle_s"])
    )


def _rate(folders: list[str]) -> float:
    """Images/s from the first scored one to the last."""
    times: list[datetime] = []
    for folder in folders:
        times += read_scores(folder, columns=["scored_at"])["scored_at"].to_pylist()
    return (len(times) - 1) / (max(times) - min(times)).total_seconds()


def main() -> None:
    """Measure, print, write the JSON, exit with 1 where a limit is not kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--cameras", type=int, default=200, help="of `job` (default 200)")
    parser.add_argument("--images", type=int, default=50, help="of each of them (default 50)")
    parser.add_argument("--idle-cameras", type=int, default=1000, help="of `idle` (default 1000)")
    parser.add_argument("--nights", type=int, nargs="+", default=[0, 30, 1000], help="closed ones, of `plan`")
    parser.add_argument("--rounds", type=int, default=2, help="times that each is measured (default 2)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    parts: dict[str, Callable[[Path], Figures]] = {
        "plan": lambda folder: measure_plan(folder, arguments.nights),
        "job": lambda folder: measure_job(folder, arguments.cameras, arguments.images, arguments.rounds),
        "idle": lambda folder: measure_idle(folder, arguments.idle_cameras, arguments.rounds),
    }
    found: Figures = {"processor": processor()}
    for part in arguments.parts:
        with tempfile.TemporaryDirectory() as name:
            found[part] = parts[part](Path(name))
        _print(part, found[part])
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    sys.exit(int(not _is_kept(found)))


def _print(part: str, figures: Figures) -> None:
    if part == "plan":  # printed as it was measured
        return
    if part == "idle":
        nights = ", ".join(f"{seconds:.1f} s" for seconds in figures["idle_s"])
        print(
            f"nothing new at {figures['cameras']:,} cameras: {nights} (at most {MOST_IDLE_S:.0f} s);"
            f" the night before, one image each: {figures['first_s']:.0f} s",
            flush=True,
        )
        return
    print(f"{figures['images']:,} images of {figures['cameras']} cameras")
    for way in ("score", "inspect"):
        rates = ", ".join(f"{rate:.1f}" for rate in figures["images_per_s"][way])
        seconds = ", ".join(f"{second:.0f}" for second in figures["seconds"][way])
        print(f"  {way:<8} {rates} images/s; the command {seconds} s")
    print(
        f"  inspect / score: {figures['ratio']:.2f} of the images/s (at least {LEAST_RATIO}),"
        f" {figures['ratio_of_commands']:.2f} as commands",
        flush=True,
    )


if __name__ == "__main__":
    main()
