"""What a night is judged on, and what is found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa

from raysvq.ledger.records import CameraNight, Finding
from raysvq.schema import REFERENCE

if TYPE_CHECKING:
    from raysvq.fleet.settings.cameras import Camera

COLUMNS = tuple(REFERENCE.names)  # of the score rows, and of the model's reference

# Names in `CameraNight.signals` -> what they are. A number that a night does not have is left out.
SIGNALS = {
    "images": "images whose rows were looked at",
    "score": "median image score",
    "exposure": "median exposure, stops: log2 of the mean linear luminance, 0 at full scale",
    "contrast": "median contrast: log2 of the deviation of grey values over their mean",
    "sharpness": "median sharpness: log2 of the variance of the Laplacian over that of grey values",
    "warmth": "median warmth: log2 of linear red over blue",
    "width": "most frequent width, pixels",
    "height": "most frequent height, pixels",
    "codes": "share of the code use on codes that normal images hardly use",
    "alarm_rate": "anomalous images per scored one",
    "reject_rate": "rejected images per scored or rejected one",
    "volume": "new images",
}


@dataclass(frozen=True)
class Evidence:
    """What is known of a camera after tonight's run."""

    camera: Camera
    night: CameraNight  # its counts
    rows: pa.Table | None  # COLUMNS of tonight's new score rows, at most 2,000
    reference: pa.Table | None  # COLUMNS of normal images; None: the model has none
    max_false_alarm_rate: float | None  # promised by the model's decisions; None: no promise


@dataclass(frozen=True)
class Watched:
    """What watching makes of a camera's night."""

    signals: dict[str, float] = field(default_factory=dict)  # by names of SIGNALS, and some for later nights
    findings: tuple[Finding, ...] = ()  # worst first
