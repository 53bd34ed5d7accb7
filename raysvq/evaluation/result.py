"""The result of an evaluation. A value that could not be computed is None, with the reason beside it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from raysvq.decisions import Promise
from raysvq.evaluation.confusion import Confusion
from raysvq.settings import EvaluationSettings, TileSettings
from raysvq.storage import ObjectInfo

DEFECT_TYPE, DEFECT_AREA, LARGEST_DEFECT, GROUP = "defect_type", "defect_area", "largest_defect", "group"


@dataclass(frozen=True)
class MetricValue:
    """A metric in 0..1 and its bootstrap interval, if it has one; or the reason why there is no value."""

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Metrics:
    """The metrics of anomalous images against normal ones, and how scoring decided on them."""

    normal_images: int
    anomalous_images: int
    false_alarms: int  # normal images that were flagged
    found: int  # anomalous images that were flagged
    own_normals: bool  # of a slice: whether the normal images are its own; else they are those of all images
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
class MapRegion:
    """A connected part of the anomaly map over the pixel threshold, in pixels of the image."""

    x: int
    y: int
    w: int
    h: int
    area: int
    peak: float  # of the map


@dataclass(frozen=True)
class ImageRecord:
    """A labelled test image, its score, how it was decided, and which of its defects were found.

    What an older version of raysvq did not write, or what could not be read, is None.
    """

    image_id: str
    uri: str
    mask_uri: str | None
    width: int  # pixels
    height: int
    score: float
    threshold: float  # flagged where score >= threshold
    p_value: float | None  # share of normal images that score as high
    margin: float | None  # score / threshold - 1
    policy: str | None
    decision_group: str | None  # whose threshold decided; None: that of all images
    flagged: bool
    anomalous: bool
    defect_type: str | None
    group: str | None  # part or lot
    meta: Mapping[str, str]
    defect_area: float | None  # share of the image that its mask marks; None without a usable mask
    defects: int | None  # 8-connected components of the mask
    largest_defect: int | None  # pixels of the largest one
    defects_found: int | None  # those that a region overlaps; None without a mask, map or pixel threshold
    false_regions: int | None  # regions that overlap no defect; None without a map, or without a needed mask
    regions: tuple[MapRegion, ...]  # of the score row, highest peak first
    version: ObjectInfo  # of the file that was scored


# What became of a promise. "above": the rate is worse than promised, by no more than chance explains.
# "none": the policy promises no rate, or the model is of an earlier version.
Judgement = Literal["kept", "above", "broken", "none"]


@dataclass(frozen=True)
class Outcome:
    """What was promised, against what the test split shows."""

    judgement: Judgement
    normals: int
    false_alarms: int
    low: int  # false alarms that calibration lets expect among so many new normal images: central 95 %
    high: int
    uniform_p: float | None  # Kolmogorov-Smirnov: p that the normals' p-values are uniform; None without them
    sentence: str


@dataclass(frozen=True)
class Costs:
    """How many parts are defective and what wrong decisions cost, as the settings say; None: not said."""

    defect_rate: float | None
    miss: float | None
    false_alarm: float | None


@dataclass(frozen=True)
class OperatingPoint:
    """What a threshold gives on the test split.

    Per 1,000 parts where `Costs.defect_rate` is known; else escapes per 1,000 defective parts, and false
    alarms per 1,000 good ones.
    """

    threshold: float  # of the score; where images have different ones, a multiple of each image's own
    false_alarm_rate: float | None  # share of the normal images; None where there are none
    recall: float | None  # share of the anomalous images
    escapes_per_1000: float | None
    false_alarms_per_1000: float | None
    cost: float | None  # per 1,000 parts; None where a cost or the defect rate is not known


@dataclass(frozen=True)
class DefectBand:
    """Defects of one range of sizes."""

    name: str  # such as "100 to 999 pixels"
    defects: int
    found: int


@dataclass(frozen=True)
class DefectCounts:
    """Defects found: components of masks that a region of the map over the pixel threshold overlaps."""

    pixel_threshold: float
    defects: int
    found: int
    by_size: tuple[DefectBand, ...]  # smallest first
    images: int  # anomalous ones with a mask and a map
    normal_images: int  # with a map
    false_regions: int  # in the normal images


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
    # Column -> value -> metrics. DEFECT_TYPE, DEFECT_AREA, LARGEST_DEFECT, GROUP, then metadata.
    slices: dict[str, dict[str, Metrics]]
    promise: Promise | None  # of the model's decisions; None where they are not known
    outcome: Outcome | None  # None without a normal image, or where other decisions decided
    costs: Costs
    operating_points: tuple[OperatingPoint, ...]  # thresholds ascend
    defects: DefectCounts | None  # None where no map or no pixel threshold is known
    threshold: float | None  # None where score rows carry different ones
    confusion: Confusion
    roc: tuple[tuple[float, float], ...]  # (false-positive rate, true-positive rate)
    histogram: Histogram
    map_range: tuple[float, float] | None  # map values that heat maps show as nothing, and as strongest
    images: tuple[ImageRecord, ...]  # by image id; in images.parquet, not in evaluation.json
    rejected: tuple[Rejected, ...]
    notes: tuple[str, ...]  # what was left out of a metric, and why

    @property
    def by_defect_type(self) -> dict[str, Metrics]:
        """Each type of defect, mostly against all normal images."""
        return self.slices.get(DEFECT_TYPE, {})


def to_json(evaluation: Evaluation) -> str:
    """The evaluation without its images, as indented JSON; missing values are null."""
    plain = dataclasses.asdict(dataclasses.replace(evaluation, images=()))
    del plain["images"]
    return json.dumps(plain, default=_plain, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(f"no JSON form for {type(value).__name__}")
