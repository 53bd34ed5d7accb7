"""Statistics of nights: how unusual one is, given how nights and cameras differ when all is well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special, stats

Floats = npt.NDArray[np.float64]

_PRIOR_WEIGHT = 10.0  # degrees of freedom of a spread that is assumed, a convention
_ENOUGH = 8  # cameras from which on the fleet itself says how nights and cameras differ
_MEDIAN_COST = np.pi / 2  # variance of a median over that of a mean, of normal values
_TO_DEVIATION = 1.4826  # from a median absolute deviation, of normal values


@dataclass(frozen=True)
class Spread:
    """A variance that is assumed or learnt, as a prior for that of one camera."""

    variance: float
    weight: float  # degrees of freedom; infinite where all cameras vary alike

    def posterior(self, variance: float, degrees: int) -> Spread:
        """With a camera's own variance (Smyth 2004, the moderated t-statistic)."""
        if np.isinf(self.weight):
            return self
        total = self.weight + degrees
        return Spread((self.weight * self.variance + degrees * variance) / total, total)


@dataclass(frozen=True)
class Past:
    """A signal in some earlier nights of a camera."""

    values: Floats  # (k,)
    errors: Floats  # (k,) standard errors of these, by the number of images

    @property
    def variance(self) -> float:
        """Between nights."""
        return float(self.values.var(ddof=1))

    @property
    def centre(self) -> float:
        """What is usual."""
        return float(np.median(self.values))


def spread_of_nights(pasts: Sequence[Past], assumed: float) -> Spread:
    """How nights of one camera differ, learnt from all cameras.

    Args:
        pasts: of at least two nights each.
        assumed: deviation where too few cameras can say; a twentieth of it is the smallest believed.
    """
    if len(pasts) < _ENOUGH:
        return Spread(assumed**2, _PRIOR_WEIGHT)
    degrees = np.array([len(past.values) - 1 for past in pasts], float)
    variances = np.maximum([past.variance for past in pasts], (assumed / 20) ** 2)
    # Smyth, Linear models and empirical Bayes methods, 2004, section 6.2: by the moments of log variances.
    logs = np.log(variances) - special.digamma(degrees / 2) + np.log(degrees / 2)
    excess = float(logs.var(ddof=1) - special.polygamma(1, degrees / 2).mean())
    weight = 2 * _inverse_trigamma(excess) if excess > 0 else np.inf
    shift = special.digamma(weight / 2) - np.log(weight / 2) if np.isfinite(weight) else 0.0
    return Spread(float(np.exp(logs.mean() + shift)), weight)


def spread_of_cameras(offsets: Sequence[float], assumed: float) -> Spread:
    """How cameras differ from the reference of their model, whatever they have in common.

    Args:
        offsets: one per camera.
        assumed: deviation that counts as much as `_PRIOR_WEIGHT` cameras.
    """
    prior = Spread(assumed**2, _PRIOR_WEIGHT)
    if len(offsets) < _ENOUGH:
        return prior
    deviation = _TO_DEVIATION * float(np.median(np.abs(np.array(offsets) - np.median(offsets))))
    return prior.posterior(deviation**2, len(offsets) - 1)


def against_past(value: float, error: float, past: Past, nights: Spread) -> float:
    """Two-sided p-value of a night's value among a camera's earlier nights."""
    count = len(past.values)
    spread = nights.posterior(past.variance, count - 1)
    finer = max(0.0, error**2 - float(np.square(past.errors).mean()))  # tonight may have fewer images
    deviation = np.sqrt(spread.variance * (1 + _MEDIAN_COST / count) + finer)
    return _two_sided((value - past.centre) / deviation, spread.weight)


def against_reference(value: float, error: float, centre: float, nights: Spread, cameras: Spread) -> float:
    """Two-sided p-value of a night's value, for a camera that is like those of the reference.

    Args:
        error: standard error of `value - centre` by the numbers of images.
    """
    deviation = np.sqrt(error**2 + nights.variance + cameras.variance)
    return _two_sided((value - centre) / deviation, min(nights.weight, cameras.weight) + _PRIOR_WEIGHT)


def _two_sided(ratio: float, degrees: float) -> float:
    return float(
        2 * (special.ndtr(-abs(ratio)) if np.isinf(degrees) else special.stdtr(degrees, -abs(ratio)))
    )


def same_distribution(first: Floats, second: Floats) -> float:
    """p-value of the two-sample Kolmogorov-Smirnov test; exact where both samples are small."""
    return float(stats.ks_2samp(first, second, method="auto" if len(first) < 100 else "asymp").pvalue)


def too_many(count: int, of: int, before: float, before_of: float) -> float:
    """p-value of so many or more events, after `before` of `before_of` (beta-binomial, Jeffreys' prior)."""
    return float(stats.betabinom.sf(count - 1, of, before + 0.5, before_of - before + 0.5))


def holm(p_values: Sequence[float]) -> Floats:
    """p-values corrected for their number, whatever their dependence (Holm 1979)."""
    values = np.asarray(p_values, float)
    order = np.argsort(values, kind="stable")
    stepped = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected


def _inverse_trigamma(value: float) -> float:
    """x with trigamma(x) = value, by Newton's method on 1 / trigamma (Smyth 2004, appendix)."""
    if value > 1e7:
        return 1 / np.sqrt(value)
    if value < 1e-6:
        return 1 / value
    x = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(special.polygamma(1, x))
        step = trigamma * (1 - trigamma / value) / float(special.polygamma(2, x))
        x += step
        if -step / x < 1e-8:
            break
    return x
