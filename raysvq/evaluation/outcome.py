"""What was promised of false alarms, against what the normal images of the test split show."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import ks_2samp

from raysvq.decisions import Promise, false_alarm_interval
from raysvq.evaluation.result import Outcome
from raysvq.evaluation.score_rows import ScoredImage

_DIFFER = 0.01  # a smaller p says that the normal images are not like those that calibrated


def compare_with_promise(promise: Promise, images: Sequence[ScoredImage]) -> Outcome | None:
    """Compare the false alarms among normal test images with those that the promise allows.

    Images of one group, a part or lot, are alike: the interval is that of as many images as there are groups,
    widened to all images.

    Args:
        promise: of the decisions that decided on the images.
        images: labelled test images; of the anomalous ones only a promised recall is said.

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
    return Outcome(
        normals=len(normals),
        false_alarms=alarms,
        low=low,
        high=high,
        kept=alarms <= high,
        uniform_p=uniform_p,
        sentence=_sentence(promise, alarms, len(normals), low, high, uniform_p) + _recall(promise, images),
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


def _sentence(
    promise: Promise, alarms: int, normals: int, low: int, high: int, uniform_p: float | None
) -> str:
    shown = f"{alarms} of {normals} good test images are flagged ({_percent(alarms / normals)})"
    if promise.rank is None:
        return f"{shown}; the model is of an earlier version, and promises nothing."
    expected = f"the model's own calibration allows {low} to {high}"
    ks = "" if uniform_p is None else f" (Kolmogorov-Smirnov p = {uniform_p:.2g})"
    differ = uniform_p is not None and uniform_p < _DIFFER
    if alarms > high:
        if differ:
            reason = (
                f"The good test images score differently from those that calibrated{ks}: calibrate on images"
                " like them, with `raysvq calibrate`."
            )
        else:
            reason = (
                f"The scores as a whole do not tell them from those that calibrated{ks}: look at the flagged"
                " images, their labels first."
            )
        promised = promise.policy == "max_false_alarm_rate"
        verdict = "The promise is not kept" if promised else "More false alarms than calibration lets expect"
        return f"{verdict}: {shown}, {expected}. {reason}"
    verdict = "fewer than expected" if alarms < low else "as expected"
    text = f"{shown}, {verdict}: {expected}."
    if differ:
        text += f" Yet good test images score differently from those that calibrated{ks}."
    return text


def _recall(promise: Promise, images: Sequence[ScoredImage]) -> str:
    """What became of a promised recall."""
    decided = [item.flagged for item in images if item.image.anomalous]
    if promise.policy != "min_recall" or promise.promised is None or not decided:
        return ""
    share = _percent(sum(decided) / len(decided))
    return f" Of {len(decided)} defective ones {share} are found; promised: {_percent(promise.promised)}."


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
