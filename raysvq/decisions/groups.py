"""Scores of groups, such as cameras or products, on one scale; small groups are drawn to the whole.

A group's location and scale are the mean and the standard deviation of its log scores, shrunk to those of all
images (as in empirical Bayes, Efron and Morris, 1975, but with a fixed weight). Standardised scores of all
groups calibrate together, so that a small group borrows its tail from the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from raysvq.decisions.calibration import Floats, Indices, WeightedScores, float32_from, unit_weights

SHRINKAGE = 20  # units of a group at which its own values and those of the whole count the same
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
    log = min(threshold * scale + location, math.log(_HUGE))
    score = float32_from(math.exp(log))
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

    parts, part_of = np.unique(np.stack([numbers, normals.units]), axis=1, return_inverse=True)
    part_of = part_of.ravel()  # which images are of the same unit and group
    of_part = _moments(logs, unit_weights(part_of), part_of, parts.shape[1])
    of_group = np.stack([np.bincount(parts[0], sums, minlength=len(names) + 1) for sums in of_part])
    of_unit = _moments(logs, normals.weights, normals.units, normals.count)
    whole = of_unit.sum(axis=1, keepdims=True)
    ungrouped = np.arange(len(names) + 1) == len(names)

    locations, scales = _shrink(np.where(ungrouped, 0, of_group), whole)
    left = np.where(ungrouped[numbers], 0, of_group[:, numbers] - of_part[:, part_of])
    left_locations, left_scales = _shrink(left, whole - of_unit[:, normals.units])
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


def _shrink(own: Floats, whole: Floats) -> tuple[Floats, Floats]:
    """Location and scale from (3, n) moments of groups, and (3, n) or (3, 1) of the whole."""
    units = own[0]
    free = np.maximum(units - 1, 0)
    location = (units * _mean(own) + SHRINKAGE * _mean(whole)) / (units + SHRINKAGE)
    variance = (free * _variance(own) + SHRINKAGE * _variance(whole)) / (free + SHRINKAGE)
    return location, np.sqrt(np.maximum(variance, _LEAST_VARIANCE))


def _mean(moments: Floats) -> Floats:
    """0 where no unit is left."""
    return np.asarray(moments[1] / np.maximum(moments[0], 0.5))


def _variance(moments: Floats) -> Floats:
    """Of units about their mean; 0 where fewer than two are left."""
    spread = moments[2] / np.maximum(moments[0], 0.5) - _mean(moments) ** 2
    return np.asarray(np.where(moments[0] > 1.5, spread * moments[0] / np.maximum(moments[0] - 1, 0.5), 0))
