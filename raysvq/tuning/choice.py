"""Which trial to take: the defaults, unless the data can tell that another one is better."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from scipy.stats import norm, t

from raysvq.tuning.judging import IMAGE_AUROC, SYNTHETIC_AUROC
from raysvq.tuning.leaderboard import FINISHED, Trial

_CHANCE = 0.05  # that a trial no better than the defaults is taken


def choose(trials: Sequence[Trial], metric: str) -> tuple[Trial, str]:
    """The trial to take, and why it is not the first of the ranked `trials`, if so.

    The defaults, number 0, are kept unless the best is ahead of them by more than luck gives the luckiest
    of so many trials once in twenty times, with Bonferroni's correction for their number. There is nothing
    to keep where the defaults failed or are over a limit.

    Over several draws of the split, luck is told by a t-test of the differences over the same draws, their
    variance pooled over the trials. One draw says nothing of its own spread: there it follows from the
    number of validation images, see `_spread`.
    """
    best = trials[0]
    defaults = next((one for one in trials if one.number == 0 and one.status == FINISHED), None)
    if defaults is None or best is defaults:
        return best, ""
    several = len(defaults.figures) > 1
    luck = _luck_over_draws(defaults, trials) if several else _luck_of_one_draw(defaults, trials, metric)
    lead = (best.figure or 0) - (defaults.figure or 0)
    if lead > luck:
        return best, ""
    normal, anomalous = defaults.validated
    over = f"over {len(defaults.figures)} splits" if several else _counted(normal, anomalous, metric)
    return defaults, (
        f"the defaults are kept: trial {best.number} is ahead by {lead:.4f} {over}, and luck alone may put"
        f" one of {len(trials) - 1} trials {luck:.4f} ahead"
    )


def _luck_over_draws(defaults: Trial, trials: Sequence[Trial]) -> float:
    repeats = len(defaults.figures)
    ahead = [
        [figure - usual for figure, usual in zip(one.figures, defaults.figures, strict=True)]
        for one in trials
        if one is not defaults and len(one.figures) == repeats
    ]
    error = math.sqrt(statistics.mean(statistics.variance(one) for one in ahead) / repeats)
    return error * float(t.ppf(1 - _CHANCE / (len(trials) - 1), (repeats - 1) * len(ahead)))


def _luck_of_one_draw(defaults: Trial, trials: Sequence[Trial], metric: str) -> float:
    """At the mean of the two, as if they were equally good.

    Both are judged by the same images, and so differ by less than two independent ones would: the defaults
    are kept more often than need be. `tuning.repeats` tells finer.
    """
    mean = ((trials[0].figure or 0) + (defaults.figure or 0)) / 2
    error = math.sqrt(2) * _spread(mean, *defaults.validated, metric)
    return error * float(norm.ppf(1 - _CHANCE / (len(trials) - 1)))


def _spread(value: float, normal: int, anomalous: int, metric: str) -> float:
    """Standard error of a figure that so many validation images were judged for.

    Of the AUROC of images by Hanley and McNeil, "The meaning and use of the area under a receiver operating
    characteristic (ROC) curve", Radiology 143 (1982), eq. 1. Tiles and regions of an image go together, so
    that images count for the other metrics too: there it is the most that a mean of so many values
    between 0 and 1 can have.
    """
    if not normal or not anomalous:
        return math.inf
    evenly = value * (1 - value)
    if metric not in (IMAGE_AUROC, SYNTHETIC_AUROC):
        return math.sqrt(evenly / min(normal, anomalous))
    two_outliers = value / (2 - value) - value**2
    two_normals = 2 * value**2 / (1 + value) - value**2
    variance = evenly + (anomalous - 1) * two_outliers + (normal - 1) * two_normals
    return math.sqrt(variance / (normal * anomalous))


def _counted(normal: int, anomalous: int, metric: str) -> str:
    kind = "images with a defect drawn on" if metric == SYNTHETIC_AUROC else "outliers"
    return f"with {anomalous} validation {kind} and {normal} normal images"
