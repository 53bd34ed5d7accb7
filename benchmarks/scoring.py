"""What Ray costs: images per second of `raysvq score` beside bare loops over the same images and cores.

Run: python -m benchmarks.scoring [--images 5000] [--large 1000] [--rounds 3] [--cases NAME ...]
[--json FILE]. Ways, in turn:

    raysvq   the batch job, on a cluster started on this machine
    bare     one process per core, each with its share of the images: same decoder, model, engine and rows
    naive    one process, one thing after the other: Pillow, then one tile at a time in float32 with PyTorch
    torch    as bare, with PyTorch in float32 (features alone)
    bank     as bare, a memory bank of 12,000 patches on the same stem in place of the model (features alone)

raysvq and bare read the images from local disk, and then from an S3 server on this machine, where raysvq
leaves its results as well. Rates are of the steady state, from the first scored image to the last; ratios
are medians over the rounds. `start-up` is a job of ten images as a command, from start to end.
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
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import ray

from benchmarks.bare_scoring import bank_scorer, own_scorer, rate, run_bare, run_naive
from benchmarks.hardware import processor
from devtools.s3_server import BUCKET, s3_server, upload
from devtools.untrained import untrained_bundle
from raysvq.data.index import build_index
from raysvq.model.bundle import save_bundle
from raysvq.model.bundle_summary import OPENVINO_DEVIATION, Reference
from raysvq.model.device import relative_deviation
from raysvq.model.engines import EXACT, Backend, choose_backend, engines_with_bfloat16, look_around
from raysvq.model.scorer import ImageScorer
from raysvq.results import read_scores
from raysvq.runtime.cluster import connect
from raysvq.scoring.job import score
from raysvq.settings import Settings, load_settings

SMALL, LARGE = (256, 256), (1200, 1600)
BESIDE = {"torch": own_scorer, "bank": bank_scorer}
PICTURES = 64
FEW = {SMALL: 600, LARGE: 100}  # images for slow ways
WAYS = ("raysvq disk", "bare disk", "raysvq s3", "bare s3", "naive", "torch", "bank")
RATIOS = ("of bare disk", "of bare s3", "of naive", "of torch", "of bank")


@dataclass(frozen=True)
class Case:
    """A configuration, the height and width of its images, and what is set besides."""

    config: str
    shape: tuple[int, int]
    overrides: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """As `--cases` has it."""
        ending = "".join(f"-{text.split('=')[1]}" for text in self.overrides)
        return f"{self.config}-{'small' if self.shape == SMALL else 'large'}{ending}"


CASES = [
    Case("features", SMALL, ("scoring.precision=float32",)),
    Case("features", SMALL, ("scoring.precision=bfloat16",)),
    Case("features", LARGE),
    Case("textures", SMALL),
    Case("textures", LARGE),
]


def make_images(folder: Path, count: int, shape: tuple[int, int] = SMALL) -> None:
    """JPEG files of textured pictures; PICTURES different ones under `count` names."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    encoded = []
    for _ in range(min(count, PICTURES)):
        noise = cv2.GaussianBlur(rng.normal(size=(*shape, 3)), (0, 0), 2)
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
    """Images per second of the batch job."""
    score(manifest, model, out, settings)
    return rate(read_scores(out, columns=["scored_at"])["scored_at"].to_pylist())


def start_up(manifest: str, model: str, out: str) -> float:
    """Seconds of a command that scores what is in a small manifest."""
    command = [sys.executable, "-c", "from raysvq.cli import main; main()", "score", manifest]
    started = time.monotonic()
    subprocess.run([*command, "--model", model, "--out", out], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - started


def run_case(case: Case, place: dict[str, str], folder: Path, rounds: int) -> dict[str, Any]:
    """All ways, `rounds` times in turn."""
    settings = load_settings(case.config, list(case.overrides))
    size = "small" if case.shape == SMALL else "large"
    files = sorted((folder / size).iterdir())
    models = {name: f"{base}/model-{case.name}" for name, base in place.items()}
    backend = make_model(models["disk"], settings, files[:16])
    make_model(models["s3"], settings, files[:16])
    connect(settings.ray)
    found: dict[str, list[float]] = defaultdict(list)
    for turn in range(rounds):
        found["naive"].append(run_naive(files[: FEW[case.shape]], models["disk"]))
        for name, base in place.items():
            manifest, ending = f"{base}/{size}.parquet", f"{case.name}-{turn}"
            bare = folder / f"bare-{name}-{ending}"
            found[f"bare {name}"].append(
                run_bare(manifest, models[name], bare, settings, backend, own_scorer)
            )
            out = f"{base}/raysvq-{ending}"
            found[f"raysvq {name}"].append(run_raysvq(manifest, models[name], out, settings))
        for way, scoring_with in BESIDE.items() if case.config == "features" else ():
            few, out = f"{place['disk']}/{size}-few.parquet", folder / f"{way}-{case.name}-{turn}"
            found[way].append(run_bare(few, models["disk"], out, settings, EXACT, scoring_with))
    ray.shutdown()
    start = start_up(f"{place['disk']}/{size}-ten.parquet", models["disk"], str(folder / f"ten-{case.name}"))
    row: dict[str, Any] = {"case": case.name, "images": len(files)}
    row |= {"precision": backend.precision, "engine": backend.engine, "start_up_s": start}
    row |= {way: statistics.median(rates) for way, rates in found.items()}
    for ratio in RATIOS:
        way = ratio.removeprefix("of ")
        ours = "raysvq s3" if way == "bare s3" else "raysvq disk"
        if way in found:
            row[ratio] = statistics.median(map(lambda a, b: a / b, found[ours], found[way]))
    return row | {"rounds": dict(found)}


def main() -> None:
    """Measure, print a line per case, write the JSON anew after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=5000, help="images of 256 x 256 pixels (default 5000)")
    parser.add_argument("--large", type=int, default=1000, help="images of 1600 x 1200 (default 1000)")
    parser.add_argument("--rounds", type=int, default=3, help="times that all ways are run (default 3)")
    names = [case.name for case in CASES]
    parser.add_argument("--cases", nargs="+", default=names, choices=names, help="default: all")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    cases = [case for case in CASES if case.name in arguments.cases]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name, s3_server(Path(name) / "s3") as server:
        folder = Path(name)
        os.environ |= server.environment
        place = {"disk": str(folder), "s3": f"s3://{BUCKET}"}
        for size, shape, count in (("small", SMALL, arguments.images), ("large", LARGE, arguments.large)):
            make_images(folder / size, count, shape)
            upload(folder / size, f"{place['s3']}/{size}")
            for base in place.values():
                build_index(f"{base}/{size}", f"{base}/{size}.parquet", load_settings().split)
            whole = pq.read_table(folder / f"{size}.parquet", partitioning=None)
            pq.write_table(whole.slice(0, 10), folder / f"{size}-ten.parquet")
            pq.write_table(whole.slice(0, FEW[shape]), folder / f"{size}-few.parquet")
        hardware = processor()
        print(f"{hardware}; images/s\n{_line('', '', [*WAYS, *RATIOS, 'start-up, s'])}", flush=True)
        for case in cases:
            row = run_case(case, place, folder, arguments.rounds)
            rows.append(row)
            cells = [f"{row[way]:.1f}" if way in row else "" for way in WAYS]
            cells += [f"{row[ratio]:.2f}" if ratio in row else "" for ratio in RATIOS]
            backend = f"{row['engine']} {row['precision']}"
            print(_line(case.name, backend, [*cells, f"{row['start_up_s']:.1f}"]), flush=True)
            if arguments.json:
                arguments.json.write_text(json.dumps({"hardware": hardware, "rows": rows}, indent=1) + "\n")


def _line(name: str, backend: str, cells: list[str]) -> str:
    return f"{name:<31}{backend:<19}" + "".join(f"{cell:>13}" for cell in cells)


if __name__ == "__main__":
    main()
