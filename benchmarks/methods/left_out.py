"""Choosing on all sets but one: what a choice is worth on a set that had no part in it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean

TIE = 0.001  # alternatives this near to the best are taken for equal

Values = Mapping[str, Mapping[str, float]]  # alternative -> set -> metric; the simplest alternative first


@dataclass(frozen=True)
class LeftOut:
    """An alternative chosen without a set, and its value there."""

    set_name: str
    chosen: str
    value: float


@dataclass(frozen=True)
class Verdict:
    """What is chosen, and two figures for it."""

    values: Values
    chosen: str  # on all sets
    development: float  # its mean over the sets it was chosen on: too good
    left_out: tuple[LeftOut, ...]

    @property
    def mean(self) -> float:
        """Mean over the sets, each with the alternative that was chosen without it."""
        return fmean(one.value for one in self.left_out)


def choose(values: Values, sets: Collection[str]) -> str:
    """The alternative with the best mean over some sets; of equal ones the first."""
    means = {name: fmean(of_set[one] for one in sets) for name, of_set in values.items()}
    best = max(means.values())
    return next(name for name, mean in means.items() if mean >= best - TIE)


def judge(values: Values) -> Verdict:
    """Choose on all sets, and for each set on the others; there are at least two."""
    sets = list(next(iter(values.values())))
    chosen = choose(values, sets)
    without = {one: choose(values, [other for other in sets if other != one]) for one in sets}
    return Verdict(
        values,
        chosen,
        fmean(values[chosen].values()),
        tuple(LeftOut(one, name, values[name][one]) for one, name in without.items()),
    )


def lines(verdict: Verdict) -> Iterator[str]:
    """A line for each set, then the two figures."""
    width = max(12, *(len(name) + 2 for name in verdict.values))
    yield f"{'set':<20}{''.join(f'{name:>{width}}' for name in verdict.values)}  chosen without it"
    for one in verdict.left_out:
        cells = "".join(f"{of_set[one.set_name]:>{width}.4f}" for of_set in verdict.values.values())
        yield f"{one.set_name:<20}{cells}  {one.chosen}, {one.value:.4f}"
    means = "".join(f"{fmean(of_set.values()):>{width}.4f}" for of_set in verdict.values.values())
    yield f"{'mean':<20}{means}"
    yield f"left out: {verdict.mean:.4f}"
    count = len(verdict.left_out)
    yield f"chosen on all {count}: {verdict.chosen}, {verdict.development:.4f} (development figure)"
