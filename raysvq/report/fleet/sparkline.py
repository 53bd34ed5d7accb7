"""The alarm rates of a camera's nights as small bars: a night without images has none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from raysvq.ledger.records import CameraNight
from raysvq.report.fleet.history import UNWELL, alarm_rate

WIDTH, HEIGHT = 120, 30
_BASE = 23.0  # of the bars, down from the top
_LOWEST = 1.2  # height of the bar of a night without an alarm
_EDGE = 2.0  # on both sides


@dataclass(frozen=True)
class Sparkline:
    """Paths of an SVG picture of WIDTH x HEIGHT, and what they say in words."""

    bars: str  # strokes, a night each
    marks: str  # below them: nights with a warning or an error
    crosses: str  # nights that failed
    promised: float | None  # how far down the promised rate is
    words: str


def sparkline(nights: Sequence[CameraNight], first: date, last: date) -> Sparkline:
    """Draw nights of different dates, over the dates that a fleet's nights span."""
    span = max(1, (last - first).days)
    rates = [(night, alarm_rate(night)) for night in nights]
    known = [rate for _, rate in rates if rate is not None]
    promised = next((night.promised_rate for night in reversed(nights) if night.promised_rate), None)
    top = max([*known, 2 * (promised or 0), 0.001])
    bars, marks, crosses = [], [], []
    for night, rate in rates:
        across = _EDGE + (date.fromisoformat(night.night) - first).days / span * (WIDTH - 2 * _EDGE)
        if rate is not None:
            high = max(_LOWEST, rate / top * (_BASE - 1))
            bars.append(f"M{across:.4g} {_BASE:g}v{-high:.3g}")
        if night.state == "failed":
            crosses.append(f"M{across - 1.6:.4g} 25.4l3.2 3.2m0-3.2l-3.2 3.2")
        elif night.state in UNWELL:
            marks.append(f"M{across:.4g} 25v3.6")
    line = None if promised is None else round(_BASE - promised / top * (_BASE - 1), 1)
    return Sparkline("".join(bars), "".join(marks), "".join(crosses), line, _words(known, len(nights)))


def _words(rates: Sequence[float], nights: int) -> str:
    if not rates:
        return f"nothing scored in {_nights(nights)}"
    low, high = f"{100 * min(rates):.1f}", f"{100 * max(rates):.1f}"
    span = f"{low} %" if low == high else f"{low} to {high} %"
    return f"alarm rate of {_nights(len(rates))}: {span}, last {100 * rates[-1]:.1f} %"


def _nights(number: int) -> str:
    return f"{number} night" + ("" if number == 1 else "s")
