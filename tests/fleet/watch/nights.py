"""Nights of one camera, made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from raysvq.fleet.settings.cameras import Camera, Expect, WatchSettings
from raysvq.fleet.watch import Evidence, Watched, watch_fleet
from raysvq.ledger.records import CameraNight, Finding
from raysvq.schema import REFERENCE

TODAY = date(2026, 3, 19)  # a Thursday
NAME = "north.cam-07"


def rows(images: int = 100, seed: int = 0, **changes: Any) -> pa.Table:
    """Rows of like images; `changes` are added to their numbers, or take the place of columns."""
    rng = np.random.default_rng(seed)
    values: dict[str, Any] = {
        "image_score": 2.0 ** (0.3 * rng.standard_normal(images) + changes.pop("score", 0.0)),
        "width": np.full(images, 640),
        "height": np.full(images, 480),
        "codes": list(rng.integers(0, 100, (images, 16)).astype(np.uint16)),
    }
    for name, usual in (("exposure", -2.0), ("contrast", -1.5), ("sharpness", -3.0), ("warmth", 0.2)):
        values[name] = usual + 0.1 * rng.standard_normal(images)
    for name, change in changes.items():
        values[name] = values[name] + change if np.isscalar(change) else change
    return pa.table({name: pa.array(values[name], REFERENCE.field(name).type) for name in REFERENCE.names})


def night(day: date = TODAY, images: int = 100, **fields: Any) -> CameraNight:
    """Counts of a night without alarms or rejects."""
    given = {"scored": images, "new": images, "model_digest": "m", "settings_digest": "s", "threshold": 8.0}
    return CameraNight(NAME, f"run-{day}", day.isoformat(), "ok", **given | fields)


def healthy(nights: int, reference: pa.Table | None = None, **fields: Any) -> list[list[CameraNight]]:
    """The ledger of so many like nights before today, oldest first."""
    history: list[list[CameraNight]] = []
    for number in range(nights):
        day = TODAY - timedelta(days=nights - number)
        history.append([add(history, day, rows(seed=number + 1), reference, **fields)])
    return history


def add(
    history: Sequence[Sequence[CameraNight]],
    day: date,
    images: pa.Table,
    reference: pa.Table | None = None,
    **fields: Any,
) -> CameraNight:
    """A night as the ledger has it, with what was found."""
    found = watch(images, history, reference, day, **fields)
    return replace(night(day, len(images), **fields), signals=found.signals, findings=found.findings)


def watch(
    images: pa.Table | None,
    history: Sequence[Sequence[CameraNight]] = (),
    reference: pa.Table | None = None,
    today: date = TODAY,
    settings: WatchSettings | None = None,
    **fields: Any,
) -> Watched:
    """What watching makes of a night of this camera alone."""
    count = 0 if images is None else len(images)
    camera = Camera(NAME, (), "model", expect=fields.pop("expect", Expect()))
    promised, now = fields.pop("promised", None), fields.pop("now", None)
    given = Evidence(camera, night(today, **{"images": count} | fields), images, reference, promised)
    return watch_fleet({NAME: given}, history, settings or WatchSettings(), today, now)[NAME]


def only(found: Watched, signal: str) -> Finding:
    """The one finding about a signal."""
    (finding,) = (each for each in found.findings if each.signal == signal)
    return finding
