"""What became of a run's alerts."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class AlertReport:
    """Counts of alerts (a finding on a route is one), and the routes that failed.

    No text in it holds a route's URL.
    """

    sent: int = 0  # told for the first time, at a higher level, or as recovered
    held: int = 0  # due, but in the quiet hours of their route; a later run sends them
    repeated: int = 0  # told again, as they last
    failed: dict[str, str] = field(default_factory=dict)  # by route: why its message was not taken
