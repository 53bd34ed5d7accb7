"""Charts as inline SVG: axes, frames, lines and bars. Colours are CSS classes, which follow the theme."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 520, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 24, 44
_STEPS = (1, 2, 2.5, 5, 10)  # between ticks, times a power of ten
_SLACK = 1e-9  # of a step: rounding errors of floats


@dataclass(frozen=True)
class Axis:
    """A range of values and its labels."""

    low: float
    high: float
    ticks: tuple[float, ...]
    label: str
    logarithmic: bool = False
    names: tuple[str, ...] = ()  # of the ticks, instead of their values
    height: int = HEIGHT  # of the picture, where this is the upright axis

    def share(self, value: float) -> float:
        """The position of a value on the axis, 0..1."""
        low, high = self.low, self.high
        if self.logarithmic:
            value, low, high = math.log10(value), math.log10(low), math.log10(high)
        return min(1.0, max(0.0, (value - low) / (high - low)))


@dataclass(frozen=True)
class Chart:
    """An SVG element with its legend: (CSS class, name) of each series."""

    svg: Markup
    legend: tuple[tuple[str, str], ...] = ()


def round_ticks(low: float, high: float, *, whole: bool = False, max_steps: int = 6) -> tuple[float, ...]:
    """Multiples of 1, 2, 2.5 or 5 times a power of ten that span a range, in as many steps as fit.

    Args:
        low, high: the range. The first tick is at or below `low`, the last one at or above `high`.
        whole: only whole numbers.
        max_steps: between the first tick and the last.
    """
    power = math.floor(math.log10((high - low) / max_steps))
    if whole:
        power = max(power, 0)
    for step in (size * 10.0**raised for raised in (power, power + 1) for size in _STEPS):
        first, last = math.floor(low / step + _SLACK), math.ceil(high / step - _SLACK)
        if last - first <= max_steps and not (whole and step % 1):
            break
    return tuple(round(number * step, max(0, 2 - power)) for number in range(first, last + 1))


def linear_axis(low: float, high: float, label: str, *, whole: bool = False, exact: bool = False) -> Axis:
    """An axis with round ticks. It ends at `low` and `high` where `exact`, else at the ticks around them."""
    if low == high:
        low, high = low - 0.5, high + 0.5
    ticks = round_ticks(low, high, whole=whole)
    if not exact:
        return Axis(ticks[0], ticks[-1], ticks, label)
    slack = (high - low) * 1e-9
    inside = tuple(tick for tick in ticks if low - slack <= tick <= high + slack)
    return Axis(low, high, inside, label)


def log_axis(low: float, high: float, label: str) -> Axis:
    """A logarithmic axis over whole decades; `low` and `high` must be positive."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    last = max(last, first + 1)
    step = max(1, (last - first) // 6)
    ticks = tuple(10.0**power for power in range(first, last + 1, step))
    return Axis(10.0**first, 10.0**last, ticks, label, logarithmic=True)


def place(x: Axis, y: Axis, point: tuple[float, float]) -> tuple[float, float]:
    """SVG coordinates of a data point."""
    across = _LEFT + x.share(point[0]) * (WIDTH - _LEFT - _RIGHT)
    down = y.height - _BOTTOM - y.share(point[1]) * (y.height - _TOP - _BOTTOM)
    return round(across, 1), round(down, 1)


def figure(x: Axis, y: Axis, elements: Sequence[str], title: str) -> Markup:
    """The whole SVG: grid, tick labels, axis labels, then the elements; `title` is its alternative text."""
    right, bottom = WIDTH - _RIGHT, y.height - _BOTTOM
    parts = [f'<svg viewBox="0 0 {WIDTH} {y.height}" role="img" aria-label="{escape(title)}">']
    for tick, name in _named_ticks(y):
        _, down = place(x, y, (x.low, tick))
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{down}" y2="{down}"/>')
        parts.append(
            f'<text class="tick" x="{_LEFT - 8}" y="{down + 4}" text-anchor="end">{escape(name)}</text>'
        )
    for tick, name in _named_ticks(x):
        across, _ = place(x, y, (tick, y.low))
        parts.append(f'<line class="axis" x1="{across}" x2="{across}" y1="{bottom}" y2="{bottom + 4}"/>')
        parts.append(
            f'<text class="tick" x="{across}" y="{bottom + 18}" text-anchor="middle">{escape(name)}</text>'
        )
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    middle = (_LEFT + right) / 2
    parts.append(
        f'<text class="label" x="{middle}" y="{y.height - 6}" text-anchor="middle">{escape(x.label)}</text>'
    )
    down = (_TOP + bottom) / 2
    parts.append(
        f'<text class="label" transform="translate(13 {down}) rotate(-90)" text-anchor="middle">'
        f"{escape(y.label)}</text>"
    )
    return Markup("".join([*parts, *elements, "</svg>"]))


def line(x: Axis, y: Axis, points: Points, css: str) -> str:
    """A polyline; a single point becomes a dot."""
    placed = [place(x, y, point) for point in points]
    if len(placed) == 1:
        return dot(x, y, points[0], css)
    joined = " ".join(f"{across},{down}" for across, down in placed)
    return f'<polyline class="line {css}" points="{joined}"/>'


def dot(x: Axis, y: Axis, point: tuple[float, float], css: str) -> str:
    """A filled circle."""
    across, down = place(x, y, point)
    return f'<circle class="dot {css}" cx="{across}" cy="{down}" r="4.5"/>'


def area(x: Axis, y: Axis, points: Points, css: str) -> str:
    """The area between a curve and the bottom of the plot."""
    corners = [(points[0][0], y.low), *points, (points[-1][0], y.low)]
    joined = " ".join(f"{across},{down}" for across, down in (place(x, y, corner) for corner in corners))
    return f'<polygon class="area {css}" points="{joined}"/>'


def steps(x: Axis, y: Axis, heights: Sequence[float], css: str) -> str:
    """Many bars of width 1, starting at 0, as one shape."""
    corners = [(0.0, y.low)]
    for number, height in enumerate(heights):
        corners += [(float(number), height), (float(number + 1), height)]
    corners.append((float(len(heights)), y.low))
    joined = " ".join(f"{across},{down}" for across, down in (place(x, y, corner) for corner in corners))
    return f'<polygon class="bar {css}" points="{joined}"/>'


def _named_ticks(axis: Axis) -> list[tuple[float, str]]:
    names = axis.names or tuple(_tick(tick) for tick in axis.ticks)
    return list(zip(axis.ticks, names, strict=True))


def _tick(value: float) -> str:
    if value and (abs(value) >= 1e5 or abs(value) < 1e-3):
        return f"{value:.0e}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")
    return f"{value:.6g}"
