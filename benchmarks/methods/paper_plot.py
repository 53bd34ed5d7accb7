"""Our figure 5 of the paper: AUROC of patches against gamma, with what its Table I has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from benchmarks.methods.plot import GREY, in_grey
from benchmarks.methods.records import Run, mean_and_deviation

_STYLES = {"pixels": ("ss-VQ-VAE", "#1c7ed6", "s"), "deep-sad": ("Deep SAD", "#9c5fd6", "^")}
_APART = 0.003  # of gamma, between marks that would hide each other
_WITHOUT = "vqvae-pixels"


def plot(
    found: Mapping[tuple[str, str, float], list[Run]], paper: Mapping[str, Mapping[str, float]], path: Path
) -> None:
    """A panel for each set, as SVG. Bars are 95 % intervals, hollow marks what the paper reports.

    Args:
        found: runs by set, method and gamma; the VQ-VAE is `pixels` at gamma = 0.
        paper: AUROC by set and method.
    """
    figure = Figure(figsize=(4.4 * len(paper), 3.6))
    axes = figure.subplots(1, len(paper), squeeze=False)[0]
    for axis, (name, reported) in zip(axes, paper.items(), strict=True):
        for number, (method, (title, colour, marker)) in enumerate(_STYLES.items()):
            points = [
                (gamma, *_with_interval(runs))
                for (owner, known, gamma), runs in sorted(found.items())
                if owner == name and (known == method or (known, method) == (_WITHOUT, "pixels"))
            ]
            if not points:
                continue
            x, y, low, high = np.array(sorted(points)).T
            drawn = {"color": colour, "marker": marker, "capsize": 2, "label": title}
            axis.errorbar(x + number * _APART, y, [np.maximum(y - low, 0), np.maximum(high - y, 0)], **drawn)
            hollow = {"markerfacecolor": "none", "linestyle": "none", "color": colour, "marker": marker}
            axis.plot(0.2 + 3 * _APART, reported[method], label=f"{title}, the paper's", **hollow)
        hollow = {"markerfacecolor": "none", "linestyle": "none", "color": _STYLES["pixels"][1]}
        axis.plot(-2 * _APART, reported[_WITHOUT], marker="o", label="VQ-VAE, the paper's", **hollow)
        axis.set_title(name)
        axis.set_xlabel("γ = M / (M + N)")
        in_grey(axis)
    axes[0].set_ylabel("AUROC of patches")
    axes[0].yaxis.label.set_color(GREY)
    handles, titles = axes[0].get_legend_handles_labels()
    figure.legend(handles, titles, loc="lower center", ncols=3, frameon=False, labelcolor=GREY)
    figure.tight_layout(rect=(0, 0.14, 1, 1))
    figure.savefig(path.with_suffix(".svg"), transparent=True, metadata={"Date": None})


def _with_interval(runs: list[Run]) -> tuple[float, float, float]:
    """Mean AUROC over the seeds, and the mean ends of their intervals."""
    mean = mean_and_deviation([one.get("auroc") for one in runs])
    ends = [one["interval"] for one in runs if one.get("interval")]
    if mean is None or not ends:
        return (np.nan,) * 3
    low, high = np.mean(ends, axis=0)
    return mean[0], float(low), float(high)
