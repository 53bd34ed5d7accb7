"""Watching without labels: what at a camera is not as in its model's reference, or its own past weeks."""

from raysvq.fleet.watch.evidence import COLUMNS, SIGNALS, Evidence, Watched
from raysvq.fleet.watch.watch import watch_fleet

__all__ = ["COLUMNS", "SIGNALS", "Evidence", "Watched", "watch_fleet"]
