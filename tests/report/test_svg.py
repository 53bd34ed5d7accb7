from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysvq.report.svg import round_ticks


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, (0, 0.2, 0.4, 0.6, 0.8, 1)),
        (0.03, 0.98, (0, 0.2, 0.4, 0.6, 0.8, 1)),
        (-3, 3, (-3, -2, -1, 0, 1, 2, 3)),
        (0, 15_000, (0, 2500, 5000, 7500, 10_000, 12_500, 15_000)),
        (0.861, 0.987, (0.85, 0.875, 0.9, 0.925, 0.95, 0.975, 1)),
    ],
)
def test_ticks_are_round(low: float, high: float, ticks: tuple[float, ...]) -> None:
    assert round_ticks(low, high) == ticks


def test_whole_numbers_are_not_split() -> None:
    assert round_ticks(0, 2, whole=True) == (0, 1, 2)
    assert round_ticks(1, 15, whole=True) == (0, 5, 10, 15)


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.booleans())
def test_ticks_span_the_range_evenly(low: float, span: float, whole: bool) -> None:
    ticks = round_ticks(low, low + span, whole=whole)
    step = ticks[1] - ticks[0]
    assert 2 <= len(ticks) <= 7
    assert ticks[0] <= low + 1e-6 * step
    assert ticks[-1] >= low + span - 1e-6 * step
    assert all(after - before == pytest.approx(step, rel=1e-6) for before, after in pairwise(ticks))
    assert not whole or all(tick == int(tick) for tick in ticks)
