"""The metric by which trials are compared, over validation images."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raysvq.errors import DataError
from raysvq.evaluation.labelled_images import TestImage
from raysvq.evaluation.masks import MaskReader, tile_labels
from raysvq.evaluation.metrics import image_auroc
from raysvq.evaluation.pixel_metrics import AnomalyMap, PixelCurves
from raysvq.imaging.decode import DecodeError
from raysvq.model.network import Network
from raysvq.model.scorer import ImageResult, ImageScorer
from raysvq.settings import Settings
from raysvq.storage import read_bytes
from raysvq.training.validation import ValidationImage

IMAGE_AUROC, TILE_AUROC, AU_PRO, SYNTHETIC_AUROC = "image_auroc", "tile_auroc", "au_pro", "synthetic_auroc"
_TIMED = 6  # images whose scoring is timed


@dataclass(frozen=True)
class Evaluated:
    """A validation image and a model's result for it."""

    image: ValidationImage
    result: ImageResult


def metric_of(settings: Settings, images: Sequence[ValidationImage], manifest: str) -> str:
    """The name of the metric that these validation images allow and `tuning.metric` asks for.

    Raises:
        DataError: they do not allow it.
    """
    metric = settings.tuning.metric
    if all(image.anomalous for image in images):
        raise DataError(
            f"manifest {manifest} has no normal images in its validation split, where trials are evaluated;"
            " raise split.validation_fraction when indexing"
        )
    outliers = [image for image in images if image.anomalous]
    if metric == "auto":
        return IMAGE_AUROC if outliers else SYNTHETIC_AUROC
    if metric != SYNTHETIC_AUROC and not outliers:
        raise DataError(
            f"setting `tuning.metric`: {metric} needs anomalous images, and manifest {manifest} has none"
            " in its validation split; index with split.outliers or split.gamma, or take tuning.metric=auto"
        )
    if _takes_masks(metric, settings) and not any(image.mask_uri for image in outliers):
        raise DataError(
            f"setting `tuning.metric`: {metric} needs masks, and manifest {manifest} has none of the"
            f" {len(outliers)} anomalous validation images; take tuning.metric=image_auroc"
        )
    return metric


def counted_images(metric: str, images: Sequence[ValidationImage], settings: Settings) -> tuple[int, int]:
    """The number of normal and of anomalous images, of these, that the metric is taken over."""
    masks = _takes_masks(metric, settings)
    anomalous = sum(image.anomalous and (not masks or image.mask_uri is not None) for image in images)
    return sum(not image.anomalous for image in images), anomalous


def metric_value(metric: str, evaluated: Sequence[Evaluated], settings: Settings) -> float:
    """The metric over these images, in [0, 1]; larger is better.

    Raises:
        DataError: readable images or usable masks are too few for it.
    """
    if metric == AU_PRO:
        value = _au_pro(evaluated, settings)
    elif metric == TILE_AUROC:
        value = _tile_auroc(evaluated, settings)
    else:
        value = _image_auroc(evaluated)
    if value is None:
        raise DataError(f"{metric} cannot be taken: no validation image of a kind, or no mask, is readable")
    return value


def selection_auroc(metric: str, evaluated: Sequence[Evaluated]) -> float | None:
    """AUROC of labelled images, by which `raysvq train` selects its model; None without any."""
    return None if metric == SYNTHETIC_AUROC else _image_auroc(evaluated)


def image_milliseconds(scorer: ImageScorer, images: Sequence[ValidationImage]) -> float | None:
    """CPU milliseconds per image from file to score; None where none can be read."""
    if scorer.device.type != "cpu":
        scorer = ImageScorer(copy.deepcopy(scorer.model), scorer.settings, scorer.scoring)
    scored, started = 0, time.process_time()
    for image in images[:_TIMED]:
        try:
            scorer(read_bytes(image.uri))
        except (DecodeError, OSError):
            continue
        scored += 1
    return 1000 * (time.process_time() - started) / scored if scored else None


def model_mib(model: Network) -> float:
    """Size of a model's weights and files, MiB."""
    return model.size_bytes / 2**20


def _takes_masks(metric: str, settings: Settings) -> bool:
    return metric == AU_PRO or (metric == TILE_AUROC and settings.tiles.mode == "tiles")


def _image_auroc(evaluated: Sequence[Evaluated]) -> float | None:
    labels = np.array([one.image.anomalous for one in evaluated], bool)
    return image_auroc(labels, np.array([one.result.image_score for one in evaluated]))


def _tile_auroc(evaluated: Sequence[Evaluated], settings: Settings) -> float | None:
    masks = MaskReader()
    labels, scores = [], []
    for one in evaluated:
        tiling = one.result.tiling
        found = tile_labels(
            _as_test(one.image), tiling.rects(), (tiling.height, tiling.width), masks, settings.tiles
        )
        if found is not None:
            labels.append(found)
            scores.append(one.result.tile_scores)
    return image_auroc(np.concatenate(labels), np.concatenate(scores)) if labels else None


def _au_pro(evaluated: Sequence[Evaluated], settings: Settings) -> float | None:
    masks = MaskReader()
    curves = PixelCurves(min(float(one.result.anomaly_map.min()) for one in evaluated))
    for one in evaluated:
        size = (one.result.tiling.height, one.result.tiling.width)
        mask = masks.read(one.image.mask_uri, *size) if one.image.anomalous else None
        if mask is not None or not one.image.anomalous:
            full = AnomalyMap("", one.result.anomaly_map, one.result.span, size).full_size()
            curves.update(full, mask)
    return curves.au_pro(settings.evaluation.fpr_limit)


def _as_test(image: ValidationImage) -> TestImage:
    return TestImage("", image.uri, image.anomalous, image.mask_uri, None)
