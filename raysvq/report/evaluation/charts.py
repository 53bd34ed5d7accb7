"""Charts of an evaluation: ROC curve, bars of scores, codebook use, training curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from raysvq.evaluation.result import Evaluation
from raysvq.report.svg import (
    Axis,
    Chart,
    area,
    dot,
    figure,
    line,
    linear_axis,
    log_axis,
    place,
    steps,
)

_LOSSES = {
    "loss": "loss",
    "normal": "normal images",
    "outlier": "labelled outliers",
    "reconstruction": "reconstruction",
    "commitment": "commitment",
}


def roc_chart(evaluation: Evaluation) -> Chart | None:
    """ROC curve of the test images, with the operating point; None where a class is absent."""
    if not evaluation.roc:
        return None
    x, y = _roc_axes()
    table = evaluation.confusion
    elements = [
        area(x, y, evaluation.roc, "s0"),
        line(x, y, [(0, 0), (1, 1)], "chance"),
        line(x, y, evaluation.roc, "s0"),
    ]
    legend = [("s0", "test images"), ("chance", "chance")]
    if table.sensitivity is not None and table.specificity is not None:
        elements.append(dot(x, y, (1 - table.specificity, table.sensitivity), "s1 moves"))
        own = (
            evaluation.threshold is None
        )  # the curve is that of one threshold for all, so the point lies off it
        legend.append(("s1", "at the images' own thresholds" if own else "at the threshold"))
    return Chart(figure(x, y, elements, "ROC curve of the test images"), tuple(legend))


def roc_corners() -> tuple[tuple[float, float], tuple[float, float]]:
    """Where the ROC chart has its points (0, 0) and (1, 1)."""
    x, y = _roc_axes()
    return place(x, y, (0, 0)), place(x, y, (1, 1))


def _roc_axes() -> tuple[Axis, Axis]:
    x = linear_axis(0, 1, "share of good images flagged", exact=True)
    return x, linear_axis(0, 1, "share of defective images found", exact=True)


def bar_path(counts: Sequence[int]) -> str:
    """Bars as an SVG path, one unit wide, in a box 100 high; heights are square roots, the highest is 100."""
    most = max(counts)
    bars = ((spot, 100 * math.sqrt(count / most)) for spot, count in enumerate(counts) if count)
    return "".join(f"M{spot + 0.06:g} 100V{100 - height:.1f}h.88V100z" for spot, height in bars)


def loss_chart(history: Sequence[dict[str, Any]]) -> Chart | None:
    """The loss and its terms by training step; logarithmic where they span more than 1 : 20."""
    return _curves(history, _LOSSES, "loss term", "Loss terms over the training steps")


def auroc_chart(history: Sequence[dict[str, Any]]) -> Chart | None:
    """Validation AUROC by training step; None where validation had no outliers."""
    names = {"validation_auroc": "validation images"}
    return _curves(history, names, "image AUROC", "Validation AUROC over the training steps")


def codes_chart(history: Sequence[dict[str, Any]]) -> Chart | None:
    """Perplexity and the number of codes used, by training step."""
    names = {"perplexity": "perplexity", "codes_used": "codes used"}
    return _curves(history, names, "codes", "Perplexity and codes used over the training steps")


def usage_chart(counts: Sequence[float]) -> Chart | None:
    """How often each code was used, most frequent first; None where no use was counted."""
    ranked = sorted(counts, reverse=True)
    total = sum(ranked)
    if not total:
        return None
    x = linear_axis(0, len(ranked), "codes, most used first", whole=True, exact=True)
    y = linear_axis(0, 100 * ranked[0] / total, "share of positions, %")
    shares = [100 * count / total for count in ranked]
    elements = [steps(x, y, shares, "normal")]
    uniform = 100 / len(ranked)
    elements.append(line(x, y, [(0, uniform), (len(ranked), uniform)], "chance"))
    used = sum(count > 0 for count in ranked)
    legend = (("normal", f"{used} of {len(ranked)} codes used"), ("chance", "all codes alike"))
    return Chart(figure(x, y, elements, "Codebook usage, most used codes first"), legend)


def _curves(history: Sequence[dict[str, Any]], names: dict[str, str], label: str, title: str) -> Chart | None:
    series = {
        key: [(row["step"], row[key]) for row in history if row[key] is not None]
        for key in names
        if any(row[key] is not None for row in history)
    }
    if not series:
        return None
    taken = [row["step"] for row in history]
    x = linear_axis(min(taken), max(taken), "training step", whole=True)
    y = _value_axis([value for points in series.values() for _, value in points], label)
    elements = [line(x, y, points, f"s{number}") for number, points in enumerate(series.values())]
    legend = tuple((f"s{number}", names[key]) for number, key in enumerate(series))
    if len(series) == 1:
        elements.append(_last_value(x, y, next(iter(series.values()))[-1]))
    return Chart(figure(x, y, elements, title), legend)


def _value_axis(values: Sequence[float], label: str) -> Axis:
    low, high = min(values), max(values)
    if low > 0 and high > 20 * low:
        return log_axis(low, high, label)
    return linear_axis(low, high, label)


def _last_value(x: Axis, y: Axis, point: tuple[float, float]) -> str:
    across, down = place(x, y, point)
    text = f'<text class="note" x="{across - 6}" y="{down - 10}" text-anchor="end">{point[1]:.3f}</text>'
    return dot(x, y, point, "s0") + text
