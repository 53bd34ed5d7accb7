"""A run's findings, as one message per route."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from raysvq.fleet.alerts.report import AlertReport
from raysvq.ledger.records import CameraNight, FleetRun

if TYPE_CHECKING:
    from raysvq.fleet.settings import Fleet


def send_alerts(
    run: FleetRun,
    nights: Mapping[str, CameraNight],
    fleet: Fleet,
    now: datetime,
    routes_of: Mapping[str, tuple[str, ...]],
) -> AlertReport:
    """Tell people what is new, worse, lasting or over, each route in one message.

    Called under the fleet's lease, after the run's record. What was told stands below `<out>/ledger/alerts/`;
    a run that dies between telling and writing it tells it again.

    Args:
        nights: of the cameras that were inspected, by name.
        now: with a time zone.
        routes_of: names of the routes of each camera; one that is missing has them all.

    Returns:
        What was sent. A route that fails is named there, and keeps what it owes for the next run.

    Raises:
        StorageError: the state of the alerts cannot be read or written.
        DataError: it is damaged, or of a later version of raysvq.
    """
    raise NotImplementedError
