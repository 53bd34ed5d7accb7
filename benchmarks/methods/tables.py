"""Metrics of finished runs as text."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from benchmarks.methods.jobs import Found
from benchmarks.methods.records import Run, code_digest, mean_and_deviation

COLUMNS = {
    "image_auroc": "image AUROC",
    "tile_auroc": "tile AUROC",
    "pixel_auroc": "pixel AUROC",
    "au_pro": "AU-PRO",
}
TIMES = {"train_s": "train s", "score_ms": "score ms"}


def figures(found: Found) -> str:
    """Mean and deviation over the seeds, a line for each set, method and level; then means of the sets."""
    titles = [f"{title:>15}" for title in COLUMNS.values()] + [f"{title:>9}" for title in TIMES.values()]
    lines = [f"{'set':<19}{'method':<19}{'labelled':<24}{'seeds':>5}{''.join(titles)}"]
    for (name, method, level), runs in found.items():
        cells = [_cell(runs, key, "{:.3f} ± {:.3f}", 15) for key in COLUMNS]
        cells += [_cell(runs, key, "{:.1f}", 9) for key in TIMES]
        failed = sum("problem" in one for one in runs)
        note = f"  {failed} ran away" if failed else ""
        lines.append(f"{name:<19}{method:<19}{level!s:<24}{len(runs):>5}{''.join(cells)}{note}")
    keys = dict.fromkeys((method, level) for _, method, level in found)
    for method, level in keys:
        of_sets = [runs for key, runs in found.items() if key[1:] == (method, level)]
        if len(of_sets) > 1:
            cells = [_mean_of_sets(of_sets, key) for key in COLUMNS]
            lines.append(f"{f'mean of {len(of_sets)} sets':<19}{method:<19}{level!s:<29}{''.join(cells)}")
    others = [run for runs in found.values() for run in runs if run.get("code") != code_digest()]
    if others:
        lines.append(
            f"{len(others)} of these runs are of another version of the code; a new JSON repeats them"
        )
    return "\n".join(lines)


def _cell(runs: Sequence[Run], key: str, form: str, width: int) -> str:
    both = mean_and_deviation([one.get(key) for one in runs])
    return f"{'-' if both is None else form.format(*both):>{width}}"


def _mean_of_sets(of_sets: Sequence[Sequence[Run]], key: str) -> str:
    both = [mean_and_deviation([run.get(key) for run in runs]) for runs in of_sets]
    known = [one[0] for one in both if one is not None]
    return f"{f'{fmean(known):.3f}        ' if known else '-':>15}"
