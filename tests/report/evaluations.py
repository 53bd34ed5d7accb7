"""Evaluations that stand in for those of real models, and what they report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from raysvq.evaluation.metrics import roc_points
from raysvq.evaluation.result import (
    DEFECT_TYPE,
    Confusion,
    Costs,
    Counts,
    Evaluation,
    Histogram,
    ImageRecord,
    Metrics,
    MetricValue,
    OperatingPoint,
    Outcome,
    Provenance,
)
from raysvq.settings import EvaluationSettings, TileSettings
from raysvq.storage import ObjectInfo

THRESHOLD = 3.0
NOTHING = MetricValue(None, reason="not measured here")
_WHEN = datetime(2025, 3, 4, 5, 6, tzinfo=UTC)


def record(name: str, score: float, anomalous: bool = False, **more: Any) -> ImageRecord:
    """An image of 64 x 48 pixels, which is not there to be drawn."""
    uri = f"/parts/{name}"
    made = ImageRecord(
        image_id=uri,
        uri=uri,
        mask_uri=None,
        width=64,
        height=48,
        score=score,
        threshold=THRESHOLD,
        p_value=0.01 if score >= THRESHOLD else 0.4,
        margin=score / THRESHOLD - 1,
        policy="max_false_alarm_rate",
        decision_group=None,
        flagged=score >= THRESHOLD,
        anomalous=anomalous,
        defect_type="scratch" if anomalous else None,
        group=None,
        meta={},
        defect_area=0.02 if anomalous else None,
        defects=1 if anomalous else None,
        largest_defect=60 if anomalous else None,
        defects_found=1 if anomalous and score >= THRESHOLD else 0 if anomalous else None,
        false_regions=0,
        regions=(),
        version=ObjectInfo(uri, 1, None, _WHEN),
    )
    return replace(made, **more)


def records(normal: int, anomalous: int) -> list[ImageRecord]:
    """Images of three cameras; most defects, and one in 50 good images, score above the threshold."""
    rng = np.random.default_rng(5)
    good = [
        record(f"line-1/good-{place:05}.png", float(score), meta={"camera": f"c{place % 3}"})
        for place, score in enumerate(rng.lognormal(0.5, 0.3, normal))
    ]
    bad = [
        record(
            f"line-2/bad-{place:05}.png",
            float(score),
            anomalous=True,
            defect_type=("scratch", "pit")[place % 2],
            meta={"camera": f"c{place % 3}"},
        )
        for place, score in enumerate(rng.lognormal(1.6, 0.5, anomalous))
    ]
    return good + bad


def evaluation(images: Sequence[ImageRecord], gallery: int = 200, **more: Any) -> Evaluation:
    """An evaluation of these images: counts and curves are theirs, metrics are left out."""
    bad = np.array([image.anomalous for image in images], dtype=bool)
    flagged = np.array([image.flagged for image in images], dtype=bool)
    scores = np.array([image.score for image in images])
    thresholds = {image.threshold for image in images}
    overall = metrics(images)
    types = sorted({image.defect_type for image in images if image.defect_type})
    made = Evaluation(
        provenance=Provenance(
            manifest="/parts/manifest.parquet",
            scores="/parts/scores",
            run_ids=("run-1",),
            scored_at=_WHEN.isoformat(),
            model_version="plates-1",
            model_digest="d" * 16,
            settings_digest="s" * 16,
            code_version="0.1.0",
        ),
        settings=EvaluationSettings(gallery=gallery),
        tiles=TileSettings(),
        counts=Counts(len(images), 0, {"test": {"normal": len(images)}}, {"normal": len(images)}, 0, 0),
        overall=overall,
        slices={
            DEFECT_TYPE: {
                name: metrics([image for image in images if not image.anomalous or image.defect_type == name])
                for name in types
            }
        },
        promise=None,
        outcome=Outcome("kept", int((~bad).sum()), overall.false_alarms, 0, 12, 0.4, "The promise held."),
        costs=Costs(None, None, None),
        operating_points=tuple(_points(bad, scores)),
        defects=None,
        threshold=thresholds.pop() if len(thresholds) == 1 else None,
        confusion=Confusion(
            int((bad & flagged).sum()),
            overall.false_alarms,
            int((~bad & ~flagged).sum()),
            int((bad & ~flagged).sum()),
        ),
        roc=roc_points(bad, scores),
        histogram=Histogram((0.0, 1.0), (0,), (0,), False),
        map_range=None,
        images=tuple(images),
        rejected=(),
        notes=(),
    )
    return replace(made, **more)


def metrics(images: Sequence[ImageRecord]) -> Metrics:
    """Counts of these images, without metrics."""
    bad = [image for image in images if image.anomalous]
    good = [image for image in images if not image.anomalous]
    return Metrics(
        normal_images=len(good),
        anomalous_images=len(bad),
        false_alarms=sum(image.flagged for image in good),
        found=sum(image.flagged for image in bad),
        own_normals=True,
        image_auroc=NOTHING,
        average_precision=NOTHING,
        tile_auroc=NOTHING,
        pixel_auroc=NOTHING,
        au_pro=NOTHING,
    )


def _points(bad: np.ndarray, scores: np.ndarray) -> list[OperatingPoint]:
    if not bad.any() or bad.all():
        return []
    return [
        OperatingPoint(
            threshold=float(threshold),
            false_alarm_rate=float((scores[~bad] >= threshold).mean()),
            recall=float((scores[bad] >= threshold).mean()),
            escapes_per_1000=1000 * float((scores[bad] < threshold).mean()),
            false_alarms_per_1000=1000 * float((scores[~bad] >= threshold).mean()),
            cost=None,
        )
        for threshold in np.quantile(scores, np.linspace(0, 1, 21))
    ]
