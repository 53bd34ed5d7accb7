"""What bfloat16 changes: scores, image AUROC and time on the test images of a finished run.

Run: python benchmarks/precision.py RUN [--json FILE], where RUN is what `raysvq demo --out RUN` made.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from raysvq.data.manifest import open_manifest
from raysvq.imaging.decode import DecodeError
from raysvq.model.bundle import load_bundle
from raysvq.model.device import has_fast_bfloat16
from raysvq.model.scorer import ImageScorer
from raysvq.storage import read_bytes


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a demo run")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    bundle = load_bundle(str(arguments.run / "model"))
    exact = ImageScorer(bundle.model, bundle.settings, bundle.settings.scoring)
    scorers = {"float32": exact, "bfloat16": exact.in_bfloat16()}
    scores: dict[str, list[float]] = {name: [] for name in scorers}
    seconds = dict.fromkeys(scorers, 0.0)
    anomalous: list[bool] = []
    for row in open_manifest(str(arguments.run / "manifest.parquet")).to_table().to_pylist():
        if row["split"] != "test":
            continue
        content = read_bytes(row["uri"])
        try:
            for name, scorer in scorers.items():
                started = time.process_time()
                scores[name].append(scorer(content).image_score)
                seconds[name] += time.process_time() - started
        except DecodeError:
            continue
        anomalous.append(row["label"] == "anomalous")
    plain, close = np.array(scores["float32"]), np.array(scores["bfloat16"])
    threshold = bundle.decisions.threshold
    record = {
        "images": len(anomalous),
        "fast": has_fast_bfloat16("cpu"),
        "largest_deviation": float(np.max(np.abs(close - plain) / plain)),
        "changed_decisions": int(((plain >= threshold) != (close >= threshold)).sum()),
        "image_auroc": {name: float(roc_auc_score(anomalous, found)) for name, found in scores.items()},
        "ms": {name: 1000 * spent / len(anomalous) for name, spent in seconds.items()},
    }
    print(f"{record['images']} test images of {arguments.run}; bfloat16 instructions: {record['fast']}")
    changed = record["changed_decisions"]
    print(f"largest deviation {record['largest_deviation']:.2%}, {changed} decisions changed")
    for name in scorers:
        print(
            f"{name:<10} image AUROC {record['image_auroc'][name]:.4f}  {record['ms'][name]:.1f} ms per image"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
