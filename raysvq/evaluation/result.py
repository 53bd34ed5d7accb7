"""The result of an evaluation. A value that could not be computed is None, with the reason beside it."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from raysvq.evaluation.confusion import Confusion
from raysvq.settings import EvaluationSettings, TileSettings
from raysvq.storage import ObjectInfo


@dataclass(frozen=True)
class MetricValue:
    """A metric in 0..1 and its bootstrap interval, if it has one; or the reason why there is no value."""

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Metrics:
    """The metrics of a group of anomalous images against all normal images."""

    normal_images: int
    anomalous_images: int
    image_auroc: MetricValue
    average_precision: MetricValue
    tile_auroc: MetricValue
    pixel_auroc: MetricValue
    au_pro: MetricValue


@dataclass(frozen=True)
class Provenance:
    """Where the score rows came from."""

    manifest: str
    scores: str
    run_ids: tuple[str, ...]
    scored_at: str  # of the last run, ISO 8601
    model_version: str
    model_digest: str
    settings_digest: str
    code_version: str


@dataclass(frozen=True)
class Counts:
    """Numbers of images in the commit records and the manifest."""

    scored: int  # by the model that is evaluated
    rejected: int
    manifest: dict[str, dict[str, int]]  # split -> label -> images
    test_scored: dict[str, int]  # label -> images
    test_rejected: int
    test_missing: int  # labelled, but neither scored nor rejected


@dataclass(frozen=True)
class Rejected:
    """Images that scoring rejected for one reason."""

    reason: str
    images: int
    examples: tuple[tuple[str, str], ...]  # (URI, detail) of the first few


@dataclass(frozen=True)
class Example:
    """An image for the report's galleries."""

    image_id: str
    uri: str
    mask_uri: str | None
    width: int
    height: int
    score: float
    anomalous: bool
    flagged: bool
    defect_type: str | None
    version: ObjectInfo  # of the file that was scored


@dataclass(frozen=True)
class Histogram:
    """Image scores by label, in bins of equal width; logarithmic bins have edges of equal ratio."""

    edges: tuple[float, ...]
    normal: tuple[int, ...]
    anomalous: tuple[int, ...]
    logarithmic: bool


@dataclass(frozen=True)
class Evaluation:
    """A model on the test split of a manifest."""

    provenance: Provenance
    settings: EvaluationSettings
    tiles: TileSettings
    counts: Counts
    overall: Metrics
    by_defect_type: dict[str, Metrics]
    threshold: float | None  # None where score rows carry different ones
    confusion: Confusion
    roc: tuple[tuple[float, float], ...]  # (false-positive rate, true-positive rate)
    histogram: Histogram
    map_range: tuple[float, float] | None  # map values that heat maps show as nothing, and as strongest
    worst: tuple[Example, ...]  # highest scores
    lowest_anomalous: tuple[Example, ...]  # missed images first
    highest_normal: tuple[Example, ...]  # false alarms first
    rejected: tuple[Rejected, ...]
    notes: tuple[str, ...]  # what was left out of a metric, and why


def to_json(evaluation: Evaluation) -> str:
    """The evaluation as indented JSON; missing values are null."""
    plain = dataclasses.asdict(evaluation)
    return json.dumps(plain, default=_plain, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"no JSON form for {type(value).__name__}")
