"""AUROC of test patches, by defect and by how much of them is marked; of the tiles of whole test images."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.methods.patches import RULE
from benchmarks.methods.protocol import Results, measure
from benchmarks.methods.records import Run
from raysvq.evaluation.bootstrap import bootstrap_intervals
from raysvq.evaluation.labelled_images import TestImage, read_manifest
from raysvq.evaluation.masks import MaskReader, tile_labels
from raysvq.evaluation.metrics import BoolArray, FloatArray, auroc_of_counts, image_auroc

RESAMPLES = 2000
SHARES = (0.05, 0.1, 0.25, 0.5, 1.0)  # of a patch that is marked: ends of the ranges


def patch_metrics(results: Results, manifest: str) -> Run:
    """AUROC of the test patches with its interval; that of each kind of defect and range of marked shares.

    The interval is a bootstrap's over the images that the patches were cut from.
    """
    images = list(read_manifest(manifest).images.values())
    labels = np.array([image.anomalous for image in images])
    scores = np.array([results[image.image_id].image_score for image in images], np.float64)
    groups = [image.group for image in images]
    ends = bootstrap_intervals(
        labels, scores, groups, [auroc_of_counts], resamples=RESAMPLES, confidence=0.95
    )
    kinds = np.array([image.defect_type or "" for image in images])
    shares = np.array([_marked(image) for image in images])
    ranges = {f"{low:g} to {high:g}": (shares >= low) & (shares <= high) for low, high in pairwise(SHARES)}
    return {
        "auroc": image_auroc(labels, scores),
        "interval": ends[0] if ends else None,
        "by_defect": _aurocs(
            {str(kind): kinds == kind for kind in sorted(set(kinds[labels]))}, labels, scores
        ),
        "by_share": _aurocs(ranges, labels, scores),
        "test_normal": int((~labels).sum()),
        "test_anomalous": int(labels.sum()),
    }


def tile_metrics(results: Results, manifest: str) -> Run:
    """Values of `raysvq evaluate` for whole test images; tile AUROC against tiles of good images alone."""
    found = measure(results, manifest)
    chosen: Run = {name: found[name] for name in ("tile_auroc", "image_auroc", "pixel_auroc")}
    masks, anomalous, good = MaskReader(), [], []
    for image in read_manifest(manifest).images.values():
        result = results[image.image_id]
        tiling = result.tiling
        if tiling.whole:
            return chosen
        labels = tile_labels(image, tiling.rects(), (tiling.height, tiling.width), masks, RULE)
        if image.anomalous and labels is not None:
            anomalous.append(result.tile_scores[labels])
        elif not image.anomalous:
            good.append(result.tile_scores)
    scores = np.concatenate(anomalous + good).astype(np.float64)
    marked = np.arange(len(scores)) < sum(map(len, anomalous))
    return chosen | {"tile_auroc_of_good": image_auroc(marked, scores)}


def _marked(image: TestImage) -> float:
    if not image.anomalous or image.mask_uri is None:
        return 0.0
    return float((np.asarray(Image.open(image.mask_uri)) > 0).mean())


def _aurocs(
    parts: dict[str, npt.NDArray[np.bool_]], labels: BoolArray, scores: FloatArray
) -> dict[str, float | None]:
    """AUROC of each part of what is anomalous against all that is normal; None where it is empty."""
    return {name: image_auroc(labels[~labels | part], scores[~labels | part]) for name, part in parts.items()}
