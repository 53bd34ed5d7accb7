"""Watches all cameras of a fleet for a night."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING

from raysvq.fleet.watch.evidence import Evidence, Watched
from raysvq.ledger.records import CameraNight

if TYPE_CHECKING:
    from raysvq.fleet.cameras import WatchSettings


def watch_fleet(
    tonight: Mapping[str, Evidence],
    history: Sequence[Sequence[CameraNight]],
    settings: WatchSettings,
    today: date,
    now: datetime | None = None,
) -> Mapping[str, Watched]:
    """Compare each camera's night with its model's reference and with its own trailing weeks.

    Args:
        tonight: camera -> evidence.
        history: earlier runs of the fleet, oldest first.
        today: in the fleet's time zone.
        now: up to which freshness is measured; None: to the start of `today` in UTC.

    Returns:
        camera -> signals and findings; one for each camera of `tonight`.
    """
    raise NotImplementedError
