"""Round values to label an axis with."""

from __future__ import annotations

import math

_STEPS = (1, 2, 2.5, 5, 10)
_SLACK = 1e-9  # of a step: what computing in floats may be off


def round_ticks(low: float, high: float, *, whole: bool = False, most: int = 6) -> tuple[float, ...]:
    """Multiples of 1, 2, 2.5 or 5 times a power of ten that span a range, in as many steps as fit.

    Args:
        low, high: the range; the first tick is at or below, the last one at or above it.
        whole: whole numbers alone.
        most: steps at most.
    """
    power = math.floor(math.log10((high - low) / most))
    if whole:
        power = max(power, 0)
    for step in (size * 10.0**raised for raised in (power, power + 1) for size in _STEPS):
        first, last = math.floor(low / step + _SLACK), math.ceil(high / step - _SLACK)
        if last - first <= most and not (whole and step % 1):
            break
    return tuple(round(number * step, max(0, 2 - power)) for number in range(first, last + 1))
