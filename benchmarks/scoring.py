"""What Ray costs: images/s of `raysvq score` beside bare loops over the same images, model and cores.

Run: python benchmarks/scoring.py [--images 1000] [--json FILE]. Three ways, one after the other:

    raysvq   the batch job, on a cluster started on this machine
    bare     one process a core, each with its share of the images: same decoder, model and rows
    naive    one process: Pillow, then one tile at a time through the network, on fewer images

Rates are of the steady state, from the first scored image to the last; start-up stands apart.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image

from raysvq.cluster import connect
from raysvq.data.index import build_index
from raysvq.data.manifest import open_manifest
from raysvq.imaging.tiling import cut, plan_tiles
from raysvq.model.bundle import Reference, load_bundle, make_bundle, save_bundle
from raysvq.model.network import SSVQVAE
from raysvq.model.scorer import ImageScorer
from raysvq.results import read_scores
from raysvq.scoring.job import score
from raysvq.scoring.rows import provenance, score_row
from raysvq.scoring.sink import write_unit
from raysvq.settings import Settings, load_settings
from raysvq.storage import read_bytes

CASES = {
    "64 x 64 tiles": ["tiles.mode=tiles", "tiles.size=64"],
    "256 x 256 whole": ["tiles.mode=whole", "tiles.size=256"],
}
NETWORK = ["model.hidden=64", "model.codebook_size=256", "model.embedding_dim=32"]
SIDE, PICTURES = 256, 64


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


def make_model(folder: Path, settings: Settings) -> None:
    """A bundle with random weights: the arithmetic is the same."""
    torch.manual_seed(0)
    reference = Reference(1e9, "never", 1e9, {}, {"normal": 0, "anomalous": 0, "auroc": None})
    model = SSVQVAE(settings.tiles.channels, settings.model)
    save_bundle(make_bundle(model, settings, reference, {}, {}), str(folder))


def run_raysvq(manifest: str, model: str, out: str, settings: Settings) -> tuple[float, float]:
    """(images/s, seconds of start-up)."""
    started = time.time()
    score(manifest, model, out, settings)
    times = read_scores(out, columns=["scored_at"])["scored_at"].to_pylist()
    return _rate(times), min(times).timestamp() - started


def run_bare(manifest: str, model: str, out: str, settings: Settings) -> float:
    """Images/s of one process a core."""
    rows = open_manifest(manifest).to_table().to_pylist()
    cores = os.cpu_count() or 1
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(cores)
    shares = [(rows[core::cores], model, out, settings, ready) for core in range(cores)]
    processes = [context.Process(target=_bare_process, args=share) for share in shares]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    files = Path(out, "scores").glob("*.parquet")
    return _rate([at for file in files for at in pq.read_table(file)["scored_at"].to_pylist()])


def _bare_process(rows: list[dict[str, Any]], model: str, out: str, settings: Settings, ready: Any) -> None:
    torch.set_num_threads(1)
    bundle = load_bundle(model)
    scorer = ImageScorer(bundle.model, bundle.settings, settings.scoring)
    origin = provenance(bundle, "bare", "bare")
    size = settings.scoring.batch_images
    ready.wait()
    for start in range(0, len(rows), size):
        scored = [
            score_row(row, scorer(read_bytes(row["uri"])), bundle.reference, origin)
            for row in rows[start : start + size]
        ]
        write_unit(out, f"{os.getpid()}-{start}", {"scores": scored, "rejects": [], "maps": []})


def run_naive(manifest: str, model: str, most: int) -> float:
    """Images/s of the plain way."""
    bundle = load_bundle(model)
    uris = open_manifest(manifest).head(most, columns=["uri"])["uri"].to_pylist()
    started = time.perf_counter()
    with torch.inference_mode():
        for uri in uris:
            image = np.asarray(Image.open(io.BytesIO(Path(uri).read_bytes())).convert("RGB"))
            for tile in cut(image, plan_tiles(*image.shape[:2], bundle.settings.tiles)):
                pixels = torch.from_numpy(tile.astype(np.float32) / 255).permute(2, 0, 1)[None]
                float(bundle.model.distance_map(pixels).square().sum().sqrt())
    return len(uris) / (time.perf_counter() - started)


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=1000, help="images of 256 x 256 pixels (default 1000)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_images(folder / "images", arguments.images)
        manifest = str(folder / "manifest.parquet")
        build_index(str(folder / "images"), manifest, load_settings().split)
        for number, (case, overrides) in enumerate(CASES.items()):
            settings = load_settings(None, [*overrides, *NETWORK])
            place: Callable[[str], str] = lambda what, n=number: str(folder / f"{what}-{n}")  # noqa: E731
            make_model(Path(place("model")), settings)
            bare = run_bare(manifest, place("model"), place("bare"), settings)
            naive = run_naive(manifest, place("model"), min(100, arguments.images))
            connect(settings.ray)
            ours, start_up = run_raysvq(manifest, place("model"), place("raysvq"), settings)
            rows.append(
                {"case": case, "images": arguments.images, "raysvq": ours, "bare": bare, "naive": naive}
                | {"start_up_s": start_up, "of_bare": ours / bare, "of_naive": ours / naive}
            )
    print(f"{arguments.images} JPEG images of {SIDE} x {SIDE} pixels, {os.cpu_count()} cores; images/s")
    print(f"{'case':<18}{'raysvq':>8}{'bare':>8}{'naive':>8}{'/ bare':>8}{'/ naive':>9}{'start-up, s':>13}")
    for row in rows:
        print(
            f"{row['case']:<18}{row['raysvq']:>8.1f}{row['bare']:>8.1f}{row['naive']:>8.1f}"
            f"{row['of_bare']:>8.2f}{row['of_naive']:>9.2f}{row['start_up_s']:>13.1f}"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps({"cores": os.cpu_count(), "rows": rows}, indent=1) + "\n")


def _rate(times: list[datetime]) -> float:
    return (len(times) - 1) / (max(times) - min(times)).total_seconds()


if __name__ == "__main__":
    main()
