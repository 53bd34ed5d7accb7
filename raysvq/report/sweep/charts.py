"""Charts of a sweep. Better trials are drawn stronger."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from markupsafe import Markup, escape

from raysvq.evaluation.leaderboard import FAILED, STOPPED, Leaderboard, Trial, pareto_front
from raysvq.report.svg import Axis, Chart, dot, figure, line, linear_axis, place
from raysvq.report.sweep.scale import Scale, scale_of

_PREFERRED = ("objective.eta", "model.codebook_size")  # the paper's study
_FAINT = 0.12
_MARGIN = 0.2  # beside the outermost of parallel coordinates


def heat_map(board: Leaderboard) -> Chart | None:
    """Mean value over two settings: η and K where both are searched, else the first two. None below two."""
    names = board.names if not set(_PREFERRED) <= set(board.names) else _PREFERRED
    known = _known(board)
    if len(names) < 2 or not known:
        return None
    across, down = (scale_of([board.setting(trial, name) for trial in board.trials]) for name in names[:2])
    cells: dict[tuple[int, int], list[float]] = {}
    for trial, value in known:
        place_of = (across.cell(board.setting(trial, names[0])), down.cell(board.setting(trial, names[1])))
        cells.setdefault(place_of, []).append(value)
    means = {spot: statistics.mean(values) for spot, values in cells.items()}
    x, y = (_cell_axis(scale, name) for scale, name in zip((across, down), names[:2], strict=True))
    elements = []
    for (column, row), mean in means.items():
        left, bottom = place(x, y, (column, row))
        right, top = place(x, y, (column + 1, row + 1))
        middle, centre = (left + right) / 2, (top + bottom) / 2
        tip = f"{len(cells[column, row])} trial(s), mean {mean:.4f}"
        elements.append(
            f'<rect class="cell" x="{left + 1:.1f}" y="{top + 1:.1f}" width="{right - left - 2:.1f}"'
            f' height="{bottom - top - 2:.1f}" fill-opacity="{_strength(mean, list(means.values())):.2f}">'
            f"<title>{tip}</title></rect>"
            f'<text class="note" x="{middle:.1f}" y="{centre + 4:.1f}" text-anchor="middle">{mean:.3f}</text>'
        )
    title = f"{board.metric} over {names[0]} and {names[1]}"
    return Chart(figure(x, y, elements, title))


def parallel_coordinates(board: Leaderboard) -> Chart | None:
    """One line per trial through its settings to its value. None without a value."""
    known = _known(board)
    if not known:
        return None
    values = [value for _, value in known]
    scales = [scale_of([board.setting(trial, name) for trial in board.trials]) for name in board.names]
    last = len(scales)
    x = Axis(
        -_MARGIN, last + _MARGIN, tuple(range(last + 1)), "", names=(*map(_leaf, board.names), board.metric)
    )
    y = Axis(0, 1, (), "")
    outcome = linear_axis(min(values), max(values), board.metric, exact=True)
    elements = [_upright(x, y, number, scale) for number, scale in enumerate(scales)]
    elements.append(_upright(x, y, last, Scale((), outcome.low, outcome.high)))
    for trial, value in sorted(known, key=lambda one: one[1]):
        points = [
            (float(number), scale.share(board.setting(trial, name)))
            for number, (scale, name) in enumerate(zip(scales, board.names, strict=True))
        ]
        drawn = line(x, y, [*points, (float(last), outcome.share(value))], "s0")
        tip = f"trial {trial.number}: {value:.4f}"
        elements.append(f'<g opacity="{_strength(value, values):.2f}"><title>{tip}</title>{drawn}</g>')
    return Chart(figure(x, y, elements, f"Settings of every trial and its {board.metric}"))


def learning_curves(board: Leaderboard) -> Chart | None:
    """The value of every trial as its trainings went; those that were stopped end in a dot."""
    drawn = [trial for trial in board.trials if trial.curve and trial.status != FAILED]
    if not drawn:
        return None
    values = [value for trial in drawn for _, value in trial.curve]
    x = linear_axis(0, 100, "share of its trainings, %", exact=True)
    y = linear_axis(min(values), max(values), board.metric)
    elements, legend = [], {}
    for trial in reversed(drawn):
        best, stopped = trial is board.trials[0], trial.status == STOPPED
        css = "s1" if best else "s4" if stopped else "s0"
        legend[css] = {"s1": "the best", "s4": "stopped early", "s0": "the others"}[css]
        points = [(100 * done, value) for done, value in trial.curve]
        ends = dot(x, y, points[-1], css) if stopped or best else ""
        tip = f"<title>trial {trial.number}</title>"
        elements.append(f'<g opacity="{1 if best else 0.5}">{tip}{line(x, y, points, css)}{ends}</g>')
    title = "Learning curves of all trials"
    return Chart(figure(x, y, elements, title), tuple(sorted(legend.items())))


def pareto_chart(board: Leaderboard) -> Chart | None:
    """The value against the time per image, with the trials of the Pareto front."""
    timed = [
        (trial, trial.image_ms, trial.value)
        for trial in board.trials
        if trial.image_ms is not None and trial.value is not None
    ]
    if not timed:
        return None
    front = pareto_front(board.trials)
    x = linear_axis(0, max(took for _, took, _ in timed), "CPU milliseconds per image")
    y = linear_axis(min(value for *_, value in timed), max(value for *_, value in timed), board.metric)
    ends = sorted((took, value) for trial, took, value in timed if trial.number in front)
    elements = [line(x, y, ends, "chance")]
    for trial, took, value in timed:
        css = "s1" if trial.number in front else "s0"
        tip = f"trial {trial.number}: {value:.4f}, {took:.1f} ms"
        elements.append(f"<g><title>{escape(tip)}</title>{dot(x, y, (took, value), css)}</g>")
    legend = (("s1", "none is both better and faster"), ("s0", "other trials"))
    return Chart(figure(x, y, elements, f"{board.metric} against the time per image"), legend)


def _known(board: Leaderboard) -> list[tuple[Trial, float]]:
    return [(trial, trial.value) for trial in board.trials if trial.value is not None and not trial.error]


def _strength(value: float, values: Sequence[float]) -> float:
    low, high = min(values), max(values)
    return 1.0 if high == low else _FAINT + (1 - _FAINT) * (value - low) / (high - low)


def _cell_axis(scale: Scale, name: str) -> Axis:
    ticks = tuple(number + 0.5 for number in range(scale.cells))
    return Axis(0, scale.cells, ticks, name, names=scale.names())


def _upright(x: Axis, y: Axis, at: float, scale: Scale) -> str:
    across, top = place(x, y, (at, 1))
    _, bottom = place(x, y, (at, 0))
    low, high = scale.ends()
    return (
        f'<line class="axis" x1="{across}" x2="{across}" y1="{top}" y2="{bottom}"/>'
        f'<text class="tick" x="{across}" y="{top - 7}" text-anchor="middle">{escape(high)}</text>'
        f'<text class="tick" x="{across}" y="{bottom + 32}" text-anchor="middle">{escape(low)}</text>'
    )


def _leaf(name: str) -> Markup:
    return Markup(escape(name.split(".")[1]))
