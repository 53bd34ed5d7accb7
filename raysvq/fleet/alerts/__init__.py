"""People are told what a run found: once, grouped, at hours that suit them; and the run's digest."""

from raysvq.fleet.alerts.digest import digest
from raysvq.fleet.alerts.report import AlertReport
from raysvq.fleet.alerts.send import send_alerts

__all__ = ["AlertReport", "digest", "send_alerts"]
