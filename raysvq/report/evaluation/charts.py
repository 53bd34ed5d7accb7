"""Charts of an evaluation: ROC curve, score histogram, codebook use, training curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from raysvq.evaluation.result import Evaluation
from raysvq.report.svg import (
    Axis,
    Chart,
    area,
    bars,
    dot,
    figure,
    line,
    linear_axis,
    log_axis,
    mark,
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
    x = linear_axis(0, 1, "false-positive rate (1 - specificity)", exact=True)
    y = linear_axis(0, 1, "true-positive rate (sensitivity)", exact=True)
    elements = [
        area(x, y, evaluation.roc, "s0"),
        line(x, y, [(0, 0), (1, 1)], "chance"),
        line(x, y, evaluation.roc, "s0"),
    ]
    legend = [("s0", "test images"), ("chance", "chance")]
    sensitivity, specificity = evaluation.confusion.sensitivity, evaluation.confusion.specificity
    if sensitivity is not None and specificity is not None:
        elements.append(dot(x, y, (1 - specificity, sensitivity), "s1"))
        legend.append(("s1", f"operating point: {1 - specificity:.3f}, {sensitivity:.3f}"))
    return Chart(figure(x, y, elements, "ROC curve of the test images"), tuple(legend))


def score_chart(evaluation: Evaluation) -> Chart | None:
    """Histogram of the scores of normal and anomalous images, with the threshold; None without images."""
    shown = evaluation.histogram
    if not any(shown.normal) and not any(shown.anomalous):
        return None
    ends = [shown.edges[0], shown.edges[-1]]
    if evaluation.threshold is not None:
        ends.append(evaluation.threshold)
    axis = log_axis if shown.logarithmic and min(ends) > 0 else linear_axis
    x = axis(min(ends), max(ends), "image score")
    y = linear_axis(0, max(*shown.normal, *shown.anomalous), "images", whole=True)
    elements = [
        bars(x, y, shown.edges, shown.normal, "normal"),
        bars(x, y, shown.edges, shown.anomalous, "anomalous"),
    ]
    if evaluation.threshold is not None:
        elements.append(mark(x, y, evaluation.threshold, f"threshold {evaluation.threshold:.4g}"))
    svg = figure(x, y, elements, "Histogram of image scores, normal against anomalous")
    return Chart(svg, (("normal", "normal images"), ("anomalous", "anomalous images")))


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
