"""The sweep's page: leaderboard, what the settings do, how trials went."""

from raysvq.report.sweep.render import write_report

__all__ = ["write_report"]
