"""What an evaluation found. Everything that could not be computed is None, with the reason beside it."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from raysvq.evaluation.threshold import Confusion
from raysvq.settings import EvaluationSettings, TileSettings
from raysvq.storage import ObjectInfo


@dataclass(frozen=True)
class MetricValue:
    """A figure in 0..1, its bootstrap interval where there is one, or why there is no figure."""

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Metrics:
    """The figures of one group of anomalous images against all normal ones."""

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
    """Images, as the commit records and the manifest have them."""

    scored: int  # by the model that is evaluated
    rejected: int
    manifest: dict[str, dict[str, int]]  # split -> label -> images
    test_scored: dict[str, int]  # label -> images
    test_rejected: int
    test_missing: int  # labelled, but neither scored nor rejected


@dataclass(frozen=True)
class Rejected:
    """Images refused for one reason."""

    reason: str
    images: int
    examples: tuple[tuple[str, str], ...]  # (URI, detail) of the first few


@dataclass(frozen=True)
class Example:
    """An image worth looking at."""

    image_id: str
    uri: str
    mask_uri: str | None
    width: int
    height: int
    score: float
    anomalous: bool
    flagged: bool
    defect_type: str | None
    version: ObjectInfo  # that was scored


@dataclass(frozen=True)
class Histogram:
    """Image scores by label, in bins of equal width, or of equal ratio where logarithmic."""

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
    map_range: tuple[float, float] | None  # map values that pictures show as nothing and as most
    worst: tuple[Example, ...]  # highest scores
    lowest_anomalous: tuple[Example, ...]  # missed first
    highest_normal: tuple[Example, ...]  # false alarms first
    rejected: tuple[Rejected, ...]
    notes: tuple[str, ...]  # what was left out of a figure, and why


def to_json(evaluation: Evaluation) -> str:
    """The evaluation as indented JSON; numbers are plain, what is missing is null."""
    plain = dataclasses.asdict(evaluation)
    return json.dumps(plain, default=_plain, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"no JSON form for {type(value).__name__}")
