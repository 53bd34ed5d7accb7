"""From scores to decisions: policies, what they promise, groups and p-values. NumPy and SciPy only.

`fit_decisions(CalibrationScores(...), settings.decision, pixel_threshold, data)` makes `Decisions`, which
decide about images one by one.
"""

from raysvq.decisions.calibration import CalibrationScores, KeptScores
from raysvq.decisions.decisions import Decision, Decisions, fit_decisions, fixed_decisions
from raysvq.decisions.groups import GroupDecision
from raysvq.decisions.promise import Promise, false_alarm_interval
from raysvq.decisions.refit import refit

__all__ = [
    "CalibrationScores",
    "Decision",
    "Decisions",
    "GroupDecision",
    "KeptScores",
    "Promise",
    "false_alarm_interval",
    "fit_decisions",
    "fixed_decisions",
    "refit",
]
