"""Memory that scoring one large image takes beside its file: 20,000 x 10,000 pixels, RGB.

Run: python benchmarks/memory.py [--width 20000] [--height 10000] [--json FILE]. Each image is scored in a
process of its own, which has loaded the model and scored a small image before; what counts is how far
its peak then rises, with the file, which is read into memory as a scoring job does.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyvips
import torch

from raysvq.model.network import build_network
from raysvq.model.scorer import ImageScorer
from raysvq.settings import Settings, load_settings

NETWORK = ["model.hidden=64", "model.codebook_size=256", "model.embedding_dim=32"]
CASES = {
    "64 x 64 tiles": ["tiles.size=64"],
    "256 x 256 whole": ["tiles.mode=whole", "tiles.size=256"],
}
MIB = 2**20


def make_images(folder: Path, width: int, height: int) -> dict[str, Path]:
    """One noisy picture in several formats, drawn band by band."""
    noise = [pyvips.Image.gaussnoise(width, height, sigma=20, mean=128, seed=seed) for seed in range(3)]
    picture = noise[0].bandjoin(noise[1:]).cast("uchar").copy(interpretation="srgb")
    paths = {
        name: folder / file for name, file in [("TIFF, tiled", "t.tif"), ("PNG", "p.png"), ("JPEG", "j.jpg")]
    }
    picture.tiffsave(str(paths["TIFF, tiled"]), tile=True, tile_width=256, tile_height=256)
    picture.pngsave(str(paths["PNG"]), compression=1)
    picture.jpegsave(str(paths["JPEG"]), Q=85)
    return paths


def bound_mib(file: int, pixels: int, settings: Settings) -> float:
    """What `scoring.image_memory_mib` promises: that, the file, and half a byte per pixel for the map."""
    return settings.scoring.image_memory_mib + (file + pixels / 2) / MIB


def measure(path: Path, settings: Settings) -> dict[str, Any]:
    """Peak memory and time of one image, in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_score, (path, settings))


def _score(path: Path, settings: Settings) -> dict[str, Any]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = build_network(settings)
    scorer = ImageScorer(model, settings, settings.scoring)
    scorer(cv2.imencode(".jpg", np.zeros((512, 512, 3), np.uint8))[1].tobytes())
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _status("VmRSS")
    started = time.perf_counter()
    content = path.read_bytes()
    result = scorer(content)
    return {
        "seconds": time.perf_counter() - started,
        "peak_mib": (_status("VmHWM") - before) / 1024,
        "file_mib": len(content) / MIB,
        "bound_mib": bound_mib(len(content), result.tiling.height * result.tiling.width, settings),
    }


def _status(name: str) -> int:
    """A line of this process's memory, KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--width", type=int, default=20_000)
    parser.add_argument("--height", type=int, default=10_000)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    rows = []
    print(
        f"{arguments.width} x {arguments.height} pixels, RGB; MiB above a process that has scored a small one"
    )
    print(f"{'file':<14}{'case':<18}{'file':>8}{'peak':>8}{'bound':>8}{'seconds':>9}")
    with tempfile.TemporaryDirectory() as name:
        for kind, path in make_images(Path(name), arguments.width, arguments.height).items():
            for case, overrides in CASES.items():
                row = measure(path, load_settings(None, [*overrides, *NETWORK]))
                rows.append({"format": kind, "case": case, **row})
                print(
                    f"{kind:<14}{case:<18}{row['file_mib']:>8.0f}{row['peak_mib']:>8.0f}"
                    f"{row['bound_mib']:>8.0f}{row['seconds']:>9.1f}",
                    flush=True,
                )
    if arguments.json:
        record = {"width": arguments.width, "height": arguments.height, "rows": rows}
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
