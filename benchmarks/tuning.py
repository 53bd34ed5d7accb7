"""What a sweep saves, how busy it keeps a cluster, and whether what it finds is better on test images.

Run: python -m benchmarks.tuning [--parts reuse cluster merit proxy memory] [--data FOLDER] [--set NAME]
     [--json FILE]

    reuse    `raysvq tune` with --trials trainings beside as many `raysvq train`, one after the other, with
             the settings of those trials; whole commands, Ray's start too.
    cluster  a sweep on three nodes of one CPU each, simulated on this machine. Between the start of the first
             trial and the end of the last: the share of the machine's CPUs in use, and the share of the
             cluster's places that held a trial at work.
    merit    configs/tune-paper.yaml with 20 labelled outliers; then its best settings and the defaults, each
             trained with three seeds on the same split and measured once on its test images.
             --sweep FOLDER takes a finished sweep of the same split.
    proxy    without labels, on every set: models of several codebooks and image sizes, each with several
             top_k. Rank correlation (Spearman) of synthetic_auroc on validation with image AUROC on test; and
             the test AUROC where synthetic_auroc is best, of the defaults, and the best and worst there is.
    memory   what the tiles of 100 and of 400 drawn images take in a process that prepares them for trials:
             all at once, and in chunks as a sweep does. Largest resident set above that before, MiB.

--data holds the image sets; by default RAYSVQ_DATA, or ../shared/data.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq
import ray
from ray.cluster_utils import Cluster
from scipy.stats import spearmanr

from benchmarks.hardware import processor
from benchmarks.methods.draws import NO_LABELS, Level
from benchmarks.methods.protocol import Manifests, Paths, measure, score_test
from benchmarks.methods.samples import print_line
from benchmarks.methods.sets import DATA, SETS
from benchmarks.methods.ss_vq_vae import fit_ss_vq_vae
from benchmarks.process_memory import peak_bytes
from devtools.trials import running_trials
from raysvq.data.index import build_index
from raysvq.evaluation.labelled_images import read_manifest
from raysvq.evaluation.metrics import image_auroc
from raysvq.model.scorer import ImageScorer
from raysvq.runtime.cluster import connect
from raysvq.sample import write_sample
from raysvq.settings import RaySettings, Settings, load_settings, load_sweep
from raysvq.storage import read_bytes
from raysvq.training.in_process import train_in_process
from raysvq.training.tile_stream import training_samples
from raysvq.training.validation import validate
from raysvq.tuning.search import first_points
from raysvq.tuning.space import parse_space
from raysvq.tuning.sweep import sweep
from raysvq.tuning.trial_data import prepare
from raysvq.tuning.trial_metrics import SYNTHETIC_AUROC, metric_value

Row = dict[str, Any]

PAPER = "tune-paper"
WHOLE = ["tuning.repeats=1", "tuning.early_stopping=false"]  # every trial to its end
NODES = 3
SEEDS = (0, 1, 2)
PARTS = ["reuse", "cluster", "merit", "proxy"]
CODES, SIZES, TOP_K = (16, 64, 1024), (128, 256), (1, 10, 300, 50)  # the defaults come last


def reuse(manifest: str, folder: Path, trials: int) -> Row:
    """Seconds of one sweep and of as many trainings."""
    options = [*WHOLE, f"tuning.trials={trials}"]
    base, search = load_sweep(PAPER, options)
    points = first_points(parse_space(search, base), base.tuning)
    shared = _raysvq("tune", manifest, "--config", PAPER, "--out", str(folder / "sweep"), *_set(options))
    print(f"tune, {trials} trials: {shared:.0f} s", flush=True)
    single = []
    for number, point in enumerate(points):
        changed = _set([f"{name}={value}" for name, value in point.items()])
        out = str(folder / f"model-{number}")
        single.append(_raysvq("train", manifest, "--config", "features", "--out", out, *changed))
        print(f"train {number + 1} of {trials}: {single[-1]:.0f} s", flush=True)
    return {"trials": trials, "tune_s": shared, "train_s": sum(single), "ratio": sum(single) / shared}


def cluster(manifest: str, folder: Path, trials: int) -> Row:
    """How busy three nodes are."""
    node: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 2**30}
    made = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    connect(RaySettings(address=made.address))
    for _ in range(NODES - 1):
        made.add_node(**node)
    settings, search = load_sweep(PAPER, [*WHOLE, f"tuning.trials={trials}"])
    watch = _Watch(folder / "sweep" / "_sweep", trials)
    watch.start()
    sweep(manifest, str(folder / "sweep"), settings, search)
    watch.join()
    ray.shutdown()
    made.shutdown()  # type: ignore[no-untyped-call]
    board = pq.read_table(folder / "sweep" / "leaderboard.parquet", partitioning=None)
    worked = sum(board["seconds"].to_pylist())
    span = watch.ended - watch.started
    busy = statistics.mean(use for at, use in watch.uses if watch.started < at <= watch.ended)
    return {"trials": trials, "nodes": NODES, "span_s": span, "cpus": busy, "places": worked / (NODES * span)}


class _Watch(threading.Thread):
    """Takes the use of the CPUs, and when the first trial starts and the last one ends."""

    def __init__(self, state: Path, trials: int) -> None:
        super().__init__(daemon=True)
        self.state, self.trials = state, trials
        self.uses: list[tuple[float, float]] = []
        self.started = self.ended = 0.0

    def run(self) -> None:
        psutil.cpu_percent()
        while not self.ended:
            time.sleep(0.5)
            now = time.monotonic()
            self.uses.append((now, psutil.cpu_percent() / 100))
            if not self.started and running_trials():
                self.started = now
            if len(list(self.state.glob("*/trial-*.json"))) >= self.trials:
                self.ended = now


def merit(paths: Paths, folder: Path) -> Row:
    """Test image AUROC of a sweep's best settings and of the defaults."""
    if not (folder / "best.yaml").exists():
        seconds = _raysvq("tune", paths.learn, "--config", PAPER, "--out", str(folder))
        print(f"tune: {seconds:.0f} s", flush=True)
    ways: dict[str, Callable[[int], Settings]] = {
        "defaults": lambda seed: load_settings("features", [f"training.seed={seed}"]),
        "best": lambda seed: load_settings(folder / "best.yaml", [f"training.seed={seed}"]),
    }
    found: dict[str, list[float]] = {}
    for way, settings in ways.items():
        for seed in SEEDS:
            scorer = fit_ss_vq_vae(paths.learn, settings(seed))
            found.setdefault(way, []).append(
                measure(score_test(scorer, paths.test)[0], paths.test)["image_auroc"]
            )
            print(f"{way}, seed {seed}: test image AUROC {found[way][-1]:.4f}", flush=True)
    return {way: {"mean": statistics.mean(values), "seeds": values} for way, values in found.items()}


def proxy(manifests: Manifests, sets: list[str]) -> Row:
    """How well `synthetic_auroc` tells good settings from bad ones."""
    found: Row = {}
    for name in sets:
        paths = manifests(name, NO_LABELS, 0)
        rows = [row for codes, size in product(CODES, SIZES) for row in _without_labels(paths, codes, size)]
        proxies, aurocs = zip(*rows, strict=True)
        found[name] = {
            "points": len(rows),
            "spearman": float(spearmanr(proxies, aurocs).statistic),
            "chosen": aurocs[int(np.argmax(proxies))],
            "defaults": aurocs[-1],
            "best": max(aurocs),
            "worst": min(aurocs),
        }
        print(name, found[name], flush=True)
    return found


def _without_labels(paths: Paths, codes: int, size: int) -> Iterator[tuple[float, float]]:
    """Of a model, for each top_k: `synthetic_auroc` on validation, and image AUROC on test."""
    settings = load_settings("features", [f"model.codebook_size={codes}", f"tiles.size={size}"])
    data = prepare(paths.learn, settings, SYNTHETIC_AUROC, print_line, lambda part: part())
    normal = [item.image for item in data.items() if not item.image.anomalous]
    labels = read_manifest(paths.test).images
    trained = train_in_process(settings, data.tiles(), None, partial(validate, images=normal), progress=None)
    for top_k in TOP_K:
        anomaly = settings.anomaly.model_copy(update={"top_k": top_k})
        changed = settings.model_copy(update={"anomaly": anomaly})
        scorer = ImageScorer(trained[0], changed, changed.scoring)
        scores = {image.image_id: scorer(read_bytes(image.uri)).image_score for image in labels.values()}
        anomalous = np.array([labels[name].anomalous for name in scores])
        auroc = image_auroc(anomalous, np.array(list(scores.values())))
        yield metric_value(SYNTHETIC_AUROC, data.evaluate_model(scorer), changed), float(auroc or 0)


def memory(folder: Path) -> Row:
    """Memory of a process that prepares training tiles: of all images, and chunk by chunk."""
    found: Row = {}
    for images in (100, 400):
        manifest, place = str(folder / f"{images}.parquet"), folder / f"{images}"
        split = load_settings(None, ["split.test_fraction=0", "split.outliers=0"]).split
        build_index(write_sample(place, normal=images, anomalous=1), manifest, split)
        for way in (_whole, _in_chunks):
            with ProcessPoolExecutor(1, get_context("spawn")) as process:
                found[f"{images}{way.__name__}"] = process.submit(way, manifest).result()
        print(images, found, flush=True)
    return found


def _whole(manifest: str) -> float:
    settings, before = load_settings(), peak_bytes()
    training_samples(manifest, settings, print_line)
    return (peak_bytes() - before) / 2**20


def _in_chunks(manifest: str) -> float:
    def run(part: Callable[[], Any]) -> None:
        part()  # which goes into the object store, and is forgotten here

    settings, before = load_settings(), peak_bytes()
    prepare(manifest, settings, "image_auroc", print_line, run)
    return (peak_bytes() - before) / 2**20


def _raysvq(*arguments: str) -> float:
    """Seconds of a command."""
    started = time.monotonic()
    command = [sys.executable, "-c", "from raysvq.cli import main; main()", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - started


def _set(overrides: list[str]) -> list[str]:
    return [part for override in overrides for part in ("--set", override)]


def main() -> None:
    """Measure, print, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=[*PARTS, "memory"])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--set", default="magnetic_tile", help="(default magnetic_tile)")
    parser.add_argument("--trials", type=int, default=16, help="of reuse and cluster (default 16)")
    parser.add_argument("--sweep", type=Path, help="a finished sweep, for merit")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    found: Row = {}
    with tempfile.TemporaryDirectory() as name:
        for part in arguments.parts:
            folder = Path(name) / part
            folder.mkdir()
            if part == "memory":
                found[part] = memory(folder)
                continue
            paths = Manifests(arguments.data, Path(name))(arguments.set, Level("outliers", 20), 0)
            if part == "merit":
                found[part] = merit(paths, arguments.sweep or folder)
            elif part == "proxy":
                found[part] = proxy(Manifests(arguments.data, Path(name)), SETS[:3])
            else:
                found[part] = {"reuse": reuse, "cluster": cluster}[part](
                    paths.learn, folder, arguments.trials
                )
    print(f"{arguments.set}, {processor()}\n{json.dumps(found, indent=1)}")
    if arguments.json:
        before = json.loads(arguments.json.read_text()) if arguments.json.exists() else {}
        record = before | {"hardware": processor(), "set": arguments.set} | found
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
