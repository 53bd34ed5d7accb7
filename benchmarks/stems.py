"""What stems cost: channels of their features, size, and CPU time per image on one thread.

Run: python -m benchmarks.stems [STEM ...] [--side 256] [--json FILE]

A STEM is what `model.stem` takes. Without one, those that raysvq knows by name, and the smallest DINOv2 and
DINOv3 in their published sizes. Weights are random, since time does not depend on them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from raysvq.model.stems import Stem, build_stem
from raysvq.model.stems.brought import BroughtStem
from raysvq.settings import ModelSettings
from raysvq.settings.model import LITE_NAMES

# `config.json` of the smallest published ones.
_SMALL = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6}
DINO = {
    "dinov2-small": {"model_type": "dinov2", "patch_size": 14, "image_size": 518, **_SMALL},
    "dinov3-vits16": {"model_type": "dinov3_vit", "patch_size": 16, "num_register_tokens": 4, **_SMALL},
}
_WARM_UP = 2  # rounds before time is taken


def measure(stems: Sequence[str], side: int, images: int) -> list[dict[str, Any]]:
    """Figures of each stem, for images of about this side that it takes.

    The stems take turns, so that another load on the machine slows all of them alike.
    """
    rows = [_described(stem, side) for stem in stems]
    seconds: list[list[float]] = [[] for _ in rows]
    with torch.inference_mode():
        for _ in range(_WARM_UP + images):
            for (stem, row), spent in zip(rows, seconds, strict=True):
                pixels = torch.rand(1, 3, row["side"], row["side"])
                started = time.process_time()
                stem(pixels)
                spent.append(time.process_time() - started)
    return [
        row | {"ms": 1000 * statistics.median(spent[_WARM_UP:])}
        for (_, row), spent in zip(rows, seconds, strict=True)
    ]


def _described(name: str, side: int) -> tuple[Stem, dict[str, Any]]:
    stem = build_stem(ModelSettings(encoder="features", stem=name)).eval()
    side = stem.nearest(side) if isinstance(stem, BroughtStem) else side
    held = sum(value.numel() * value.element_size() for value in stem.state_dict().values())
    held += sum(map(len, stem.files().values()))
    return stem, {"stem": Path(name).name, "side": side, "channels": stem.channels, "mib": held / 2**20}


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("stems", nargs="*", help="values of model.stem")
    parser.add_argument("--side", type=int, default=256, help="of an image, in pixels; the nearest is taken")
    parser.add_argument("--images", type=int, default=20, help="over which the median is taken")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for name, config in DINO.items():
            (Path(folder) / name).mkdir()
            (Path(folder) / name / "config.json").write_text(json.dumps(config))
        stems = arguments.stems or [*LITE_NAMES, *(f"{folder}/{name}" for name in DINO)]
        rows = measure(stems, arguments.side, arguments.images)
    print("| stem | side | channels | MiB | CPU ms per image |\n|---|---|---|---|---|")
    for row in rows:
        print(f"| {row['stem']} | {row['side']} | {row['channels']} | {row['mib']:.0f} | {row['ms']:.1f} |")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
