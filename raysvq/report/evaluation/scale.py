"""The scale on which scores are drawn and the threshold moves, and the bars of the scores on it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from raysvq.evaluation.result import Evaluation
from raysvq.report.svg import log_axis, round_ticks

BINS = 60
_WIDE = 10  # a larger ratio of largest to smallest makes the scale logarithmic
_FEW_DECADES = 3  # on the scale, up to which 2 and 5 are marked between them
_ROOM = 0.03  # of the scale, beyond the outermost score


@dataclass(frozen=True)
class Bars:
    """Numbers of images in BINS bars of equal width on the scale."""

    normal: tuple[int, ...]
    anomalous: tuple[int, ...]


@dataclass(frozen=True)
class ScoreScale:
    """A range of scores; where images have different thresholds, of scores over their threshold.

    Left of `low` is no score: a threshold there flags all. Right of `high` is none either.
    """

    low: float
    high: float
    logarithmic: bool
    relative: bool  # score / threshold
    ticks: tuple[tuple[float, str], ...]  # (share of the scale, text)
    bars: Bars

    def share(self, value: float) -> float:
        """The position of a value, 0..1."""
        low, high = self.low, self.high
        if self.logarithmic:
            value, low, high = math.log(value), math.log(low), math.log(high)
        return min(1.0, max(0.0, (value - low) / (high - low)))


def score_scale(evaluation: Evaluation) -> ScoreScale | None:
    """The scale of the test images' scores with their threshold; None without images."""
    images = evaluation.images
    if not images:
        return None
    relative = evaluation.threshold is None
    scores = np.array([image.score for image in images])
    thresholds = np.array([image.threshold for image in images])
    values = scores / thresholds if relative else scores
    mark = 1.0 if relative else float(thresholds[0])
    low, high = min(float(values.min()), mark), max(float(values.max()), mark)
    logarithmic = low > 0 and high > _WIDE * low
    ends = _widened(low, high, logarithmic)
    bad = np.array([image.anomalous for image in images])
    edges = (np.geomspace if logarithmic else np.linspace)(*ends, BINS + 1)
    bars = Bars(_counts(values[~bad], edges), _counts(values[bad], edges))
    bare = ScoreScale(*ends, logarithmic, relative, (), bars)
    ticks = _ticks(*ends, logarithmic)
    return ScoreScale(
        *ends, logarithmic, relative, tuple((bare.share(tick), f"{tick:.6g}") for tick in ticks), bars
    )


def _widened(low: float, high: float, logarithmic: bool) -> tuple[float, float]:
    if logarithmic:
        room = (high / low) ** _ROOM
        return low / room, high * room
    room = (high - low or abs(high) or 1.0) * _ROOM
    return low - room, high + room


def _counts(values: npt.NDArray[np.float64], edges: npt.NDArray[np.float64]) -> tuple[int, ...]:
    return tuple(np.histogram(values, edges)[0].tolist())


def _ticks(low: float, high: float, logarithmic: bool) -> list[float]:
    if not logarithmic:
        return [tick for tick in round_ticks(low, high) if low <= tick <= high]
    decades = log_axis(low, high, "").ticks
    inside = [tick for tick in decades if low <= tick <= high]
    if len(inside) > _FEW_DECADES:
        return inside
    return [step * decade for decade in decades for step in (1, 2, 5) if low <= step * decade <= high]
