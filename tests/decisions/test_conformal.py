"""Order statistics: the ranks, and that the rates they promise are kept."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from raysvq.decisions.conformal import (
    conformal_quantile,
    count_interval,
    promised_rate,
    rate_interval,
    required_rank,
    units_needed,
)


@pytest.mark.parametrize(
    ("units", "rate", "rank"),
    [(19, 0.05, 19), (20, 0.05, 20), (99, 0.01, 99), (500, 0.01, 496), (500, 0.1, 451)],
)
def test_the_quantile_is_the_order_statistic_of_the_papers(units: int, rate: float, rank: int) -> None:
    scores = np.random.default_rng(units).permutation(units).astype(float)
    assert conformal_quantile(scores, np.ones(units), units, rate, None) == rank - 1


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3000), st.floats(0.001, 0.5), st.floats(0.01, 0.99))
def test_a_confident_rank_is_the_smallest_that_holds(units: int, rate: float, confidence: float) -> None:
    def holds(rank: int) -> float:
        """P(Beta(n + 1 - k, k) <= rate), as the binomial distribution has it."""
        return float(binom.sf(units - rank, units, rate))

    rank = int(required_rank(units, rate, confidence))
    if rank <= units:
        assert holds(rank) >= confidence - 1e-9
        assert rank == 1 or holds(rank - 1) < confidence + 1e-9
    else:
        assert holds(units) < confidence + 1e-9


@settings(max_examples=100, deadline=None)
@given(st.floats(0.0005, 0.9), st.none() | st.floats(0.05, 0.99))
def test_the_number_needed_is_the_smallest_that_can_promise(rate: float, confidence: float | None) -> None:
    needed = units_needed(rate, confidence)
    assert promised_rate(max(needed, 1), confidence) <= rate * (1 + 1e-6)
    assert needed <= 1 or promised_rate(needed - 1, confidence) > rate * (1 - 1e-6)


def test_some_numbers_that_are_known() -> None:
    assert units_needed(0.01, None) == 99
    assert units_needed(0.05, None) == 19
    assert units_needed(0.01, 0.9) == 230
    assert units_needed(0.05, 0.95) == 59  # Wilks, 1941


@pytest.mark.parametrize(("units", "rate"), [(19, 0.05), (50, 0.1), (200, 0.01), (5, 0.3)])
def test_realised_rates_keep_the_promise(units: int, rate: float) -> None:
    """Over draws of uniform scores the share over the threshold is at most the rate, in the mean."""
    rng = np.random.default_rng(1)
    over = []
    for _ in range(4000):
        scores = rng.random(units)
        over.append(1 - conformal_quantile(scores, np.ones(units), units, rate, None))
    assert np.mean(over) <= rate + 4 * np.std(over) / np.sqrt(len(over))
    assert np.mean(over) >= rate - 1 / (units + 1) - 0.005  # and it is not wasted


@pytest.mark.parametrize("confidence", [0.5, 0.9])
def test_a_confident_rate_holds_as_often_as_it_says(confidence: float) -> None:
    rng = np.random.default_rng(2)
    kept = [
        1 - conformal_quantile(rng.random(300), np.ones(300), 300, 0.05, confidence) <= 0.05
        for _ in range(3000)
    ]
    assert confidence - 0.03 <= np.mean(kept) <= confidence + 0.1


def test_weighted_units_keep_the_promise_where_images_would_not() -> None:
    """20 units of up to 30 equal images: counted as images they would promise far too much."""
    rng = np.random.default_rng(3)
    by_unit, by_image = [], []
    for _ in range(3000):
        sizes = rng.integers(1, 30, 20)
        scores = np.repeat(rng.random(20), sizes)
        weights = np.repeat(1 / sizes, sizes)
        by_unit.append(1 - conformal_quantile(scores, weights, 20, 0.1, None))
        by_image.append(1 - conformal_quantile(scores, np.ones(len(scores)), len(scores), 0.02, None))
    assert np.mean(by_unit) <= 0.1
    assert np.mean(by_image) > 0.04  # twice what it promised


@pytest.mark.parametrize(("units", "rank"), [(19, 19), (200, 190), (50, 48)])
def test_intervals_cover_what_they_say(units: int, rank: int) -> None:
    rng = np.random.default_rng(4)
    low, high = rate_interval(units, rank)
    few, many = count_interval(units, rank, 100)
    rates, counts = [], []
    for _ in range(4000):
        rate = 1 - np.sort(rng.random(units))[rank - 1]
        rates.append(low <= rate <= high)
        counts.append(few <= rng.binomial(100, rate) <= many)
    assert np.mean(rates) == pytest.approx(0.95, abs=0.015)
    assert np.mean(counts) >= 0.94


def test_intervals_at_the_ends() -> None:
    assert rate_interval(20, 0)[1] > 0.99
    assert rate_interval(1, 1) == pytest.approx((0.025, 0.975))
    assert count_interval(10, 10, 0) == (0, 0)
