"""What a threshold promises, in numbers and in words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raysvq.decisions.conformal import count_interval, promised_rate, rate_interval, units_needed
from raysvq.decisions.policies import Sample, expected_cost
from raysvq.settings.decision import DecisionSettings


@dataclass(frozen=True)
class Promise:
    """What may be expected of images that are drawn as those that calibrated.

    A unit is an image, or the images of one part or lot, which count once together.
    """

    policy: str
    asked: float | None  # false-alarm rate; recall with min_recall; None: the policy asks for no rate
    promised: float | None  # the same where so many units can promise it, else the best that they can
    confidence: float | None  # None: in expectation
    normals: int  # units that calibrated
    needed: int | None  # units that can promise what was asked: normal ones, with min_recall anomalous ones
    low: float | None  # central 95 % interval of the share of good units that are flagged; None: not known
    high: float | None
    sentence: str
    rank: float | None = None  # weight of the normal units below the threshold, of `normals`


def false_alarm_interval(promise: Promise, images: int) -> tuple[int, int]:
    """Central 95 % interval of the number of false alarms among so many new normal images.

    It allows for the draw of the images that calibrated and for that of the new ones (beta-binomial). Of a
    model of an earlier version, which kept no scores, nothing is known: (0, images).
    """
    if promise.rank is None:
        return 0, images
    return count_interval(promise.normals, promise.rank, images)


def make_promise(threshold: float, normals: Sample, outliers: Sample, settings: DecisionSettings) -> Promise:
    """The promise of a threshold that `choose_threshold` chose on these scores."""
    rank = float(normals.weights[normals.scores < threshold].sum())
    low, high = rate_interval(normals.units, rank)
    confidence = settings.confidence if settings.policy in ("max_false_alarm_rate", "min_recall") else None
    asked = promised = needed = None
    if settings.policy == "max_false_alarm_rate":
        asked = settings.max_false_alarm_rate
        needed = units_needed(asked, confidence)
        promised = asked if normals.units >= needed else promised_rate(normals.units, confidence)
        text = _rate_sentence(asked, promised, confidence, normals, needed)
    elif settings.policy == "min_recall":
        asked = settings.min_recall
        needed = units_needed(1 - asked, confidence)
        promised = asked if outliers.units >= needed else 1 - promised_rate(outliers.units, confidence)
        text = _recall_sentence(asked, promised, confidence, outliers, needed)
    else:
        text = _no_rate_sentence(threshold, normals, outliers, settings)
    text += f" Of good images expect {percent(low)} to {percent(high)} flagged (95 % interval)."
    return Promise(settings.policy, asked, promised, confidence, normals.units, needed, low, high, text, rank)


def percent(share: float) -> str:
    """A share in percent, with three digits at most."""
    return f"{100 * share:.3g} %"


def counted(sample: Sample, label: str) -> str:
    """How many images calibrate, such as `19 normal images`."""
    images = f"{len(sample.scores)} {label} image{'' if len(sample.scores) == 1 else 's'}"
    return images if sample.units == len(sample.scores) else f"{images} of {sample.units} units"


def _certainty(confidence: float | None) -> str:
    return "in expectation" if confidence is None else f"with a confidence of {percent(confidence)}"


def _rate_sentence(
    asked: float, promised: float, confidence: float | None, normals: Sample, needed: int
) -> str:
    if asked == promised:
        return (
            f"At most {percent(asked)} of good images are flagged, {_certainty(confidence)}, as"
            f" {counted(normals, 'normal')} promise."
        )
    return (
        f"{counted(normals, 'normal')} cannot promise that at most {percent(asked)} of good images are"
        f" flagged: {needed} are needed. At most {percent(promised)} are, {_certainty(confidence)}:"
        " the threshold lies just above the largest score."
    )


def _recall_sentence(
    asked: float, promised: float, confidence: float | None, outliers: Sample, needed: int
) -> str:
    if asked == promised:
        return (
            f"At least {percent(asked)} of defective images are flagged, {_certainty(confidence)}, as"
            f" {counted(outliers, 'anomalous')} promise."
        )
    return (
        f"{counted(outliers, 'anomalous')} cannot promise that {percent(asked)} of defective images are"
        f" flagged: {needed} are needed. {percent(promised)} are, {_certainty(confidence)}:"
        " the threshold is the smallest of their scores."
    )


def _no_rate_sentence(threshold: float, normals: Sample, outliers: Sample, settings: DecisionSettings) -> str:
    both = f"{counted(normals, 'normal')} and {counted(outliers, 'anomalous')}"
    if settings.policy == "paper":
        return f"The paper's threshold balances the errors on {both}, and promises no rate."
    if settings.policy == "manual":
        return f"The threshold was set to {threshold:.6g} by hand, and promises no rate."
    alarms = np.array([normals.weights[normals.scores >= threshold].sum()])
    misses = np.array([outliers.weights[outliers.scores < threshold].sum()])
    (cost,) = expected_cost(alarms, misses, normals.units, outliers.units, settings)
    return f"The threshold costs least on {both}, {cost:.3g} for each image, and promises no rate."
