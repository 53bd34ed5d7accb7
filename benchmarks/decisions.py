"""Whether thresholds keep their promises: false alarms, recall and p-values, with and without labels.

Run: python -m benchmarks.decisions --folder FOLDER [--sets NAME ...] [--labels 0 5 10 20] [--draws 10]
     [--splits drawn given] [--processes 2] [--json FILE] [--set SECTION.NAME=VALUE ...]

A run is a set with so many labelled outliers, and one draw. It cross-fits and trains as
`raysvq train --config features` does, without Ray, and keeps in FOLDER the scores that calibrate and those of
the test images; a run that is there is not run again. The thresholds are fitted afterwards, for all rates on
the same scores.

A drawn split takes the test normals at random from all normal images, by group where the set has groups, so
that they are exchangeable with those that calibrate. The given split is the set's own. `inside` is the share
of draws whose false alarms lie in the interval that the promise states (95 %, beta-binomial); `best` is the
recall of the best threshold that the test's own labels allow at the same rate; `KS p` is of the test that the
p-values of test normals are uniform, in the median.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.hardware import processor
from benchmarks.methods.sets import DATA, SETS
from raysvq.data.index import build_index
from raysvq.decisions import CalibrationScores, Decisions, false_alarm_interval, fit_decisions
from raysvq.evaluation.labelled_images import read_manifest
from raysvq.evaluation.outcome import uniformity
from raysvq.model.scorer import ImageScorer
from raysvq.schema import ANOMALOUS, NORMAL
from raysvq.settings import Settings, load_settings
from raysvq.storage import read_bytes
from raysvq.training.chunks import with_units
from raysvq.training.cross_fitting import LEARNT, FoldData, cut_folds, fold_data, score_fold, train_without
from raysvq.training.validation import labelled_images

GROUPS = {"bsd_pitting": r"^01_\d+_(\d+_\d+)_"}  # the place on the spindle: frames of one are a time series
RATES = (0.01, 0.05, 0.10)
FOLDS = 5
DRAWN, GIVEN = "drawn", "given"


@dataclass(frozen=True)
class Run:
    """One training, and what its images score."""

    set_name: str
    split: str
    labels: int
    draw: int

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.set_name}-{self.split}-{self.labels}-{self.draw}.json"


def write_listing(data: Path, run: Run, path: Path) -> None:
    """A listing of an image tree, with the set's groups, and its splits where they are kept."""
    folder = data / run.set_name
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["uri", "label", "mask_uri", "defect_type", "group", "split"])
        for image in sorted([*folder.glob("train/*/*"), *folder.glob("test/*/*")]):
            kind, split = image.parent.name, image.parent.parent.name
            mask = folder / "ground_truth" / kind / f"{image.stem}_mask.png"
            found = re.match(GROUPS.get(run.set_name, "$^"), image.name)
            row = [image, NORMAL, "", ""] if kind == "good" else [image, ANOMALOUS, mask, kind]
            writer.writerow([*row, found[1] if found else "", split if run.split == GIVEN else ""])


def execute(run: Run, data: Path, folder: Path, overrides: Sequence[str]) -> str:
    """Cross-fit, train on all, score the test images; write the scores."""
    torch.set_num_threads(1)
    own = [f"split.seed={run.draw}", f"training.seed={run.draw}", f"split.outliers={run.labels}"]
    settings = load_settings("features", [*own, *overrides])
    with tempfile.TemporaryDirectory() as name:
        listing, manifest = Path(name) / "listing.csv", str(Path(name) / "manifest.parquet")
        write_listing(data, run, listing)
        build_index(str(listing), manifest, settings.split)
        rows, scorer = _calibrate(manifest, settings, run.draw)
        images = read_manifest(manifest).images.values()
        tested = [(scorer(read_bytes(image.uri)).image_score, image.anomalous) for image in images]
    partial_file = folder / f".{run.name}"
    partial_file.write_text(json.dumps({"calibration": rows, "test": tested}))
    partial_file.rename(folder / run.name)
    return run.name


def _calibrate(manifest: str, settings: Settings, seed: int) -> tuple[list[Any], ImageScorer]:
    """(score, anomalous, unit) of each image that calibrates, and the scorer of the final model."""
    images = [one for label in (NORMAL, ANOMALOUS) for one in labelled_images(manifest, LEARNT, label, None)]
    data: FoldData = fold_data(manifest, images, settings, print, lambda part: part())
    items = {item.image.image_id: item for chunk in data.items for item in chunk}
    known = with_units([item.image for item in items.values()], [item.fingerprint for item in items.values()])
    folds = cut_folds(known, FOLDS, seed)
    rows = []
    for fold in range(folds.number):
        for row in score_fold(fold, folds, data, settings).to_pylist():
            name = row["image_id"]
            rows.append((row["score"], items[name].image.anomalous, folds.units[name]))
    model = train_without(None, folds, data, settings)
    return rows, ImageScorer(model, settings, settings.scoring)


def decisions_of(rows: Sequence[Any], rate: float) -> Decisions:
    """Fitted on a run's calibration scores."""
    scores, anomalous, units = zip(*rows, strict=True)
    calibration = CalibrationScores(
        np.array(scores, np.float32), np.array(anomalous, bool), [None] * len(rows), units
    )
    settings = Settings().decision.model_copy(update={"max_false_alarm_rate": rate})
    return fit_decisions(calibration, settings, 1.0, {})


def measure(found: dict[str, Any]) -> dict[str, Any]:
    """Promises and outcomes of one run, at all rates."""
    scores = np.array([score for score, _ in found["test"]], np.float32)
    anomalous = np.array([label for _, label in found["test"]], bool)
    normals, outliers = scores[~anomalous], scores[anomalous]
    rates = {}
    for rate in RATES:
        decisions = decisions_of(found["calibration"], rate)
        alarms = int((normals >= decisions.threshold).sum())
        low, high = false_alarm_interval(decisions.promise, len(normals))
        allowed = np.sort(normals)[::-1][int(rate * len(normals))]  # the largest that may not be flagged
        rates[str(rate)] = {
            "promised": decisions.promise.promised,
            "false_alarm_rate": alarms / len(normals),
            "inside": low <= alarms <= high,
            "recall": float((outliers >= decisions.threshold).mean()),
            "best": float((outliers > allowed).mean()),
        }
    p_values = [one for score in normals if (one := decisions.decide(float(score)).p_value) is not None]
    units = decisions.promise.normals
    return {"normals": len(normals), "units": units, "ks_p": uniformity(p_values, units)} | rates


def lines(measured: dict[tuple[str, str, int], list[dict[str, Any]]]) -> Iterator[str]:
    """A line for each set, split, number of labels and rate: means over the draws."""
    yield (
        f"{'set':<19}{'split':<7}{'labels':>6}{'draws':>6}{'rate':>6}{'promised':>10}{'found':>8}{'inside':>8}"
        + (f"{'recall':>8}{'best':>7}{'KS p':>7}")
    )
    for (name, split, labels), draws in measured.items():
        for rate in map(str, RATES):
            mean = {key: float(np.mean([one[rate][key] for one in draws])) for key in draws[0][rate]}
            ks = float(np.median([one["ks_p"] for one in draws]))
            yield (
                f"{name:<19}{split:<7}{labels:>6}{len(draws):>6}{rate:>6}{mean['promised']:>10.3f}"
                f"{mean['false_alarm_rate']:>8.3f}{mean['inside']:>8.2f}{mean['recall']:>8.3f}"
                f"{mean['best']:>7.3f}{ks:>7.2f}"
            )


def main() -> None:
    """Run what is missing, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--folder", type=Path, required=True, help="scores of finished runs, read and added to"
    )
    parser.add_argument("--sets", nargs="+", default=SETS, help=f"default: {' '.join(SETS)}")
    parser.add_argument("--labels", nargs="+", type=int, default=[0, 5, 10, 20], help="labelled outliers")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--splits", nargs="+", choices=[DRAWN, GIVEN], default=[DRAWN])
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="runs at a time, a thread each")
    parser.add_argument("--data", type=Path, default=DATA, help="folder that holds the sets")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--set", nargs="+", default=[], help="settings, as of `raysvq train`")
    arguments = parser.parse_args()
    if absent := [name for name in arguments.sets if not (arguments.data / name).is_dir()]:
        parser.error(f"{arguments.data} has no {', '.join(absent)}; expected a folder per set, see --data")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    runs = [
        Run(name, split, labels, draw)
        for draw in range(arguments.draws)
        for split in arguments.splits
        for labels in arguments.labels
        for name in arguments.sets
    ]
    missing = [run for run in runs if not (arguments.folder / run.name).exists()]
    work = partial(execute, data=arguments.data, folder=arguments.folder, overrides=arguments.set)
    with ProcessPoolExecutor(arguments.processes, get_context("spawn")) as pool:
        for number, name in enumerate(pool.map(work, missing), start=1):
            print(f"[{number} of {len(missing)}] {name}", flush=True)
    measured: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    for run in sorted(runs, key=lambda run: (run.set_name, run.split, run.labels, run.draw)):
        found = measure(json.loads((arguments.folder / run.name).read_text()))
        measured.setdefault((run.set_name, run.split, run.labels), []).append(found)
    print("\n".join(lines(measured)))
    if arguments.json:
        rows = [
            {"set": name, "split": split, "labels": labels, "draws": draws}
            for (name, split, labels), draws in measured.items()
        ]
        report = {"processor": processor(), "settings": arguments.set, "runs": rows}
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
