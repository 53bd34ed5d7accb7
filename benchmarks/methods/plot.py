"""The paper's figure 5: AUROC against supervision, a panel for each image set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.methods.draws import Level
from benchmarks.methods.jobs import Found
from benchmarks.methods.records import Run, mean_and_deviation
from benchmarks.methods.registry import METHODS

GREY = "#808080"  # readable on white and on black
_STYLES = {  # colour and marker; the colours are told apart on white and on black
    "features": ("#d9480f", "o"),
    "vqvae-features": ("#d9480f", "o"),
    "pixels": ("#1c7ed6", "s"),
    "vqvae-pixels": ("#1c7ed6", "s"),
    "pixels-negation": ("#1098ad", "D"),
    "deep-sad": ("#9c5fd6", "^"),
    "autoencoder": ("#8a8f94", "v"),
    "kmeans": ("#37a04b", "P"),
    "memory-bank-max": ("#c79a00", "X"),
    "memory-bank-top20": ("#8d6e00", "*"),
}
_METRICS = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC"}


def plot(found: Found, path: Path) -> None:
    """Image AUROC above, pixel AUROC below; bars are standard deviations over seeds. As SVG and as PNG."""
    sets = list(dict.fromkeys(name for name, _, _ in found))
    kinds = {level.kind for _, _, level in found if level.value}
    figure = Figure(figsize=(4.2 * len(sets), 7.2))
    axes = figure.subplots(len(_METRICS), len(sets), squeeze=False, sharex="col", sharey="row")
    for column, name in enumerate(sets):
        of_set = {place[1:]: runs for place, runs in found.items() if place[0] == name}
        for row, (key, title) in enumerate(_METRICS.items()):
            _panel(axes[row][column], of_set, key)
            axes[row][column].set_ylabel("" if column else title)
        axes[0][column].set_title(name)
        axes[-1][column].set_xlabel("γ = M / (M + N)" if kinds == {"gamma"} else "labelled outliers M")
    named = [axis.get_legend_handles_labels() for axis in axes[0]]
    legend = {
        title: handle for handles, titles in named for handle, title in zip(handles, titles, strict=True)
    }
    columns = min(len(sets), 3)
    figure.legend(legend.values(), legend, loc="lower center", ncols=columns, frameon=False, labelcolor=GREY)
    figure.tight_layout(rect=(0, 0.01 + 0.03 * -(-len(legend) // columns), 1, 1))
    figure.savefig(path.with_suffix(".svg"), transparent=True, metadata={"Date": None})
    figure.savefig(path.with_suffix(".png"), transparent=True, dpi=150)


def _panel(axis: Axes, found: Mapping[tuple[str, Level], list[Run]], key: str) -> None:
    for method in dict.fromkeys(method for method, _ in found):
        points = [
            (level.value, *both)
            for (owner, level), runs in sorted(found.items(), key=lambda item: item[0][1].value)
            if owner == method
            and not level.hidden
            and (both := mean_and_deviation([run.get(key) for run in runs]))
        ]
        if not points:
            continue
        x, mean, deviation = zip(*points, strict=True)
        colour, marker = _STYLES[method]
        if not METHODS[method].uses_labels:  # one level, which holds for all
            axis.axhline(mean[0], label=METHODS[method].title, color=colour, linestyle=":")
            continue
        axis.errorbar(
            x,
            mean,
            deviation,
            label=METHODS[method].title,
            color=colour,
            marker=marker,
            capsize=2,
        )
    axis.set_xticks(sorted({level.value for _, level in found}))
    in_grey(axis)


def in_grey(axis: Axes) -> None:
    """Draw grid, marks, titles and frame of a panel in GREY."""
    axis.grid(color=GREY, alpha=0.3)
    axis.tick_params(colors=GREY)
    for part in (axis.title, axis.xaxis.label, axis.yaxis.label):
        part.set_color(GREY)
    for spine in axis.spines.values():
        spine.set_color(GREY)
