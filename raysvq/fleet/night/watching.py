"""What a night is watched by: its new rows, and what its models know of normal images."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, time, timedelta
from functools import cache

import pyarrow as pa

from raysvq.errors import RaysvqError
from raysvq.fleet.night.nights import Work, with_watched
from raysvq.fleet.planning.asked import Asked
from raysvq.fleet.planning.plan import CameraPlan
from raysvq.fleet.settings.fleet import Fleet
from raysvq.fleet.watch import Evidence, watch_fleet
from raysvq.ledger.records import CameraNight


def watch_night(
    fleet: Fleet,
    asked: Asked,
    plans: Mapping[str, CameraPlan],
    works: Mapping[str, Work],
    nights: Mapping[str, CameraNight],
    now: datetime,
    problems: list[str],
) -> dict[str, CameraNight]:
    """The nights with what watching found.

    Args:
        problems: takes each reference that cannot be read; its cameras are compared with their own past.
    """

    @cache
    def reference(model: str) -> pa.Table | None:
        from raysvq.model.bundle import load_reference  # brings PyTorch, which a night without work needs not

        try:
            return load_reference(model)
        except RaysvqError as error:
            problems.append(f"watching: {error}")
            return None

    tonight = {}
    for name, night in nights.items():
        work = works.get(name, Work())
        rows = work.committed.rows if work.committed else None
        known = reference(work.request.model) if rows is not None and work.request else None
        tonight[name] = Evidence(plans[name].camera, night, rows, known, night.promised_rate)
    # Of a night that is made up for, freshness is measured at its end.
    end = datetime.combine(asked.night + timedelta(days=1), time(), fleet.timezone)
    found = watch_fleet(tonight, asked.history, fleet.watch, asked.night, min(now, end))
    return {name: with_watched(night, found[name]) for name, night in nights.items()}
