"""Who learns from what, and how every method is measured.

The split is by image, as `raysvq index` draws it. Methods learn from the training split, may choose on the
validation split, and meet the test split once. Labelled outliers leave the test. A method that takes no
labels learns from the manifest without labelled outliers and is measured on the same test images as the rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from raysvq.data.index import build_index
from raysvq.evaluation.labelled_images import TestImage, read_manifest
from raysvq.evaluation.masks import MaskReader, tile_labels
from raysvq.evaluation.measure import measure_group
from raysvq.evaluation.pixel_metrics import AnomalyMap, PixelCurves
from raysvq.evaluation.score_rows import ScoredImage
from raysvq.imaging.tiling import plan_tiles
from raysvq.model.anomaly import tile_scores
from raysvq.model.scorer import ImageResult
from raysvq.settings import EvaluationSettings, SplitSettings, TileSettings
from raysvq.storage import ObjectInfo, read_bytes

Scorer = Callable[[bytes], ImageResult]  # an image file -> its scores and anomaly map
Results = dict[str, ImageResult]  # by image id

METRICS = ("image_auroc", "tile_auroc", "pixel_auroc", "au_pro")
TILES = TileSettings(size=64, anomalous_fraction=0.05)  # that tile AUROC is measured on, for every method


@dataclass(frozen=True, order=True)
class Level:
    """How many outliers are labelled: `split.outliers` or `split.gamma`."""

    kind: str  # outliers or gamma
    value: float

    def __str__(self) -> str:
        return f"{self.kind}={self.value:g}"

    def split(self, seed: int) -> SplitSettings:
        """The draw of this level; draws of one seed hold each other, the smaller in the larger."""
        value = int(self.value) if self.kind == "outliers" else self.value
        return SplitSettings.model_validate({"seed": seed, self.kind: value})


NO_LABELS = Level("outliers", 0)


class Manifests:
    """The manifests of image sets, each made when it is first asked for."""

    def __init__(self, data: Path, folder: Path) -> None:
        """Make one.

        Args:
            data: holds a folder for each set: an image tree, or images with `listing.csv`.
            folder: where manifests go.
        """
        self.data = data
        self.folder = folder

    def __call__(self, name: str, level: Level, seed: int) -> str:
        """The manifest's path."""
        manifest = self.folder / f"{name}-{level}-{seed}.parquet"
        if not manifest.exists():
            listing = self.data / name / "listing.csv"
            source = listing if listing.exists() else self.data / name
            build_index(str(source), str(manifest), level.split(seed))
        return str(manifest)


def score_test(
    scorer: Scorer, manifest: str, now: Callable[[], float] = time.process_time
) -> tuple[Results, float]:
    """Scores of all labelled test images, and the milliseconds each took: reading, decoding, scoring."""
    images = read_manifest(manifest).images.values()
    started = now()
    results = {image.image_id: scorer(read_bytes(image.uri)) for image in images}
    return results, 1000 * (now() - started) / len(results)


def measure(results: Results, manifest: str) -> dict[str, Any]:
    """The metric values of `raysvq evaluate` over a manifest's test images, and the numbers of these."""
    images = read_manifest(manifest).images
    settings = EvaluationSettings(bootstrap=0)
    masks = MaskReader()
    scored = [_scored(image, results[name], masks) for name, image in sorted(images.items())]
    metrics = measure_group(scored, _pixels(results, images, masks), settings)
    counts = {"test_normal": metrics.normal_images, "test_anomalous": metrics.anomalous_images}
    values = {name: getattr(metrics, name).value for name in METRICS}
    return values | counts


def _scored(image: TestImage, result: ImageResult, masks: MaskReader) -> ScoredImage:
    height, width = result.tiling.height, result.tiling.width
    tiling = plan_tiles(height, width, TILES)
    scores = result.tile_scores if result.tiling == tiling else _scores_on(tiling.rects(), result)
    labels = tile_labels(image, tiling.rects(), (height, width), masks, TILES)
    score = float(np.float32(result.image_score))  # as score rows hold it
    version = ObjectInfo(image.uri, 0, None, None)  # for pages that show images, which this is not
    return ScoredImage(image, width, height, score, False, np.inf, scores, labels, version)


def _scores_on(rects: np.ndarray, result: ImageResult) -> np.ndarray:
    """Eq. 5 of tiles that the method did not cut: over their share of the map at full size."""
    full = _full_size(result)
    parts = (full[y : y + h, x : x + w] for x, y, w, h in rects)
    return np.concatenate([tile_scores(part[None]) for part in parts])


def _pixels(results: Results, images: dict[str, TestImage], masks: MaskReader) -> PixelCurves:
    curves = PixelCurves(min(float(results[name].anomaly_map.min()) for name in images))
    for name, image in images.items():
        full = _full_size(results[name])
        mask = masks.read(image.mask_uri, *full.shape) if image.anomalous else None
        if mask is not None or not image.anomalous:
            curves.update(full, mask)
    return curves


def _full_size(result: ImageResult) -> np.ndarray:
    size = (result.tiling.height, result.tiling.width)
    return AnomalyMap("", result.anomaly_map, result.span, size).full_size()
