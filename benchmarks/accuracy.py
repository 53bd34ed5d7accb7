"""How well anomalies are found: ss-VQ-VAE beside other methods, on the same images, splits and metrics.

Run: python -m benchmarks.accuracy [--sets NAME ...] [--methods NAME ...] [--labels N ... | --gammas G ...]
     [--seeds N ...] [--data FOLDER] [--json FILE] [--plot FILE.svg] [--set SECTION.NAME=VALUE ...]

--data holds a folder for each set, an image tree; by default RAYSVQ_DATA, or ../shared/data. A run is a
method on a set with so many labelled outliers, or so large a share gamma of them, and one draw of split,
weights and batches. Runs take one thread. A run that stands in the JSON with the same settings is not run
again, so that an interrupted command goes on where it was; after a change of code use another file. A method
that takes no labels is trained once per seed and measured on the test images of every level.

Metrics are those of `raysvq evaluate`, mean and standard deviation over the seeds; tile AUROC is taken on
tiles of 64 x 64 pixels, anomalous where 5 % are marked, for every method. `train s` is from manifest to
model, `score ms` from file to map, of one image: in CPU time, or where a GPU computes (`training.device`), in
time of the clock, which grows with whatever else runs there.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from benchmarks.methods.jobs import Job, hardware, plan, run
from benchmarks.methods.plot import plot
from benchmarks.methods.protocol import NO_LABELS, Level, Manifests
from benchmarks.methods.records import Records, Run, mean_and_deviation
from benchmarks.methods.registry import METHODS

SETS = ["mvtec_bottle", "magnetic_tile", "bsd_pitting"]
DATA = Path(os.environ.get("RAYSVQ_DATA", Path(__file__).parents[2] / "shared" / "data"))
COLUMNS = {
    "image_auroc": "image AUROC",
    "tile_auroc": "tile AUROC",
    "pixel_auroc": "pixel AUROC",
    "au_pro": "AU-PRO",
}
TIMES = {"train_s": "train s", "score_ms": "score ms"}

Found = Mapping[tuple[str, str, Level], list[Run]]  # by set, method and level: one run per seed


def complete(jobs: Sequence[Job], records: Records, manifests: Manifests) -> None:
    """Run what is not on record yet, under this or another name of the same computation."""
    for number, job in enumerate(jobs, start=1):
        missing = []
        for level in job.levels:
            known = records.find(job.digest(level), job.method) or records.find(job.digest(level))
            if known is None:
                missing.append(level)
            elif known["method"] != job.method:
                records.add(known | {"method": job.method})
        if missing:
            print(f"[{number} of {len(jobs)}] {job}", flush=True)
            for one in run(job, missing, manifests):
                records.add(one)


def finished(jobs: Sequence[Job], records: Records) -> Found:
    """The runs of these jobs, seeds together."""
    found: dict[tuple[str, str, Level], list[Run]] = {}
    for job in jobs:
        for level in job.levels:
            if known := records.find(job.digest(level), job.method):
                found.setdefault((job.set_name, job.method, level), []).append(known)
    return found


def table(found: Found) -> str:
    """Mean and deviation over the seeds, a line for each set, method and level."""
    titles = [f"{title:>15}" for title in COLUMNS.values()] + [f"{title:>9}" for title in TIMES.values()]
    lines = [f"{'set':<15}{'method':<17}{'labelled':<13}{'seeds':>5}{''.join(titles)}"]
    for (name, method, level), runs in found.items():
        cells = [_cell(runs, key, "{:.3f} ± {:.3f}", 15) for key in COLUMNS]
        cells += [_cell(runs, key, "{:.1f}", 9) for key in TIMES]
        failed = sum("problem" in one for one in runs)
        note = f"  {failed} ran away" if failed else ""
        lines.append(f"{name:<15}{method:<17}{level!s:<13}{len(runs):>5}{''.join(cells)}{note}")
    return "\n".join(lines)


def _cell(runs: Sequence[Run], key: str, form: str, width: int) -> str:
    both = mean_and_deviation([one.get(key) for one in runs])
    return f"{'-' if both is None else form.format(*both):>{width}}"


def main() -> None:
    """Run, print the table, draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=SETS, help=f"default: {' '.join(SETS)}")
    names = list(METHODS)
    parser.add_argument("--methods", nargs="+", default=names, choices=names, help="default: all of them")
    parser.add_argument("--labels", nargs="+", type=int, default=[0, 10, 20], help="labelled outliers")
    parser.add_argument("--gammas", nargs="+", type=float, help="instead of --labels: M / (M + N)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--data", type=Path, default=DATA, help="folder that holds the sets")
    parser.add_argument("--json", type=Path, help="file of finished runs, read and added to")
    parser.add_argument("--plot", type=Path, help="also draw AUROC against labels, as this SVG and a PNG")
    parser.add_argument("--set", nargs="+", default=[], help="settings of all methods, as of `raysvq train`")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    levels = [Level("outliers", value) for value in arguments.labels]
    if arguments.gammas is not None:
        levels = [Level("gamma", value) if value else NO_LABELS for value in arguments.gammas]
    jobs = plan(arguments.sets, arguments.methods, levels, arguments.seeds, arguments.set)
    records = Records(arguments.json)
    with tempfile.TemporaryDirectory() as folder:
        complete(jobs, records, Manifests(arguments.data, Path(folder)))
    found = finished(jobs, records)
    print(f"\n{hardware(jobs[0].settings)}\n{table(found)}")
    if arguments.plot:
        plot(found, arguments.plot)


if __name__ == "__main__":
    main()
