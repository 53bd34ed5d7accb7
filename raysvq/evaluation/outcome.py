"""What was promised, against what the test split shows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import binom, ks_2samp

from raysvq.decisions import Promise, false_alarm_interval
from raysvq.decisions.promise import percent
from raysvq.evaluation.result import Judgement, Outcome
from raysvq.evaluation.score_rows import ScoredImage

DIFFER = 0.01  # a smaller p says that the normal images are not like those that calibrated
_TAIL = 0.025  # of outcomes that a promised recall explains no more
_WIDE = 2  # times the promised rate; where chance explains more than that, few images calibrated


def compare_with_promise(promise: Promise, images: Sequence[ScoredImage]) -> Outcome | None:
    """Compare the false alarms among normal test images with what was promised and what chance explains.

    Images of one group, a part or lot, are alike: the interval is that of as many images as there are groups,
    widened to all images.

    Args:
        promise: of the decisions that decided on the images.
        images: labelled test images; the anomalous ones tell of a promised recall.

    Returns:
        None where no image is normal.
    """
    normals = [item for item in images if not item.image.anomalous]
    if not normals:
        return None
    units = list({item.image.group or (item.image.image_id,): item for item in normals}.values())
    low, high = false_alarm_interval(promise, len(units))
    per_unit = len(normals) / len(units)
    low, high = math.floor(low * per_unit), math.ceil(high * per_unit)
    alarms = sum(item.flagged for item in normals)
    uniform_p = uniformity([item.p_value for item in units if item.p_value is not None], promise.normals)
    decided = [item.flagged for item in images if item.image.anomalous]
    sentence = _sentence(promise, alarms, len(normals), low, high, uniform_p)
    return Outcome(
        judgement=_judge_recall(promise, decided) or _judge(promise, alarms, len(normals), high),
        normals=len(normals),
        false_alarms=alarms,
        low=low,
        high=high,
        uniform_p=uniform_p,
        sentence=sentence + _recall(promise, decided),
    )


def uniformity(p_values: Sequence[float], calibrated: int) -> float | None:
    """The p of a Kolmogorov-Smirnov test that p-values are uniform, as those of exchangeable images are.

    A p-value is the rank of a score among `calibrated` others, themselves a draw. So the ranks are compared
    with these others, by the test of two samples; the test against the uniform distribution would take the
    few values that ranks can have, and the luck of the draw, for a difference.

    Returns:
        None without p-values.
    """
    if not p_values or not calibrated:
        return None
    between_ranks = (np.arange(1, calibrated + 1) + 0.5) / (calibrated + 1)
    return float(ks_2samp(np.asarray(p_values), between_ranks).pvalue)


def _judge(promise: Promise, alarms: int, normals: int, high: int) -> Judgement:
    if promise.policy != "max_false_alarm_rate" or promise.promised is None:
        return "none"
    if alarms <= promise.promised * normals:
        return "kept"
    return "above" if alarms <= high else "broken"


def _judge_recall(promise: Promise, decided: Sequence[bool]) -> Judgement | None:
    """Of a promised recall; None where none is promised, or no anomalous image can tell."""
    if promise.policy != "min_recall" or promise.promised is None or not decided:
        return None
    found = sum(decided)
    if found >= promise.promised * len(decided):
        return "kept"
    chance = float(binom.cdf(found, len(decided), promise.promised))
    return "above" if chance >= _TAIL else "broken"


def _sentence(
    promise: Promise, alarms: int, normals: int, low: int, high: int, uniform_p: float | None
) -> str:
    shown = f"{alarms} of {normals} good test images are flagged ({percent(alarms / normals)})"
    if promise.rank is None:
        return f"{shown}; the model is of an earlier version, and promises nothing."
    ks = "" if uniform_p is None else f" (Kolmogorov-Smirnov p = {uniform_p:.2g})"
    differ = uniform_p is not None and uniform_p < DIFFER
    judgement = _judge(promise, alarms, normals, high)
    promised = percent(promise.promised or 0)
    reason = f" Yet good test images score differently from those that calibrated{ks}." if differ else ""
    if judgement == "kept":
        fewer = f" Chance explains {low} to {high}: the threshold is higher than it need be."
        return f"{shown}; at most {promised} were promised.{fewer if alarms < low else ''}{reason}"
    if judgement == "above":
        return f"{shown}, more than the {promised} promised, {_chance(promise, normals, low, high)}.{reason}"
    if alarms <= high:
        return f"{shown}; calibration lets expect {low} to {high}.{reason}"
    if differ:
        reason = (
            f" The good test images score differently from those that calibrated{ks}: calibrate on images"
            " like them, with `raysvq calibrate`."
        )
    else:
        reason = (
            f" The scores as a whole do not tell them from those that calibrated{ks}: look at the flagged"
            " images, their labels first."
        )
    if judgement == "none":
        return f"{shown}, more than the {low} to {high} that calibration lets expect.{reason}"
    return (
        f"The promise is not kept: {shown}, where {promised} were promised and chance explains {low} to"
        f" {high}.{reason}"
    )


def _chance(promise: Promise, normals: int, low: int, high: int) -> str:
    """Why more false alarms than were promised do not show that the promise is broken."""
    if high > _WIDE * (promise.promised or 0) * normals:
        return f"but so few calibrated ({promise.normals}) that chance alone explains {low} to {high}"
    return f"but no more than chance explains ({low} to {high}), as {promise.normals} calibrated"


def _recall(promise: Promise, decided: Sequence[bool]) -> str:
    """What became of a promised recall."""
    judgement = _judge_recall(promise, decided)
    if judgement is None:
        return ""
    share, promised = percent(sum(decided) / len(decided)), percent(promise.promised or 0)
    text = f" Of {len(decided)} defective ones {share} are found; at least {promised} were promised"
    if judgement == "kept":
        return f"{text}."
    return f"{text}, and {'chance explains' if judgement == 'above' else 'chance does not explain'} the lack."
