"""The figures of one group of images, each with an interval or the reason why it is missing."""

from __future__ import annotations

from collections.abc import Sequence

from raysvq.evaluation.metrics import (
    Statistic,
    auroc_of_counts,
    average_precision,
    average_precision_of_counts,
    bootstrap_interval,
    image_auroc,
)
from raysvq.evaluation.pixels import PixelCurves
from raysvq.evaluation.result import Measure, Metrics
from raysvq.evaluation.scored import ScoredImage, image_arrays, tile_arrays
from raysvq.settings import EvaluationSettings


def measure_group(
    images: Sequence[ScoredImage], curves: PixelCurves | None, settings: EvaluationSettings
) -> Metrics:
    """Measure some images; `curves` holds their pixels, None where none could be counted."""
    anomalous = sum(item.image.anomalous for item in images)
    area, precision = _image_measures(images, settings)
    pixel_auroc, au_pro = _pixel_measures(curves, settings)
    return Metrics(
        normal_images=len(images) - anomalous,
        anomalous_images=anomalous,
        image_auroc=area,
        average_precision=precision,
        tile_auroc=_tile_measure(images),
        pixel_auroc=pixel_auroc,
        au_pro=au_pro,
    )


def _image_measures(images: Sequence[ScoredImage], settings: EvaluationSettings) -> tuple[Measure, Measure]:
    labels, scores = image_arrays(images)
    missing = _absent(int(labels.sum()), int((~labels).sum()), "test image was scored")

    def measure(value: float | None, statistic: Statistic) -> Measure:
        if value is None:
            return Measure(None, reason=missing)
        interval = bootstrap_interval(
            labels, scores, statistic, resamples=settings.bootstrap, confidence=settings.confidence
        )
        return Measure(value, *(interval or (None, None)))

    return (
        measure(image_auroc(labels, scores), auroc_of_counts),
        measure(average_precision(labels, scores), average_precision_of_counts),
    )


def _tile_measure(images: Sequence[ScoredImage]) -> Measure:
    labels, scores = tile_arrays(images)
    value = image_auroc(labels, scores)
    if value is None:
        return Measure(None, reason=_absent(int(labels.sum()), int((~labels).sum()), "tile is known"))
    return Measure(value)


def _pixel_measures(curves: PixelCurves | None, settings: EvaluationSettings) -> tuple[Measure, Measure]:
    if curves is None:
        missing = Measure(None, reason="no anomaly map of these images was kept, or no mask is usable")
        return missing, missing
    auroc, au_pro = curves.auroc(), curves.au_pro(settings.fpr_limit)
    if auroc is None or au_pro is None:
        missing = Measure(None, reason=f"{'every' if curves.components else 'no'} pixel is marked")
        return missing, missing
    return Measure(auroc), Measure(au_pro)


def _absent(anomalous: int, normal: int, what: str) -> str:
    if not anomalous and not normal:
        return f"no labelled {what}"
    return f"no normal {what}" if anomalous else f"no anomalous {what}"
