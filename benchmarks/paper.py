"""The paper's experiment on its data: AUROC of patches against gamma, beside its Table I and figure 5.

Run: python -m benchmarks.paper [--sets NAME ...] [--methods NAME ...] [--gammas G ...] [--seeds N ...]
     [--data FOLDER] [--json FILE] [--plot FILE.svg] [--set SECTION.NAME=VALUE ...]

--data holds a folder for each set, an image tree; by default RAYSVQ_DATA, or ../shared/data. The protocol is
in `benchmarks.methods.patches`. The settings are those of configs/paper.yaml, shortened by SHORT: the paper
takes 15,000 steps of 128 patches, and 128 channels. Every method learns from the same patches for as many
steps, and the model of the last step is tested: nothing is chosen by a test patch, nor by a validation patch.
Runs take one thread. A run that stands in the JSON with the same settings is not run again.

`patches`: AUROC of the test patches, with the 95 % interval of a bootstrap over the images that they were cut
from, the mean of the seeds. `tiles`: AUROC of all 64 x 64 tiles of whole test images, sound and barely marked
tiles of defective images among the normal ones.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.hardware import clock
from benchmarks.methods import patches
from benchmarks.methods.jobs import hardware
from benchmarks.methods.paper_plot import plot
from benchmarks.methods.patch_metrics import patch_metrics, tile_metrics
from benchmarks.methods.protocol import score_test
from benchmarks.methods.records import Records, Run, mean_and_deviation, run_digest
from benchmarks.methods.registry import METHODS
from benchmarks.methods.sets import DATA
from raysvq.errors import TrainingError
from raysvq.settings import Settings, load_settings
from raysvq.training.in_process import local_device

SHORT = ("training.steps=1000", "training.batch_size=32", "model.hidden=64")
GAMMAS = (0.0, 0.01, 0.05, 0.1, 0.2)
WITHOUT = "vqvae-pixels"  # what `pixels` and `pixels-negation` are without outliers
NAMES = [WITHOUT, "pixels", "deep-sad", "pixels-negation"]

Found = Mapping[tuple[str, str, float], list[Run]]  # by set, method and gamma: one run per seed


@dataclass(frozen=True)
class PaperSet:
    """An image set of the paper: what it reports at gamma = 0.2 (Table I), and how it cuts images."""

    table: Mapping[str, float]  # AUROC by method; the VQ-VAE has no labels
    whole: bool = False  # objects are whole images
    overrides: tuple[str, ...] = ()


SETS = {
    "mvtec_leather_256": PaperSet({"pixels": 0.97, WITHOUT: 0.94, "deep-sad": 0.94}),
    "mvtec_bottle": PaperSet(
        {"pixels": 0.87, WITHOUT: 0.79, "deep-sad": 0.77},
        whole=True,
        overrides=("tiles.mode=whole", "tiles.size=128", "training.steps=500", "training.batch_size=16"),
    ),
}


@dataclass(frozen=True)
class Job:
    """A training with so many labelled outliers."""

    set_name: str
    method: str
    gamma: float
    seed: int
    settings: Settings

    @property
    def digest(self) -> str:
        """Of all that decides the figures."""
        drawn = f"{self.set_name} gamma={self.gamma:g}"
        return run_digest(drawn, METHODS[self.method], self.gamma > 0, self.settings)

    def __str__(self) -> str:
        return f"{self.set_name}  {self.method}  gamma={self.gamma:g}  seed={self.seed}"


def plan(
    sets: Sequence[str],
    methods: Sequence[str],
    gammas: Sequence[float],
    seeds: Sequence[int],
    overrides: Sequence[str],
) -> list[Job]:
    """All trainings that are asked for, seed by seed. At gamma = 0 the VQ-VAE stands for `pixels`."""
    jobs = []
    for seed, name, method, gamma in itertools.product(seeds, sets, methods, gammas):
        if METHODS[method].uses_labels == bool(gamma) or (method == "deep-sad" and not gamma):
            chosen = (*SHORT, *SETS[name].overrides, *METHODS[method].overrides, *overrides)
            own = (f"split.seed={seed}", f"training.seed={seed}", "split.gamma=null")
            settings = load_settings("paper", [*chosen, *own])
            last = {"validate_every": settings.training.steps}  # no other checkpoint could be chosen
            training = settings.training.model_copy(update=last)
            settings = settings.model_copy(update={"training": training})
            jobs.append(Job(name, method, gamma, seed, settings))
    return jobs


def complete(jobs: Sequence[Job], records: Records, data: Path, scratch: Path) -> None:
    """Run what is not on record yet."""
    cut: dict[tuple[str, int], list[patches.Patch]] = {}
    for number, job in enumerate(jobs, start=1):
        if records.find(job.digest):
            continue
        print(f"[{number} of {len(jobs)}] {job}", flush=True)
        place = scratch / f"{job.set_name}-{job.seed}"
        if (job.set_name, job.seed) not in cut:
            whole = SETS[job.set_name].whole
            cut[job.set_name, job.seed] = patches.cut_patches(data / job.set_name, place, job.seed, whole)
        records.add(run(job, cut[job.set_name, job.seed], scratch))


def run(job: Job, drawn: Sequence[patches.Patch], scratch: Path) -> Run:
    """Train and test once. A training that ran away is a run without metric values."""
    name = f"{job.set_name}-{job.seed}-{job.gamma:g}"
    manifest = patches.write_manifest(drawn, job.gamma, scratch / f"{name}.parquet")
    learnt = patches.numbers(drawn, job.gamma)
    now = clock(local_device(job.settings))
    started = now()
    found: Run = {
        "set": job.set_name,
        "method": job.method,
        "gamma": job.gamma,
        "seed": job.seed,
        "digest": job.digest,
        "steps": job.settings.training.steps,
        "batch_size": job.settings.training.batch_size,
        **learnt,
        "hardware": hardware(job.settings),
    }
    try:
        scorer = METHODS[job.method].fit(manifest, job.settings)
    except TrainingError as error:
        return found | {"problem": str(error)}
    found["train_s"] = round(now() - started, 1)
    results, _ = score_test(scorer, manifest)
    found |= patch_metrics(results, manifest)
    images = patches.write_images(drawn, scratch / f"{name}-images.parquet")
    return found | tile_metrics(score_test(scorer, images)[0], images)


def finished(jobs: Sequence[Job], records: Records) -> Found:
    """The runs of these jobs, seeds together."""
    found: dict[tuple[str, str, float], list[Run]] = {}
    for job in jobs:
        if known := records.find(job.digest):
            found.setdefault((job.set_name, job.method, job.gamma), []).append(known)
    return found


def table(found: Found) -> str:
    """A line for each set, method and gamma, with the paper's figure where it has one."""
    lines = [
        f"{'set':<20}{'method':<17}{'gamma':>6}{'M':>5}{'N':>6}{'seeds':>6}"
        f"{'patches':>9}  {'95 %':<15}{'deviation':>9}{'tiles':>8}{'paper':>7}"
    ]
    for (name, method, gamma), runs in found.items():
        auroc = mean_and_deviation([one.get("auroc") for one in runs])
        intervals = [one["interval"] for one in runs if one.get("interval")]
        tiles = mean_and_deviation([one.get("tile_auroc") for one in runs])
        low, high = np.mean(intervals, axis=0) if intervals else (None, None)
        paper = SETS[name].table.get(method) if gamma in (0.0 if method == WITHOUT else 0.2,) else None
        failed = sum("problem" in one for one in runs)
        lines.append(
            f"{name:<20}{method:<17}{gamma:>6g}{runs[0]['labelled']:>5}{runs[0]['normals']:>6}{len(runs):>6}"
            f"{'-' if auroc is None else format(auroc[0], '.3f'):>9}"
            f"  {'' if low is None else f'{low:.3f} to {high:.3f}':<15}"
            f"{'-' if auroc is None or len(runs) == 1 else format(auroc[1], '.3f'):>9}"
            f"{'-' if tiles is None else format(tiles[0], '.3f'):>8}"
            f"{'' if paper is None else format(paper, '.2f'):>7}{f'  {failed} ran away' if failed else ''}"
        )
    return "\n".join(lines)


def main() -> None:
    """Run, print the table, draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS), help="default: both")
    parser.add_argument("--methods", nargs="+", default=NAMES, choices=NAMES, help="default: all of them")
    parser.add_argument("--gammas", nargs="+", type=float, default=list(GAMMAS), help="M / (M + N)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder that holds the sets")
    parser.add_argument("--json", type=Path, help="file of finished runs, read and added to")
    parser.add_argument("--plot", type=Path, help="also draw AUROC against gamma, as this SVG")
    parser.add_argument("--set", nargs="+", default=[], help="settings of all methods, as of `raysvq train`")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    asked = arguments.sets, arguments.methods, arguments.gammas, arguments.seeds, arguments.set
    jobs, records = plan(*asked), Records(arguments.json)
    with tempfile.TemporaryDirectory() as scratch:
        complete(jobs, records, arguments.data, Path(scratch))
    found = finished(jobs, records)
    print(f"\n{hardware(jobs[0].settings)}\n{table(found)}")
    if arguments.plot:
        plot(found, {name: SETS[name].table for name in arguments.sets}, arguments.plot)


if __name__ == "__main__":
    main()
