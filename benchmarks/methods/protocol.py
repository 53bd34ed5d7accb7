"""What a method is given, and how what it scored is measured.

A method gets the path of a manifest that holds no test image, and gives back a function from the bytes of an
image file to scores. The code here calls that on the test images, in the order of their ids, and measures;
labels and masks of the test never reach a method.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.methods.draws import NO_LABELS, Level, draw
from benchmarks.methods.sets import read_set, root_of
from raysvq.data.manifest import Row, write_manifest
from raysvq.evaluation.labelled_images import TestImage, read_manifest
from raysvq.evaluation.masks import MaskReader, tile_labels
from raysvq.evaluation.measure import measure_group
from raysvq.evaluation.pixel_metrics import AnomalyMap, PixelCurves
from raysvq.evaluation.score_rows import ScoredImage
from raysvq.imaging.tiling import plan_tiles
from raysvq.model.anomaly import tile_scores
from raysvq.model.scorer import ImageResult
from raysvq.settings import EvaluationSettings, TileSettings
from raysvq.storage import ObjectInfo, read_bytes

Scorer = Callable[[bytes], ImageResult]  # an image file -> its scores and anomaly map
Results = dict[str, ImageResult]  # by image id

METRICS = ("image_auroc", "tile_auroc", "pixel_auroc", "au_pro")
TILES = TileSettings(size=64, anomalous_fraction=0.05)  # that tile AUROC is measured on, for every method


@dataclass(frozen=True)
class Paths:
    """The two manifests of a draw."""

    learn: str  # rows of train and validation: all that a method gets
    test: str  # rows of the test: for the code that measures
    root: str  # what all URIs of the set start with
    digest: str  # over images, labels, groups and splits of both


@dataclass
class Manifests:
    """The manifests of image sets, each made when it is first asked for."""

    data: Path  # holds a folder for each set: an image tree, or images with `listing.csv`
    folder: Path  # where manifests go
    largest: Level = NO_LABELS  # see `benchmarks.methods.draws.draw`
    _rows: dict[str, list[Row]] = field(default_factory=dict)
    _made: dict[tuple[str, Level, int], Paths] = field(default_factory=dict)

    def __call__(self, name: str, level: Level, seed: int) -> Paths:
        """The manifests of a draw.

        Raises:
            DataError: the set cannot be read, or has too few anomalous images for the level.
        """
        key = (name, level, seed)
        if key not in self._made:
            self._made[key] = self._make(*key)
        return self._made[key]

    def _make(self, name: str, level: Level, seed: int) -> Paths:
        if name not in self._rows:
            self._rows[name] = read_set(self.data, name)
        root = root_of(self.data, name)
        drawn = draw(self._rows[name], root, level, seed, self.largest)
        learn, test = (
            str(self.folder / f"{name}-{level}-{seed}-{part}.parquet") for part in ("learn", "test")
        )
        write_manifest(drawn.learn, learn)
        write_manifest(drawn.test, test)
        return Paths(learn, test, root, drawn.digest(root))


def score_test(
    scorer: Scorer, manifest: str, now: Callable[[], float] = time.process_time
) -> tuple[Results, float]:
    """Scores of all test images, and the milliseconds each took: reading, decoding, scoring."""
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
