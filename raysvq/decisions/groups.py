"""Scores of groups, such as cameras or products, on one scale; small groups are drawn to the whole.

Log scores of a group are taken as normal, and the groups' means as normal about the mean of the whole. So a
group of n units has the location (n mean + k whole) / (n + k), where k is the variance within groups over
that between them (empirical Bayes: Efron and Morris, Data analysis using Stein's estimator, 1975). What this
gets wrong costs no promise: standardised scores of all groups calibrate together, by order statistics.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from raysvq.decisions.calibration import Floats, Indices, WeightedScores, float32_from, unit_weights

SHRINKAGE = 20  # units of a group, at most, at which its own values and those of the whole count the same
_LEAST_SHRINKAGE = 0.1  # likewise at least: one image is never all there is to know of a group
_ALIKE = 2  # groups that lie as the whole does, as which the assumption counts that groups are alike
_LEAST_VARIANCE = 1e-12  # of log scores, where all are equal
_TINY = float(np.finfo(np.float32).tiny)  # stands for a score of 0, which has no logarithm
_HUGE = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class GroupDecision:
    """A group's threshold, and how its scores are put on the scale of all groups."""

    threshold: float  # exact in float32
    location: float  # of log scores, after shrinkage
    scale: float
    normals: int  # units

    def standardise(self, score: float) -> float:
        """The score on the scale of all groups."""
        return float(standardise(np.array([score]), self.location, self.scale)[0])


@dataclass(frozen=True)
class GroupScales:
    """Locations and scales of log scores, by group."""

    names: tuple[str, ...]
    locations: Floats  # (groups + 1,) the last: of images without a known group, those of the whole
    scales: Floats  # (groups + 1,)
    normals: Indices  # (groups,) units

    def standardise(self, images: WeightedScores) -> Floats:
        """(n,) scores of images that had no part in the scales."""
        numbers = _numbers(self.names, images.groups)
        return standardise(images.scores, self.locations[numbers], self.scales[numbers])


def standardise(scores: Floats, location: Floats | float, scale: Floats | float) -> Floats:
    """How many scales a score's logarithm is from the location."""
    return np.asarray((np.log(np.maximum(scores, _TINY)) - location) / scale, np.float64)


def fit_group(threshold: float, location: float, scale: float, normals: int) -> GroupDecision:
    """A group's decision, from a threshold on the scale of all groups."""
    score = float32_from(min(math.exp(min(threshold * scale + location, math.log(_HUGE))), _HUGE))
    # Rounding may have moved it by a step or two, and scores are to be decided as their p-values say.
    while (
        score > _TINY and standardise(np.array([below := _step(score, 0)]), location, scale)[0] >= threshold
    ):
        score = below
    while score < _HUGE and standardise(np.array([score]), location, scale)[0] < threshold:
        score = _step(score, np.inf)
    return GroupDecision(score, location, scale, normals)


def _step(score: float, towards: float) -> float:
    return float(np.nextafter(np.float32(score), np.float32(towards)))


def fit_groups(normals: WeightedScores) -> tuple[GroupScales, Floats]:
    """Locations and scales of groups of normal images.

    Returns:
        The scales, and (n,) standardised scores of the images, each by values that its own unit had no part
        in, as it is with a new image.
    """
    names = tuple(sorted({group for group in normals.groups if group is not None}))
    numbers = _numbers(names, normals.groups)
    logs = np.log(np.maximum(normals.scores, _TINY))
    centre = float(np.average(logs, weights=normals.weights))
    logs -= centre  # squares of small numbers add up more exactly

    keys, part_of = np.unique(numbers * normals.count + normals.units, return_inverse=True)
    of_part = _moments(logs, unit_weights(part_of), part_of, len(keys))  # images of one unit in one group
    group_of_part = keys // normals.count
    of_group: Floats = np.stack(
        [np.bincount(group_of_part, sums, minlength=len(names) + 1).astype(np.float64) for sums in of_part]
    )
    of_group[:, -1] = 0  # images without a group
    of_unit = _moments(logs, normals.weights, normals.units, normals.count)
    whole = of_unit.sum(axis=1, keepdims=True)
    spread = _spread(of_group[:, :-1], whole)

    locations, scales = _shrink(of_group, whole, spread)
    left = np.where(numbers == len(names), 0, of_group[:, numbers] - of_part[:, part_of])
    left_locations, left_scales = _shrink(left, whole - of_unit[:, normals.units], spread)
    fitted = GroupScales(names, locations + centre, scales, of_group[0, :-1].round().astype(np.intp))
    return fitted, (logs - left_locations) / left_scales


def _numbers(names: tuple[str, ...], groups: tuple[str | None, ...]) -> Indices:
    """(n,) places of groups among the names; one more than the last for a group that is not there."""
    place = {name: number for number, name in enumerate(names)}
    return np.array(
        [len(names) if group is None else place.get(group, len(names)) for group in groups], np.intp
    )


def _moments(logs: Floats, weights: Floats, places: Indices, size: int) -> Floats:
    """(3, size) sums of weights, weighted values and weighted squares."""
    return np.stack([np.bincount(places, weights * logs**power, minlength=size) for power in range(3)])


@dataclass(frozen=True)
class Spread:
    """How far log scores lie apart."""

    within: float  # variance inside groups
    shrinkage: float  # k: the variance inside groups over that of their means


def _spread(groups: Floats, whole: Floats) -> Spread:
    """From (3, G) moments of groups and (3, 1) of the whole, as one-way analysis of variance has them."""
    units, free = groups[0], np.maximum(groups[0] - 1, 0)
    total = float(_variance(whole)[0])
    if free.sum() < 1:  # each group is of one
        return Spread(total * SHRINKAGE / (SHRINKAGE + 1), SHRINKAGE)
    within = float((free * _variance(groups)).sum() / free.sum())
    if len(units) < 2:
        return Spread(within, SHRINKAGE)
    mean = groups[1].sum() / units.sum()
    squares = float((units * (_mean(groups) - mean) ** 2).sum()) + _ALIKE * within
    between_squares = squares / (len(units) - 1 + _ALIKE)
    usual_units = float((units.sum() - (units**2).sum() / units.sum()) / (len(units) - 1))
    between = max((between_squares - within) / usual_units, within / SHRINKAGE)
    return Spread(within, max(within / between, _LEAST_SHRINKAGE) if between > 0 else SHRINKAGE)


def _shrink(own: Floats, whole: Floats, spread: Spread) -> tuple[Floats, Floats]:
    """Location and scale of a further score, from (3, n) moments of groups, (3, n) or (3, 1) of the whole."""
    units, free = own[0], np.maximum(own[0] - 1, 0)
    known = units + spread.shrinkage
    location = (units * _mean(own) + spread.shrinkage * _mean(whole)) / known
    variance = (free * _variance(own) + SHRINKAGE * spread.within) / (free + SHRINKAGE)
    return location, np.sqrt(np.maximum(variance * (1 + 1 / known), _LEAST_VARIANCE))


def _mean(moments: Floats) -> Floats:
    """0 where no unit is left."""
    return np.asarray(moments[1] / np.maximum(moments[0], 0.5))


def _variance(moments: Floats) -> Floats:
    """Of units about their mean; 0 where fewer than two are left."""
    spread = moments[2] / np.maximum(moments[0], 0.5) - _mean(moments) ** 2
    return np.asarray(np.where(moments[0] > 1.5, spread * moments[0] / np.maximum(moments[0] - 1, 0.5), 0))
