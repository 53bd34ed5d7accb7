"""The metrics of one group of images, each with an interval or the reason why it is missing."""

from __future__ import annotations

from collections.abc import Sequence

from raysvq.evaluation.bootstrap import Interval, bootstrap_intervals
from raysvq.evaluation.metrics import (
    auroc_of_counts,
    average_precision,
    average_precision_of_counts,
    image_auroc,
)
from raysvq.evaluation.pixel_metrics import PixelCurves
from raysvq.evaluation.result import Metrics, MetricValue
from raysvq.evaluation.score_rows import ScoredImage, image_arrays, tile_arrays
from raysvq.settings import EvaluationSettings

_Pair = tuple[MetricValue, MetricValue]


def measure_group(
    images: Sequence[ScoredImage],
    curves: PixelCurves | None,
    settings: EvaluationSettings,
    *,
    own_normals: bool = True,
) -> Metrics:
    """Compute the metrics of some images.

    Args:
        curves: of their pixels; None where no pixel could be counted.
        own_normals: False where the normal images are those of all images.
    """
    anomalous = sum(item.image.anomalous for item in images)
    auroc, precision = _image_metrics(images, settings)
    pixel_auroc, au_pro = _pixel_metrics(curves, settings)
    return Metrics(
        normal_images=len(images) - anomalous,
        anomalous_images=anomalous,
        false_alarms=sum(item.flagged and not item.image.anomalous for item in images),
        found=sum(item.flagged and item.image.anomalous for item in images),
        own_normals=own_normals,
        image_auroc=auroc,
        average_precision=precision,
        tile_auroc=_tile_auroc(images),
        pixel_auroc=pixel_auroc,
        au_pro=au_pro,
    )


def _image_metrics(images: Sequence[ScoredImage], settings: EvaluationSettings) -> _Pair:
    labels, scores = image_arrays(images)
    missing = _absent(int(labels.sum()), int((~labels).sum()), "test image was scored")

    values = image_auroc(labels, scores), average_precision(labels, scores)
    found = bootstrap_intervals(
        labels,
        scores,
        [item.image.group for item in images],
        (auroc_of_counts, average_precision_of_counts),
        resamples=settings.bootstrap,
        confidence=settings.confidence,
    )
    intervals: Sequence[Interval | None] = found or (None, None)
    auroc, precision = (
        MetricValue(None, reason=missing) if value is None else MetricValue(value, *(ends or (None, None)))
        for value, ends in zip(values, intervals, strict=True)
    )
    return auroc, precision


def _tile_auroc(images: Sequence[ScoredImage]) -> MetricValue:
    labels, scores = tile_arrays(images)
    value = image_auroc(labels, scores)
    if value is None:
        return MetricValue(None, reason=_absent(int(labels.sum()), int((~labels).sum()), "tile is known"))
    return MetricValue(value)


def _pixel_metrics(curves: PixelCurves | None, settings: EvaluationSettings) -> _Pair:
    if curves is None:
        missing = MetricValue(None, reason="no anomaly map of these images was kept, or no mask is usable")
        return missing, missing
    auroc, au_pro = curves.auroc(), curves.au_pro(settings.fpr_limit)
    if auroc is None or au_pro is None:
        missing = MetricValue(None, reason=f"{'every' if curves.components else 'no'} pixel is marked")
        return missing, missing
    return MetricValue(auroc), MetricValue(au_pro)


def _absent(anomalous: int, normal: int, what: str) -> str:
    if not anomalous and not normal:
        return f"no labelled {what}"
    return f"no normal {what}" if anomalous else f"no anomalous {what}"
