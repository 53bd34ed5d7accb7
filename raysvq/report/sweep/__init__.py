"""The page of a sweep: leaderboard, effect of the settings, learning curves."""

from raysvq.report.sweep.render import write_report

__all__ = ["write_report"]
