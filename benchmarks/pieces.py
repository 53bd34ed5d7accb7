"""Large pieces instead of tiles: does encoding an image whole score faster, and as well?

Run: python benchmarks/pieces.py RUN [--json FILE], where RUN is what `raysvq demo --out RUN` made. The test
images are scored in float32 three ways:

    tiles     stride = size
    overlap   stride = size / 2, maps averaged
    pieces    one encoding of the whole image: what pieces with a halo as wide as the encoder sees give

All tile scores are summed over the shares of the same tiles, without overlap, in the image's map.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from raysvq.data.manifest import open_manifest
from raysvq.evaluation.masks import MaskReader
from raysvq.imaging.decode import DecodeError, decode_image
from raysvq.imaging.overlay import upsample
from raysvq.imaging.pixels import to_planes
from raysvq.imaging.tiling import Tiling, is_anomalous, mask_fractions, plan_tiles
from raysvq.model.anomaly import image_score
from raysvq.model.bundle import Bundle, load_bundle
from raysvq.model.pixel_network import CELL
from raysvq.model.scorer import ImageScorer, to_model_input
from raysvq.storage import read_bytes

PIXELS = 20_000  # compared of each image
Score = Callable[[bytes], np.ndarray]  # a file -> its anomaly map


def by_tiles(bundle: Bundle, stride: int) -> Score:
    """The scorer as it is."""
    tiles = bundle.settings.tiles.model_copy(update={"stride": stride})
    settings = bundle.settings.model_copy(update={"tiles": tiles})
    scorer = ImageScorer(bundle.model, settings, settings.scoring)
    return lambda content: scorer(content).anomaly_map


def by_pieces(bundle: Bundle) -> Score:
    """The whole image at once, mirrored at its right and bottom edge until it fills whole cells."""

    def score(content: bytes) -> np.ndarray:
        image = to_planes(decode_image(content, 10**9), bundle.settings.tiles.channels)
        edges = [(0, -image.shape[0] % CELL), (0, -image.shape[1] % CELL), (0, 0)]
        pixels = to_model_input(np.pad(image, edges, mode="symmetric")[None], torch.device("cpu"))
        with torch.inference_mode():
            return bundle.model.distance_map(pixels)[0].numpy()

    return score


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a demo run")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    bundle = load_bundle(str(arguments.run / "model"))
    size = bundle.settings.tiles.size
    ways = {
        "tiles": by_tiles(bundle, size),
        "overlap": by_tiles(bundle, size // 2),
        "pieces": by_pieces(bundle),
    }
    found: dict[str, dict[str, list]] = {way: {"image": [], "tile": [], "pixel": []} for way in ways}
    truth: dict[str, list] = {"image": [], "tile": [], "pixel": []}
    seconds = dict.fromkeys(ways, 0.0)
    rng, masks = np.random.default_rng(0), MaskReader()
    for row in open_manifest(str(arguments.run / "manifest.parquet")).to_table().to_pylist():
        if row["split"] != "test":
            continue
        content = read_bytes(row["uri"])
        try:
            height, width = decode_image(content, 10**9).shape[:2]
        except DecodeError:
            continue
        mask = masks.read(row["mask_uri"], height, width) if row["label"] == "anomalous" else None
        marked = np.zeros((height, width), bool) if mask is None else mask
        tiling = plan_tiles(height, width, bundle.settings.tiles.model_copy(update={"stride": None}))
        chosen = rng.choice(height * width, min(height * width, PIXELS), replace=False)
        truth["image"].append(row["label"] == "anomalous")
        fractions = mask_fractions(marked, tiling.rects())
        truth["tile"].extend(is_anomalous(fractions, bundle.settings.tiles.anomalous_fraction))
        truth["pixel"].extend(marked.ravel()[chosen])
        for way, score in ways.items():
            started = time.process_time()
            anomaly_map = score(content)
            seconds[way] += time.process_time() - started
            found[way]["image"].append(
                image_score(anomaly_map.reshape(1, -1), np.zeros(1), bundle.settings.anomaly)
            )
            found[way]["tile"].extend(_shares(anomaly_map, tiling))
            span = (anomaly_map.shape[0] * CELL, anomaly_map.shape[1] * CELL)
            found[way]["pixel"].extend(upsample(anomaly_map, span, (height, width)).ravel()[chosen])
    rows = []
    print(f"{len(truth['image'])} test images of {arguments.run}; tiles of {size} pixels, one thread")
    print(f"{'way':<10}{'image AUROC':>13}{'tile AUROC':>12}{'pixel AUROC':>13}{'ms per image':>14}")
    for way, scores in found.items():
        image, tile, pixel = (roc_auc_score(truth[kind], scores[kind]) for kind in truth)
        ms = 1000 * seconds[way] / len(truth["image"])
        rows.append({"way": way, "image_auroc": image, "tile_auroc": tile, "pixel_auroc": pixel, "ms": ms})
        print(f"{way:<10}{image:>13.3f}{tile:>12.3f}{pixel:>13.3f}{ms:>14.1f}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"images": len(truth["image"]), "rows": rows}, indent=1) + "\n")


def _shares(anomaly_map: np.ndarray, tiling: Tiling) -> list[float]:
    """Root of the summed squares over each tile's share of a map."""
    return [
        float(np.linalg.norm(anomaly_map[y // CELL : (y + h) // CELL, x // CELL : (x + w) // CELL]))
        for x, y, w, h in tiling.rects()
    ]


if __name__ == "__main__":
    main()
