"""Tests of two models on the same images: their rankings and their decisions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest, norm, rankdata

from raysvq.evaluation.bootstrap import (
    Groups,
    Interval,
    contributions,
    count_groups,
    find_units,
    percentiles,
    score_cells,
)
from raysvq.evaluation.metrics import BoolArray, FloatArray, Statistic, auroc_of_counts, recall_of_counts

RATES = (0.01, 0.05, 0.1)  # false-alarm rates at which recall is compared

_Pair = tuple[FloatArray, FloatArray]


@dataclass(frozen=True)
class DeLong:
    """Two areas under the ROC curve over the same images, and the test of their difference."""

    a: float
    b: float
    low: float | None  # of b - a; None where a class has fewer than two images
    high: float | None
    p: float | None  # two-sided


@dataclass(frozen=True)
class Discordance:
    """How two models decided on the same images; McNemar's exact test of whether one flags more."""

    images: int
    flagged_a: int
    flagged_b: int
    only_a: int  # flagged by A alone
    only_b: int
    p: float  # two-sided


def compare_aurocs(labels: BoolArray, scores: _Pair, confidence: float) -> DeLong:
    """Compare two areas under the ROC curve by DeLong's test.

    DeLong et al., Comparing the areas under two or more correlated ROC curves, 1988; computed by midranks, as
    in Sun and Xu, Fast implementation of DeLong's algorithm, 2014. It takes images as independent.

    Args:
        labels: (N,) True for anomalous, of both classes.
        scores: (N,) of A and of B.
        confidence: coverage of the interval.
    """
    by_image = [_placements(labels, one) for one in scores]
    a, b = (float(anomalous.mean()) for anomalous, _ in by_image)
    differences = [by_image[1][at] - by_image[0][at] for at in (0, 1)]
    if min(map(len, differences)) < 2:
        return DeLong(a, b, None, None, None)
    error = float(np.sqrt(sum(one.var(ddof=1) / len(one) for one in differences)))
    reach = float(norm.ppf((1 + confidence) / 2)) * error
    p = float(2 * norm.sf(abs(b - a) / error)) if error else float(a == b)
    return DeLong(a, b, b - a - reach, b - a + reach, p)


def compare_decisions(flagged_a: BoolArray, flagged_b: BoolArray) -> Discordance:
    """McNemar's exact test: of the images on which two models differ, does each flag half?

    Args:
        flagged_a: (N,) decisions of A on images of one label.
        flagged_b: (N,) of B on the same.
    """
    only_a, only_b = int((flagged_a & ~flagged_b).sum()), int((flagged_b & ~flagged_a).sum())
    p = float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return Discordance(len(flagged_a), int(flagged_a.sum()), int(flagged_b.sum()), only_a, only_b, p)


def recall_at(labels: BoolArray, scores: FloatArray, rate: float) -> float:
    """Recall at the best threshold that flags at most `rate` of the normal images."""
    cells = score_cells(labels, scores)
    positives, negatives = (
        np.bincount(cells[one], minlength=cells.max() + 1)[None] for one in (labels, ~labels)
    )
    return float(recall_of_counts(positives, negatives, rate)[0])


def bootstrap_differences(
    labels: BoolArray,
    scores: _Pair,
    groups: Groups,
    *,
    resamples: int,
    confidence: float,
    seed: int = 0,
) -> list[Interval] | None:
    """Percentile bootstrap intervals of B - A: of AUROC, then of recall at each of RATES.

    Both models are measured on the same draws of groups.

    Returns:
        None where a class comes from fewer than two groups, or where no resamples were asked for.
    """
    if resamples == 0 or min(count_groups(labels, groups)) < 2:
        return None
    units = find_units(labels, groups)
    counted = [contributions(units, labels, score_cells(labels, one)) for one in scores]
    statistics: Sequence[Statistic] = (
        auroc_of_counts,
        *(partial(recall_of_counts, rate=rate) for rate in RATES),
    )
    values: list[list[npt.NDArray[np.float64]]] = [[] for _ in statistics]
    for drawn in units.draw(np.random.default_rng(seed), resamples):
        (a, b) = ((drawn @ positives, drawn @ negatives) for positives, negatives in counted)
        for found, statistic in zip(values, statistics, strict=True):
            found.append(statistic(*b) - statistic(*a))
    return [percentiles(np.concatenate(found), confidence) for found in values]


def _placements(labels: BoolArray, scores: FloatArray) -> _Pair:
    """Of each anomalous image the share of normal ones below it; of each normal one, of anomalous above."""
    ranks = rankdata(scores)
    normals, outliers = int((~labels).sum()), int(labels.sum())
    below = (ranks[labels] - rankdata(scores[labels])) / normals
    above = 1 - (ranks[~labels] - rankdata(scores[~labels])) / outliers
    return below, above
