"""Paired differences of finished runs: to the better memory bank, between levels, by hidden defects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import numpy as np

from benchmarks.methods.draws import Level
from benchmarks.methods.jobs import Found
from benchmarks.methods.paired import Difference, Floats, by_draw, interval, resampled
from benchmarks.methods.predictions import Scored, file_of, read_scores
from benchmarks.methods.records import Run
from benchmarks.methods.registry import BANKS, METHODS
from raysvq.evaluation.bootstrap import Interval

BANK = "better bank"

Key = tuple[str, Level]  # method and level


@dataclass(frozen=True)
class Compared:
    """Two runs of each draw, A and B, on one set or as the mean of several."""

    title: str
    set_name: str
    image_auroc: Difference
    au_pro: Difference | None


@dataclass(frozen=True)
class _OnSet:
    """A - B on one set."""

    name: str
    image_auroc: dict[int, float]  # by seed
    au_pro: dict[int, float]
    samples: Floats  # bootstrap of the image AUROC, mean over seeds


def differences(found: Found, predictions: Path) -> list[Compared]:
    """All paired differences: to the better bank, and between levels."""
    sets = list(dict.fromkeys(name for name, _, _ in found))
    compared = []
    for title, a, b in _comparisons(list(dict.fromkeys((method, level) for _, method, level in found))):
        of_sets = [one for name in sets if (one := _compare(found, name, a, b, predictions))]
        compared += [_joined(title, one.name, [one]) for one in of_sets]
        if len(of_sets) > 1:
            compared.append(_joined(title, f"mean of {len(of_sets)} sets", of_sets))
    return compared


def _comparisons(keys: Sequence[Key]) -> Iterator[tuple[str, Key, Key]]:
    """Title, A and B of each comparison."""
    banks = {level for method, level in keys if method in BANKS}
    for method, level in keys:
        if method not in BANKS and level.without_labels() in banks:
            yield f"{method}, {level} - {BANK}", (method, level), (BANK, level.without_labels())
    for method in dict.fromkeys(method for method, _ in keys):
        levels = sorted((level for owner, level in keys if owner == method), key=lambda level: level.value)
        for hidden in dict.fromkeys(level.hidden for level in levels):
            alike = [level for level in levels if level.hidden == hidden]
            for before, level in pairwise(alike):
                for other in dict.fromkeys([alike[0], before]):
                    yield f"{method}, {level} - {other}", (method, level), (method, other)
        for level in levels:
            clean = replace(level, hidden=0.0)
            if level.hidden and clean in levels:
                yield f"{method}, {level} - {clean}", (method, level), (method, clean)


def _compare(found: Found, name: str, a: Key, b: Key, predictions: Path) -> _OnSet | None:
    """One comparison on a set, over the draws that both have."""
    first, second = _runs(found, name, a), _runs(found, name, b)
    both = {seed: (first[seed], second[seed]) for seed in sorted(first.keys() & second.keys())}
    if not both:
        return None
    pairs = [(_scores(predictions, one), _scores(predictions, other)) for one, other in both.values()]
    auroc, pro = (
        {
            seed: one[metric] - other[metric]
            for seed, (one, other) in both.items()
            if None not in (one[metric], other[metric])
        }
        for metric in ("image_auroc", "au_pro")
    )
    return _OnSet(name, auroc, pro, resampled(pairs))


def _scores(predictions: Path, run: Run) -> Scored:
    return read_scores(file_of(predictions, run["digest"]))


def _runs(found: Found, name: str, key: Key) -> dict[int, Run]:
    """The runs of a method, or of the better bank, that came to an end, by seed."""
    method, level = key
    if method == BANK:
        method = _better_bank(found, name, level)[0]
    runs = found.get((name, method, level), [])
    return {run["seed"]: run for run in runs if "problem" not in run}


def _better_bank(found: Found, name: str, level: Level) -> tuple[str, float]:
    """The bank with the higher image AUROC on a set, and that."""
    means = {
        bank: fmean(run["image_auroc"] for run in runs)
        for bank in BANKS
        if (runs := found.get((name, bank, level)))
    }
    return max(means.items(), key=lambda item: item[1], default=("", 0.0))


def _joined(title: str, name: str, of_sets: Sequence[_OnSet]) -> Compared:
    """The mean over sets: draws are paired by seed, images of sets drawn apart."""
    samples = np.mean([one.samples for one in of_sets], axis=0)
    auroc = _over_seeds([one.image_auroc for one in of_sets])
    pro = [one.au_pro for one in of_sets]
    return Compared(
        title, name, replace(auroc, by_image=interval(samples)), _over_seeds(pro) if all(pro) else None
    )


def _over_seeds(of_sets: Sequence[dict[int, float]]) -> Difference:
    """Mean over sets of each seed that all have; without one, of their means."""
    common = sorted(set.intersection(*(set(one) for one in of_sets)))
    if not common:
        return Difference(fmean(fmean(one.values()) for one in of_sets), 0, None)
    return by_draw([fmean(one[seed] for one in of_sets) for seed in common])


def lines_of(compared: Sequence[Compared]) -> Iterator[str]:
    """The differences as text, a block for each comparison."""
    for title in dict.fromkeys(one.title for one in compared):
        yield ""
        of_auroc = f"{'image AUROC':>14}{'by draw':>18}{'by image':>18}"
        yield f"{title:<56}{'draws':>6}{of_auroc}{'AU-PRO':>10}{'by draw':>18}"
        for one in compared:
            if one.title == title:
                auroc, pro = one.image_auroc, one.au_pro
                cells = f"{auroc.mean:>+14.4f}{_ends(auroc.by_draw)}{_ends(auroc.by_image)}"
                if pro is not None:
                    cells += f"{pro.mean:>+10.4f}{_ends(pro.by_draw)}"
                yield f"  {one.set_name:<54}{auroc.draws:>6}{cells}"


def _ends(ends: Interval | None) -> str:
    return f"{'-' if ends is None else f'{ends[0]:+.4f} {ends[1]:+.4f}':>18}"


def marks(found: Found) -> Iterator[str]:
    """Of each set and share of hidden defects the better bank, which was chosen on its test."""
    for name in dict.fromkeys(name for name, _, _ in found):
        for level in dict.fromkeys(level for _, method, level in found if method in BANKS):
            bank, mean = _better_bank(found, name, level)
            if bank:
                yield f"mark to beat: {name:<19}{level!s:<24}{mean:.4f}  {METHODS[bank].title}"
