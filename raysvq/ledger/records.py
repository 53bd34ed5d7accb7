"""The records of a fleet's ledger, as types, with their Arrow schemas."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Literal

import pyarrow as pa

from raysvq.errors import DataError
from raysvq.schema import SOURCE_FIELDS, TIMESTAMP

FORMAT = 1  # of the ledger
SCORED, DELETED = "scored", "deleted"  # outcomes of an image; every other one is the reason of its reject row

Level = Literal["info", "warning", "error"]
# quiet: nothing new; failed: its images were not, or not all, scored.
State = Literal["ok", "quiet", "warning", "error", "failed"]

ENTRIES = pa.schema(
    [
        pa.field("camera", pa.string(), nullable=False),
        pa.field("date", pa.date32()),  # of the folder or name it was found under; null where there is none
        *SOURCE_FIELDS,
        pa.field("outcome", pa.string(), nullable=False),  # SCORED, DELETED or a reason of a reject row
        pa.field("is_anomalous", pa.bool_()),  # null where it is not scored
        pa.field("model_version", pa.string()),
        pa.field("model_digest", pa.string()),
        pa.field("settings_digest", pa.string()),
        pa.field("policy", pa.string()),
        pa.field("decisions_digest", pa.string()),
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("version", pa.int64(), nullable=False),  # of the camera's commit that has its row
        pa.field("committed_at", TIMESTAMP, nullable=False),
    ]
)


@dataclass(frozen=True)
class Finding:
    """Something that people should know about a camera, in one plain sentence."""

    camera: str
    signal: (
        str  # exposure, sharpness, warmth, size, score, codes, alarm_rate, rejects, volume, freshness, run
    )
    level: Level
    sentence: str
    value: float | None = None  # of the signal this night
    reference: float | None = None  # what it was compared with
    p_value: float | None = None  # corrected for all tests of the night
    since: str | None = None  # ISO date of the first night that shows it


@dataclass(frozen=True)
class Worst:
    """One of the highest-scored images of a camera's night."""

    image_id: str
    uri: str
    image_score: float
    p_value: float | None
    is_anomalous: bool
    heatmap: str | None  # name below the fleet's folder


@dataclass(frozen=True)
class CameraNight:
    """What one run found and did at one camera."""

    camera: str
    run_id: str
    night: str  # ISO date of the run, in the fleet's time zone
    state: State
    fields: dict[str, str] = field(default_factory=dict)  # of the camera's template: site, line, …
    listed_since: str | None = None  # ISO date of the first day that was listed; None: not listed
    listed_until: str | None = None  # ISO date of the last one
    listed: int = 0  # images there on those days
    new: int = 0
    replaced: int = 0  # scored before, and another file now
    deleted: int = 0  # scored before, and gone
    scored: int = 0
    anomalous: int = 0
    rejected: int = 0
    skipped: int = 0  # found, but neither scored nor rejected in this run
    rejects: dict[str, int] = field(default_factory=dict)  # images by reason
    failure: str | None = None  # why the camera was not, or not all, scored
    last_image: datetime | None = None  # when the newest image known was taken or written
    version: int = 0  # of the newest commit of the camera's scores
    model: str | None = None  # as fleet.yaml names it
    model_version: str | None = None
    model_digest: str | None = None
    settings_digest: str | None = None
    policy: str | None = None
    decisions_digest: str | None = None
    threshold: float | None = None
    promised_rate: float | None = None  # share of good images that the threshold may flag
    seconds: float = 0.0  # of its workers
    signals: dict[str, float] = field(default_factory=dict)  # numbers of the night, by name
    findings: tuple[Finding, ...] = ()
    worst: tuple[Worst, ...] = ()  # highest score first


@dataclass(frozen=True)
class FleetRun:
    """A run over the fleet, from its lease to its record."""

    number: int  # of the record; from 1 on
    run_id: str
    fleet: str
    night: str  # ISO date, in the fleet's time zone
    started_at: str  # ISO 8601, UTC
    ended_at: str
    code_version: str
    fleet_digest: str  # of fleet.yaml, resolved
    arguments: dict[str, Any]  # only, since, until, …: what narrowed it
    cameras: int
    by_state: dict[str, int]  # cameras
    listed: int
    scored: int
    anomalous: int
    rejected: int
    skipped: int
    failed: int  # cameras
    images_per_s: float
    worker_seconds: float
    findings: dict[str, int]  # by level
    problems: tuple[str, ...] = ()  # of the run itself: prefixes, alert routes, the page
    exit_code: int = 0
    templates_digest: str = ""  # of where images land; under others they may have been of other days

    def to_json(self) -> bytes:
        """The record's content."""
        return json.dumps({"format": FORMAT} | asdict(self)).encode()

    @classmethod
    def from_json(cls, content: bytes, uri: str) -> FleetRun:
        """Read what `to_json` wrote.

        Raises:
            DataError: it is damaged, or of a later version of raysvq.
        """
        try:
            values: dict[str, Any] = dict(json.loads(content))
        except (ValueError, TypeError):
            raise DataError(f"{uri} is damaged: it is no whole JSON object") from None
        require_format(values.pop("format", None), uri)
        try:
            return cls(**values | {"problems": tuple(values["problems"])})
        except (KeyError, TypeError) as error:
            raise DataError(f"{uri} is damaged: {error}") from None


def require_format(found: object, uri: str) -> None:
    """Raise DataError where a part of the ledger is of another format than FORMAT."""
    if found != FORMAT:
        newer = isinstance(found, int) and found > FORMAT
        why = "a later version of raysvq wrote it: update raysvq" if newer else "it is no ledger of a fleet"
        raise DataError(f"{uri} has format {found!r}, expected {FORMAT}: {why}")


_FINDING = pa.struct(
    [
        pa.field("camera", pa.string()),
        pa.field("signal", pa.string()),
        pa.field("level", pa.string()),
        pa.field("sentence", pa.string()),
        pa.field("value", pa.float64()),
        pa.field("reference", pa.float64()),
        pa.field("p_value", pa.float64()),
        pa.field("since", pa.string()),
    ]
)
_WORST = pa.struct(
    [
        pa.field("image_id", pa.string()),
        pa.field("uri", pa.string()),
        pa.field("image_score", pa.float64()),
        pa.field("p_value", pa.float64()),
        pa.field("is_anomalous", pa.bool_()),
        pa.field("heatmap", pa.string()),
    ]
)
_COUNTS = ("listed", "new", "replaced", "deleted", "scored", "anomalous", "rejected", "skipped", "version")
_TEXTS = ("model", "model_version", "model_digest", "settings_digest", "policy", "decisions_digest")

NIGHTS = pa.schema(
    [
        pa.field("camera", pa.string(), nullable=False),
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("night", pa.string(), nullable=False),
        pa.field("state", pa.string(), nullable=False),
        pa.field("fields", pa.map_(pa.string(), pa.string())),
        pa.field("listed_since", pa.string()),
        pa.field("listed_until", pa.string()),
        *(pa.field(name, pa.int64(), nullable=False) for name in _COUNTS),
        pa.field("rejects", pa.map_(pa.string(), pa.int64())),
        pa.field("failure", pa.string()),
        pa.field("last_image", TIMESTAMP),
        *(pa.field(name, pa.string()) for name in _TEXTS),
        pa.field("threshold", pa.float64()),
        pa.field("promised_rate", pa.float64()),
        pa.field("seconds", pa.float64(), nullable=False),
        pa.field("signals", pa.map_(pa.string(), pa.float64())),
        pa.field("findings", pa.list_(_FINDING)),
        pa.field("worst", pa.list_(_WORST)),
    ],
    metadata={"format": str(FORMAT)},
)
_MAPS = ("fields", "rejects", "signals")


def nights_to_table(nights: Mapping[str, CameraNight] | list[CameraNight]) -> pa.Table:
    """Rows of NIGHTS, one per camera."""
    given = nights.values() if isinstance(nights, Mapping) else nights
    rows = [asdict(night) for night in given]
    for row in rows:
        row |= {name: list(row[name].items()) for name in _MAPS}
    return pa.Table.from_pylist(rows, schema=NIGHTS)


def nights_from_table(table: pa.Table) -> list[CameraNight]:
    """The reverse of `nights_to_table`."""
    rows = table.to_pylist()
    for row in rows:
        row |= {name: dict(row[name] or ()) for name in _MAPS}
        row["findings"] = tuple(Finding(**each) for each in row["findings"] or ())
        row["worst"] = tuple(Worst(**each) for each in row["worst"] or ())
    return [CameraNight(**row) for row in rows]
