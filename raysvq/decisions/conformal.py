"""Order statistics of calibration scores, and the rates that they promise.

Let good units be drawn as n normal ones were. Then the share of them over the k-th smallest of the n scores
has the distribution Beta(n + 1 - k, k), whatever the distribution of the scores (Vovk, Conditional validity
of inductive conformal predictors, 2012; Lei et al., Distribution-free predictive inference for regression,
2018). Ties only lower it.
"""

from __future__ import annotations

import math

import numpy as np

from raysvq.decisions.calibration import Floats

_ROUNDING = 1e-9  # of sums of weights
_TAIL = 0.025  # on either side of a central 95 % interval


def conformal_quantile(
    scores: Floats, weights: Floats, units: int, rate: float, confidence: float | None
) -> float:
    """The smallest score that promises that at most `rate` of further units exceed it.

    Where so few units cannot promise the rate it is the largest score, which promises `promised_rate`.

    Args:
        scores: (n,) of at least one image.
        weights: (n,) that add up to `units`.
        rate: share of further units, 0 to 1.
        confidence: None: in expectation over the draw of the units; else with this probability.
    """
    distinct, places = np.unique(scores, return_inverse=True)
    at_or_below = np.cumsum(np.bincount(places, weights))
    place = int(np.searchsorted(at_or_below, required_rank(units, rate, confidence) - _ROUNDING))
    return float(distinct[min(place, len(distinct) - 1)])


def required_rank(units: int, rate: float, confidence: float | None) -> float:
    """How many units may not exceed the score. More than there are: so few cannot promise the rate."""
    if confidence is None:
        return (units + 1) * (1 - rate)
    from scipy.special import betainc  # what scores needs no SciPy, and starts faster without

    low, high = 1, units + 1
    while low < high:  # the probability grows with the rank
        middle = (low + high) // 2
        if betainc(units + 1 - middle, middle, rate) >= confidence:
            high = middle
        else:
            low = middle + 1
    return low


def promised_rate(units: int, confidence: float | None) -> float:
    """The smallest rate that so many units can promise: that of their largest score."""
    return 1 / (units + 1) if confidence is None else 1 - (1 - confidence) ** (1 / units)


def units_needed(rate: float, confidence: float | None) -> int:
    """The smallest number of units that can promise a rate."""
    if confidence is None:
        return math.ceil(1 / rate - 1 - _ROUNDING)
    return math.ceil(math.log1p(-confidence) / math.log1p(-rate) - _ROUNDING)


def rate_interval(units: int, below: float, above: float) -> tuple[float, float]:
    """Central 95 % interval of the share of good units over a score.

    Args:
        units: that calibrated.
        below: rank among them of the nearest one below the score; 0 where there is none.
        above: of the nearest one that is not; `units + 1` where there is none. Equal to `below` where the
            score was chosen to lie just above that one.
    """
    from scipy.special import betaincinv

    low = 0.0 if above > units else float(betaincinv(units + 1 - above, above, _TAIL))
    high = 1.0 if below <= 0 else float(betaincinv(units + 1 - below, below, 1 - _TAIL))
    return low, high


def count_interval(units: int, below: float, above: float, images: int) -> tuple[int, int]:
    """Central 95 % interval of the number of `images` further good units over a score (beta-binomial).

    For `units`, `below` and `above` see `rate_interval`.
    """
    from scipy.stats import betabinom

    low = 0 if above > units else int(betabinom.ppf(_TAIL, images, units + 1 - above, above))
    high = images if below <= 0 else int(betabinom.ppf(1 - _TAIL, images, units + 1 - below, below))
    return low, high
