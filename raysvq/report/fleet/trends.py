"""Charts of a camera's nights. A line is broken where a night is missing."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from itertools import pairwise

from markupsafe import escape

from raysvq.ledger.records import CameraNight
from raysvq.report.fleet.history import alarm_rate, promotions
from raysvq.report.fleet.signals import TRENDS, Trend
from raysvq.report.fleet.times import day
from raysvq.report.svg import Axis, Chart, dot, figure, line, linear_axis, place

_HEIGHT = 220  # of a chart, beside its width of 520
_LABELS = 6  # dates along the axis
_MISSED = 1.5  # times the usual days between nights: more of them, and one is missing
_MODEL_LETTERS = 22  # of a version that is written into a chart

Series = tuple[str, str, Callable[[CameraNight], float | None]]  # CSS class, legend, value of a night


@dataclass(frozen=True)
class Figure:
    """A chart with its title and what it means."""

    title: str
    about: str
    chart: Chart


def trends(nights: Sequence[CameraNight]) -> list[Figure]:
    """The charts of nights of different dates, oldest first; those without a value are left out."""
    drawn = [
        _figure(
            nights,
            Trend(
                "Alarm rate",
                "images flagged, %",
                "Share of the images that are flagged.",
                {},
                ("alarm_rate",),
            ),
            [
                ("s1", "of all images", lambda night: _percent(alarm_rate(night))),
                ("chance", "promised for good images, at most", lambda night: _percent(night.promised_rate)),
            ],
        ),
        *(_figure(nights, trend, _series(trend)) for trend in TRENDS),
        _figure(
            nights,
            Trend("Images", "images", "Images that were scored.", {}, ("volume", "freshness")),
            [("s0", "scored", lambda night: float(night.scored))],
            from_zero=True,
        ),
        _figure(
            nights,
            Trend("Rejected", "images", "Images that could not be scored.", {}, ("rejects",)),
            [("s3", "rejected", lambda night: float(night.rejected))],
            from_zero=True,
        ),
    ]
    return [one for one in drawn if one is not None]


def _series(trend: Trend) -> list[Series]:
    def value(name: str) -> Callable[[CameraNight], float | None]:
        return lambda night: night.signals[name] * trend.scale if name in night.signals else None

    series = [(f"s{at}", legend, value(name)) for at, (name, legend) in enumerate(trend.series.items())]
    if trend.with_threshold:
        series.append(("chance", "threshold", lambda night: night.threshold))
    return series


def _figure(
    nights: Sequence[CameraNight], trend: Trend, series: Sequence[Series], *, from_zero: bool = False
) -> Figure | None:
    own = {value for night in nights if (value := series[0][2](night)) is not None}
    if not own or (from_zero and own == {0.0}) or (trend.only_changes and len(own) == 1):
        return None
    x = _dates([date.fromisoformat(night.night) for night in nights])
    y = _values(nights, trend.label, series, from_zero)
    cuts = {when for when, _ in promotions(nights)} if trend.of_the_model else set()
    elements = _promotions(x, y, nights)
    legend = []
    for css, name, value_of in series:
        points = [(date.fromisoformat(night.night), value_of(night)) for night in nights]
        for part in _unbroken(points, cuts):
            elements.append(line(x, y, [(when.toordinal(), value) for when, value in part], css))
        if any(value is not None for _, value in points):
            legend.append((css, name))
    marks = _findings(x, y, nights, trend, series[0][2])
    if marks:
        legend.append(("flag", "something stands out"))
    chart = Chart(figure(x, y, [*elements, *marks], f"{trend.title} over the nights"), tuple(legend))
    return Figure(trend.title, trend.about, chart)


def _values(nights: Sequence[CameraNight], label: str, series: Sequence[Series], from_zero: bool) -> Axis:
    """The upright axis. It starts at 0 where that costs less than half of it, or there is one value alone."""
    values = [value for _, _, of in series for night in nights if (value := of(night)) is not None]
    low, high = min(values), max(values)
    if from_zero or 0 <= low < high / 2 or 0 < low == high:
        low = 0.0
    return replace(linear_axis(low, 1.0 if low == high == 0 else high, label), height=_HEIGHT)


def _unbroken(points: Sequence[tuple[date, float | None]], cuts: set[date]) -> list[list[tuple[date, float]]]:
    """Runs of points without a gap: a night without a value, a missing night, or a cut before it."""
    gaps = [(after - before).days for (before, _), (after, _) in pairwise(points)]
    usual = statistics.median(gaps) if gaps else 1
    parts: list[list[tuple[date, float]]] = []
    before: date | None = None
    for when, value in points:
        if value is None:
            before = None
            continue
        if before is None or when in cuts or (when - before).days > _MISSED * usual:
            parts.append([])
        parts[-1].append((when, value))
        before = when
    return parts


def _dates(nights: Sequence[date]) -> Axis:
    first, last = nights[0], nights[-1]
    if first == last:
        first, last = first - timedelta(1), last + timedelta(1)
    step = max(1, -(-(last - first).days // _LABELS))
    ticks = tuple(range(last.toordinal(), first.toordinal() - 1, -step))[::-1]
    names = tuple(day(date.fromordinal(tick)) for tick in ticks)
    return Axis(first.toordinal(), last.toordinal(), ticks, "", names=names)


def _promotions(x: Axis, y: Axis, nights: Sequence[CameraNight]) -> list[str]:
    drawn = []
    for when, version in promotions(nights):
        across, top = place(x, y, (when.toordinal(), y.high))
        _, bottom = place(x, y, (when.toordinal(), y.low))
        short = version if len(version) <= _MODEL_LETTERS else version[: _MODEL_LETTERS - 1] + "…"
        anchor, beside = ("end", -5) if x.share(when.toordinal()) > 0.5 else ("start", 5)
        drawn.append(
            f'<g class="promotion"><title>{escape(version)} from {day(when)} on</title>'
            f'<line x1="{across}" x2="{across}" y1="{top - 14}" y2="{bottom}"/>'
            f'<text x="{across + beside}" y="{top - 5}" text-anchor="{anchor}">{escape(short)}</text></g>'
        )
    return drawn


def _findings(
    x: Axis,
    y: Axis,
    nights: Sequence[CameraNight],
    trend: Trend,
    value: Callable[[CameraNight], float | None],
) -> list[str]:
    drawn = []
    for night in nights:
        sentences = [one.sentence for one in night.findings if one.signal in trend.findings]
        height = value(night)
        if sentences and height is not None:
            at = (date.fromisoformat(night.night).toordinal(), height)
            drawn.append(f"<g><title>{escape(sentences[0])}</title>{dot(x, y, at, 'flag')}</g>")
    return drawn


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
