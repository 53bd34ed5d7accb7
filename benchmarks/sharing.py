"""How many processes a GPU is worth: images per second of scoring jobs by `scoring.per_gpu`.

Run: python -m benchmarks.sharing [--per-gpu 1 2 4 8] [--cases NAME ...] [--images 8000] [--json FILE].
JPEG files of 256 x 256 pixels on local disk, networks with random weights, one job after the other on a Ray
started on this machine. Each job runs twice; the second one finds its processes warm, and counts. Rates are
from the first scored image to the last.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.hardware import accelerator, processor
from benchmarks.scoring import make_images, run_raysvq
from devtools.untrained import untrained_bundle
from raysvq.data.index import build_index
from raysvq.model.bundle import save_bundle
from raysvq.settings import load_settings

ROOT = Path(__file__).parent.parent
CASES = ("features", "textures")  # configurations


def main() -> None:
    """Measure, print a line per job, write the JSON anew after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--per-gpu", type=int, nargs="+", default=[1, 2, 4, 8], help="default: 1 2 4 8")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--images", type=int, default=8000, help="default 8000")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("there is no GPU here")
    hardware = ", ".join([processor(), *accelerator(torch.device("cuda"))])
    print(f"{hardware}\n{'case':<12}{'precision':<12}{'processes':>10}{'images/s':>10}", flush=True)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_images(folder / "images", arguments.images)
        manifest = str(folder / "manifest.parquet")
        build_index(str(folder / "images"), manifest, load_settings().split)
        for case in arguments.cases:
            model = str(folder / case)
            settings = load_settings(ROOT / "configs" / f"{case}.yaml")
            save_bundle(untrained_bundle(settings, threshold=1e9), model)
            for precision in ("float32", "bfloat16"):
                for count in arguments.per_gpu:
                    overrides = [f"scoring.per_gpu={count}", f"scoring.precision={precision}"]
                    job = load_settings(None, [*overrides, "scoring.device=gpu"])
                    out = str(folder / f"{case}-{precision}-{count}")
                    run_raysvq(manifest, model, f"{out}-warm-up", job)
                    rate = run_raysvq(manifest, model, out, job)
                    print(f"{case:<12}{precision:<12}{count:>10}{rate:>10.0f}", flush=True)
                    rows.append(
                        {"case": case, "precision": precision, "per_gpu": count, "images_per_s": rate}
                    )
                    if arguments.json:
                        record = {"hardware": hardware, "images": arguments.images, "rows": rows}
                        arguments.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
