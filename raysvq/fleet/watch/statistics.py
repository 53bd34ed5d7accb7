"""Statistics of nights: how unusual one is, given how nights and cameras differ when all is well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special, stats

Floats = npt.NDArray[np.float64]

_PRIOR_WEIGHT = 10.0  # degrees of freedom of a spread that is assumed, a convention
_ENOUGH = 8  # cameras from which on the fleet itself says how nights and cameras differ
_MEDIAN_COST = np.pi / 2  # variance of a median over that of a mean, of normal values
_TRIMMED = 0.1  # of the cameras, on either side, where variances are averaged
_TO_DEVIATION = 1.4826  # from a median absolute deviation, of normal values


@dataclass(frozen=True)
class Past:
    """A signal of d numbers in earlier nights of a camera."""

    nights: int  # k of them say what is usual
    centre: Floats  # (d,) medians over these
    variance: Floats  # (d,) between them
    errors: Floats  # (d,) means of their squared standard errors, which the numbers of images make
    recent: Floats  # (r, d) values of nights just before tonight that are not among the k, oldest first
    recent_errors: Floats  # (r, d) their squared standard errors


def make_past(values: Floats, errors: Floats, recent: Floats, recent_errors: Floats) -> Past:
    """A past of (k, d) values with their standard errors, k at least 2, and (r, d) recent ones."""
    order = np.sort(values, axis=0)
    centre = (order[(len(values) - 1) // 2] + order[len(values) // 2]) / 2
    squares = np.square(errors).mean(axis=0)
    return Past(len(values), centre, values.var(axis=0, ddof=1), squares, recent, np.square(recent_errors))


@dataclass(frozen=True)
class Nights:
    """How nights of a camera differ by more than their numbers of images explain, over all cameras.

    A night's value has the variance `factor * (variance + e**2)`, where e is its standard error by the number
    of images; cameras differ in their factor as the `weight` says.
    """

    variance: float
    factor: float = 1.0
    weight: float = _PRIOR_WEIGHT  # degrees of freedom; infinite where cameras do not differ

    def of_camera(self, past: Past) -> tuple[Floats, float]:
        """The factor of a camera (d,), and its degrees of freedom (Smyth 2004: the moderated t-statistic)."""
        own, degrees = past.variance / (self.variance + past.errors), past.nights - 1
        if np.isinf(self.weight):
            return np.full_like(own, self.factor), self.weight
        total = self.weight + degrees
        return (self.weight * self.factor + degrees * own) / total, total


def learn_nights(pasts: Sequence[Past], assumed: float) -> Nights:
    """How nights of a camera differ, from the past of a signal at all cameras.

    By the moments of the logarithms of variances (Smyth, Linear models and empirical Bayes methods, 2004,
    section 6.2).

    Args:
        assumed: deviation where too few cameras can say; a twentieth of it is the smallest believed.
    """
    if len(pasts) < _ENOUGH:
        return Nights(assumed**2)
    own, errors = (np.concatenate([getattr(past, name) for past in pasts]) for name in ("variance", "errors"))
    degrees = np.concatenate([np.full(len(past.variance), past.nights - 1.0) for past in pasts])
    least = (assumed / 20) ** 2
    variance = max(float(stats.trim_mean(own - errors, _TRIMMED)), least)
    ratios = np.maximum(own, least) / (variance + errors)
    logs = np.log(ratios) - special.digamma(degrees / 2) + np.log(degrees / 2)
    excess = float(logs.var(ddof=1) - special.polygamma(1, degrees / 2).mean())
    weight = 2 * _inverse_trigamma(excess) if excess > 0 else np.inf
    shift = special.digamma(weight / 2) - np.log(weight / 2) if np.isfinite(weight) else 0.0
    return Nights(variance, float(np.exp(logs.mean() + shift)), weight)


@dataclass(frozen=True)
class Cameras:
    """How cameras differ from the reference of their model."""

    variance: float
    weight: float  # degrees of freedom


def learn_cameras(offsets: Sequence[float], assumed: float) -> Cameras:
    """How cameras differ from the reference of their model, whatever they have in common.

    Args:
        offsets: one per camera.
        assumed: deviation that counts as much as `_PRIOR_WEIGHT` cameras.
    """
    if len(offsets) < _ENOUGH:
        return Cameras(assumed**2, _PRIOR_WEIGHT)
    deviation = _TO_DEVIATION * float(np.median(np.abs(np.array(offsets) - np.median(offsets))))
    degrees = len(offsets) - 1
    total = _PRIOR_WEIGHT + degrees
    return Cameras((_PRIOR_WEIGHT * assumed**2 + degrees * deviation**2) / total, total)


def against_past(value: Floats, error: Floats, past: Past, nights: Nights) -> tuple[float, Floats]:
    """Compare tonight, and the means of the last two and more nights, with what is usual for a camera.

    One night alone may say too little, as of few images.

    Args:
        value, error: (d,) of tonight.

    Returns:
        A two-sided p-value, corrected for the numbers and for the lengths that were tried; and the shift (d,)
        that tonight and that mean have in common.
    """
    factor, degrees = nights.of_camera(past)
    values = np.concatenate([past.recent, value[None]])[::-1]
    squares = np.concatenate([past.recent_errors, np.square(error)[None]])[::-1]
    lengths = np.arange(1, len(values) + 1)[:, None]
    shifts = np.cumsum(values, axis=0) / lengths - past.centre
    of_mean = (nights.variance + np.cumsum(squares, axis=0) / lengths) / lengths
    of_centre = (nights.variance + past.errors) * _MEDIAN_COST / past.nights
    p_values = _two_sided(shifts / np.sqrt(factor * (of_mean + of_centre)), degrees)
    best = int(p_values.min(axis=1).argmin())
    common = np.where(shifts[0] * shifts[best] > 0, np.minimum(abs(shifts[0]), abs(shifts[best])), 0.0)
    return min(1.0, float(p_values.min()) * p_values.size), np.sign(shifts[0]) * common


def against_reference(shift: float, error: float, nights: Nights, cameras: Cameras) -> float:
    """Two-sided p-value of a shift from the reference, for a camera that is like those of the reference.

    Args:
        error: standard error of the shift by the numbers of images.
    """
    variance = error**2 + nights.factor * nights.variance + cameras.variance
    return float(_two_sided(shift / np.sqrt(variance), cameras.weight))


def _two_sided(ratio: Any, degrees: float) -> Any:
    tail = special.ndtr(-np.abs(ratio)) if np.isinf(degrees) else special.stdtr(degrees, -np.abs(ratio))
    return 2 * tail


def same_distribution(first: Floats, second: Floats) -> float:
    """p-value of the two-sample Kolmogorov-Smirnov test; exact where both samples are small."""
    return float(stats.ks_2samp(first, second, method="auto" if len(first) < 100 else "asymp").pvalue)


def too_many(count: int, of: int, before: float, before_of: float) -> float:
    """p-value of so many or more events, after `before` of `before_of` (beta-binomial, Jeffreys' prior)."""
    more = np.arange(count, of + 1)
    return min(1.0, float(stats.betabinom.pmf(more, of, before + 0.5, before_of - before + 0.5).sum()))


def unusual_counts(counts: Floats, of: float, before: Floats, before_of: float) -> Floats:
    """Two-sided p-values (d,) of so many events, after `before` of `before_of`, as `too_many` has them."""
    usual = stats.betabinom(round(of), before + 0.5, before_of - before + 0.5)
    p_values: Floats = np.minimum(1.0, 2 * np.minimum(usual.sf(counts - 1), usual.cdf(counts)))
    return p_values


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
        return float(value**-0.5)
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
