"""What engines and bfloat16 change: scores, image AUROC and time on the test images of a finished run.

Run: python -m benchmarks.precision RUN [--json FILE], where RUN is what `raysvq demo --out RUN` made.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from benchmarks.engines import backends_here
from raysvq.data.manifest import open_manifest
from raysvq.imaging.decode import DecodeError
from raysvq.model.bundle import load_bundle
from raysvq.model.engines import EXACT
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
    settings = bundle.settings
    scorers = {
        str(backend): ImageScorer(
            bundle.model, settings, settings.scoring, precision=backend.precision, engine=backend.engine
        )
        for backend in backends_here(settings.model, bundle.model.has_bfloat16)
    }
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
    threshold = bundle.decisions.threshold
    exact = np.array(scores[str(EXACT)])
    rows = []
    print(f"{len(anomalous)} test images of {arguments.run}")
    for name, values in scores.items():
        found = np.array(values)
        row = {
            "backend": name,
            "image_auroc": float(roc_auc_score(anomalous, found)),
            "largest_deviation": float(np.max(np.abs(found - exact) / exact)),
            "changed_decisions": int(((exact >= threshold) != (found >= threshold)).sum()),
            "ms": 1000 * seconds[name] / len(anomalous),
        }
        print(
            f"{name:<23} image AUROC {row['image_auroc']:.4f}  {row['ms']:6.1f} ms per image"
            f"  moves {row['largest_deviation']:.1e} at most, {row['changed_decisions']} decisions changed"
        )
        rows.append(row)
    if arguments.json:
        arguments.json.write_text(json.dumps({"images": len(anomalous), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
