"""What Ray costs: images/s of `raysvq score` beside bare loops over the same images, model and cores.

Run: python -m benchmarks.scoring [--images 5000] [--rounds 3] [--json FILE]. Three ways, in turn:

    raysvq   the batch job, on a cluster started on this machine
    bare     one process per core, each with its share of the images: same decoder, model, engine and rows
    naive    one process, one thing after the other: Pillow, then one tile at a time in float32

raysvq and bare read the images from local disk, and then from an S3 server on this machine, where raysvq
leaves its results as well. Rates are of the steady state, from the first scored image to the last; ratios
are medians over the rounds. `start-up` is a job of ten images as a command, from start to end.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import ray
import torch
from PIL import Image

from devtools.s3_server import BUCKET, s3_server, upload
from devtools.untrained import untrained_bundle
from raysvq.data.index import build_index
from raysvq.data.manifest import open_manifest
from raysvq.imaging.tiling import cut, plan_tiles
from raysvq.model.bundle import load_bundle, save_bundle
from raysvq.model.bundle_summary import OPENVINO_DEVIATION, Reference
from raysvq.model.device import relative_deviation
from raysvq.model.engines import Backend, choose_backend, engines_with_bfloat16, look_around
from raysvq.model.scorer import ImageScorer
from raysvq.results import read_scores
from raysvq.results.writer import write_unit
from raysvq.runtime.cluster import connect
from raysvq.scoring.fetch import fetch, in_groups
from raysvq.scoring.job import score
from raysvq.scoring.rows import Row, score_row
from raysvq.scoring.work import provenance
from raysvq.settings import Settings, load_settings

CASES = {
    "64 x 64 tiles": ["tiles.mode=tiles", "tiles.size=64"],
    "256 x 256 whole": ["tiles.mode=whole", "tiles.size=256"],
}
NETWORK = ["model.hidden=64", "model.codebook_size=256", "model.embedding_dim=32"]
SIDE, PICTURES = 256, 64
NAIVE_IMAGES = 300


def make_images(folder: Path, count: int) -> None:
    """JPEG files of textured pictures; PICTURES different ones under `count` names."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    encoded = []
    for _ in range(PICTURES):
        noise = cv2.GaussianBlur(rng.normal(size=(SIDE, SIDE, 3)), (0, 0), 2)
        picture = np.clip(noise / noise.std() * 25 + 128, 0, 255).astype(np.uint8)
        encoded.append(cv2.imencode(".jpg", picture)[1].tobytes())
    for number in range(count):
        (folder / f"{number:06d}.jpg").write_bytes(encoded[number % PICTURES])


def make_model(uri: str, settings: Settings, examples: list[Path]) -> Backend:
    """A bundle with random weights: the arithmetic is the same. Returns what it is scored with."""
    bundle = untrained_bundle(settings, threshold=1e9)
    scorer = ImageScorer(bundle.model, settings, settings.scoring)
    contents = [file.read_bytes() for file in examples]
    exact = [scorer(content).image_score for content in contents]
    largest: dict[str, float] = {}
    for engine in engines_with_bfloat16(settings.model, bundle.model.has_bfloat16):
        low = scorer.in_bfloat16(engine)
        near = [low(content).image_score for content in contents]
        largest[engine] = max(map(relative_deviation, near, exact))
    validation = bundle.reference.validation | {OPENVINO_DEVIATION: largest.get("openvino")}
    reference = Reference({}, validation, largest.get("torch"))
    save_bundle(replace(bundle, reference=reference), uri)
    return choose_backend(settings.scoring, settings.model, reference.deviations, look_around("cpu"))


def run_raysvq(manifest: str, model: str, out: str, settings: Settings) -> float:
    """Images/s."""
    score(manifest, model, out, settings)
    return _rate(read_scores(out, columns=["scored_at"])["scored_at"].to_pylist())


def start_up(manifest: str, model: str, out: str) -> float:
    """Seconds of a command that scores what is in a small manifest."""
    command = [sys.executable, "-c", "from raysvq.cli import main; main()", "score", manifest]
    started = time.monotonic()
    subprocess.run([*command, "--model", model, "--out", out], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - started


def run_bare(manifest: str, model: str, out: Path, settings: Settings, backend: Backend) -> float:
    """Images per second of one process per core."""
    rows = open_manifest(manifest).to_table().to_pylist()
    cores = os.cpu_count() or 1
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(cores)
    shares = [(rows[core::cores], model, str(out), settings, backend, ready) for core in range(cores)]
    processes = [context.Process(target=_bare_process, args=share) for share in shares]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    files = (out / "scores").glob("*.parquet")
    return _rate(
        [at for file in files for at in pq.read_table(file, partitioning=None)["scored_at"].to_pylist()]
    )


def _bare_process(
    rows: list[Row], model: str, out: str, settings: Settings, backend: Backend, ready: Any
) -> None:
    torch.set_num_threads(1)
    bundle = load_bundle(model)
    scorer = ImageScorer(
        bundle.model, bundle.settings, settings.scoring, precision=backend.precision, engine=backend.engine
    )
    origin = provenance(bundle, "bare", "bare", backend)
    together = 16 if bundle.settings.tiles.mode == "whole" else 1
    ready.wait()
    for start in range(0, len(rows), 128):
        scored = []
        for group in in_groups(fetch(rows[start : start + 128]), together):
            results = scorer.score_many([content for _, content in group])  # type: ignore[misc]
            scored += [
                score_row(row, result, bundle.decisions, origin)  # type: ignore[arg-type]
                for (row, _), result in zip(group, results, strict=True)
            ]
        write_unit(out, f"{os.getpid()}-{start}", {"scores": scored, "rejects": [], "maps": []}, {})


def run_naive(files: list[Path], model: str) -> float:
    """Images/s of the plain way."""
    bundle = load_bundle(model)
    started = time.perf_counter()
    with torch.inference_mode():
        for file in files:
            image = np.asarray(Image.open(io.BytesIO(file.read_bytes())).convert("RGB"))
            for tile in cut(image, plan_tiles(*image.shape[:2], bundle.settings.tiles)):
                pixels = torch.from_numpy(tile.astype(np.float32) / 255).permute(2, 0, 1)[None]
                float(bundle.model.distance_map(pixels).square().sum().sqrt())
    return len(files) / (time.perf_counter() - started)


def run_case(number: int, overrides: list[str], place: dict[str, str], folder: Path, rounds: int) -> Row:
    """All ways, `rounds` times in turn."""
    settings = load_settings(None, [*overrides, *NETWORK])
    files = sorted((folder / "images").iterdir())
    models = {name: f"{base}/model-{number}" for name, base in place.items()}
    backend = make_model(models["disk"], settings, files[:16])
    make_model(models["s3"], settings, files[:16])
    connect(settings.ray)
    found: dict[str, list[float]] = defaultdict(list)
    for turn in range(rounds):
        found["naive"].append(run_naive(files[:NAIVE_IMAGES], models["disk"]))
        for name, base in place.items():
            manifest, what = f"{base}/manifest.parquet", f"{number}-{turn}"
            bare_out = folder / f"bare-{name}-{what}"
            found[f"bare {name}"].append(run_bare(manifest, models[name], bare_out, settings, backend))
            out = f"{base}/raysvq-{what}"
            found[f"raysvq {name}"].append(run_raysvq(manifest, models[name], out, settings))
    ray.shutdown()
    start = start_up(f"{place['disk']}/ten.parquet", models["disk"], str(folder / f"ten-{number}"))
    row: Row = {"precision": backend.precision, "engine": backend.engine, "start_up_s": start}
    row |= {way: statistics.median(rates) for way, rates in found.items()}
    for name in place:
        row[f"of bare {name}"] = _ratio(found[f"raysvq {name}"], found[f"bare {name}"])
    return row | {"of naive": _ratio(found["raysvq disk"], found["naive"]), "rounds": dict(found)}


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=5000, help="images of 256 x 256 pixels (default 5000)")
    parser.add_argument("--rounds", type=int, default=3, help="times that all ways are run (default 3)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, s3_server(Path(name) / "s3") as server:
        folder = Path(name)
        os.environ |= server.environment
        make_images(folder / "images", arguments.images)
        place = {"disk": str(folder), "s3": f"s3://{BUCKET}"}
        upload(folder / "images", f"{place['s3']}/images")
        for base in place.values():
            build_index(f"{base}/images", f"{base}/manifest.parquet", load_settings().split)
        whole = pq.read_table(folder / "manifest.parquet", partitioning=None)
        pq.write_table(whole.slice(0, 10), folder / "ten.parquet")
        rows = [
            {"case": case, "images": arguments.images}
            | run_case(number, overrides, place, folder, arguments.rounds)
            for number, (case, overrides) in enumerate(CASES.items())
        ]
    print(f"\n{arguments.images} JPEG images of {SIDE} x {SIDE} pixels, {os.cpu_count()} cores; images/s")
    ways = ["raysvq disk", "bare disk", "raysvq s3", "bare s3", "naive"]
    ratios = ["of bare disk", "of bare s3", "of naive"]
    print(f"{'':<17}{'':<19}" + "".join(f"{name:>13}" for name in [*ways, *ratios]) + f"{'start-up, s':>13}")
    for row in rows:
        print(
            f"{row['case']:<17}{row['engine'] + ' ' + row['precision']:<19}"
            + "".join(f"{row[way]:>13.1f}" for way in ways)
            + "".join(f"{row[ratio]:>13.2f}" for ratio in ratios)
            + f"{row['start_up_s']:>13.1f}"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps({"cores": os.cpu_count(), "rows": rows}, indent=1) + "\n")


def _rate(times: list[datetime]) -> float:
    return (len(times) - 1) / (max(times) - min(times)).total_seconds()


def _ratio(ours: list[float], theirs: list[float]) -> float:
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))


if __name__ == "__main__":
    main()
