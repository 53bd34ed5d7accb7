"""Axis positions of the values of a setting: numbers along a range, all others side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from raysvq.evaluation.leaderboard import short

_PLACES = 8  # different numbers up to which each has a place of its own
_BINS = 5  # of a range
_WIDE = 20  # times that a range must span to be logarithmic


@dataclass(frozen=True)
class Scale:
    """Of one setting, over the trials of a sweep."""

    places: tuple[Any, ...]  # the values, if each has a place; else empty, and values lie between
    low: float = 0.0
    high: float = 1.0
    logarithmic: bool = False

    @property
    def cells(self) -> int:
        """Places, or bins of the range."""
        return len(self.places) or _BINS

    def cell(self, value: Any) -> int:
        """Which one a value falls into."""
        return self.places.index(value) if self.places else min(_BINS - 1, int(_BINS * self._share(value)))

    def share(self, value: Any) -> float:
        """Where a value stands, 0 to 1."""
        return (self.places.index(value) + 0.5) / len(self.places) if self.places else self._share(value)

    def names(self) -> tuple[str, ...]:
        """Of the cells."""
        if self.places:
            return tuple(short(value) for value in self.places)
        return tuple(f"{self._at(n / _BINS):.3g} - {self._at((n + 1) / _BINS):.3g}" for n in range(_BINS))

    def ends(self) -> tuple[str, str]:
        """Of the range, or the first and the last place."""
        if self.places:
            return short(self.places[0]), short(self.places[-1])
        return f"{self.low:.3g}", f"{self.high:.3g}"

    def _share(self, value: float) -> float:
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def _at(self, share: float) -> float:
        if self.logarithmic:
            return float(self.low * (self.high / self.low) ** share)
        return self.low + (self.high - self.low) * share


def scale_of(values: Sequence[Any]) -> Scale:
    """A scale that holds all of them."""
    different = list(dict.fromkeys(values))
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in different)
    if not numbers:
        return Scale(tuple(sorted(different, key=str)))
    if len(different) <= _PLACES:
        return Scale(tuple(sorted(different)))
    low, high = float(min(different)), float(max(different))
    return Scale((), low, high, logarithmic=low > 0 and high > _WIDE * low)
