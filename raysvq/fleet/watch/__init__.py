"""Watching without labels: what differs at a camera from its model's reference, or from its own past weeks."""

from raysvq.fleet.watch.evidence import COLUMNS, SIGNALS, Evidence, Watched
from raysvq.fleet.watch.watch import watch_fleet

__all__ = ["COLUMNS", "SIGNALS", "Evidence", "Watched", "watch_fleet"]
