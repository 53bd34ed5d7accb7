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
    ranks = _ranks(promise.policy, promise.rank, promise.normals)
    return count_interval(promise.normals, *ranks, images)


def _ranks(policy: str, rank: float, units: int) -> tuple[float, float]:
    """Ranks of the normal units next to the threshold, below and above, as `rate_interval` has them.

    With max_false_alarm_rate the threshold lies just above one of their scores. With the other policies it
    may lie anywhere between two of them.
    """
    return (rank, rank) if policy == "max_false_alarm_rate" else (rank, min(rank + 1, units + 1))


def make_promise(threshold: float, normals: Sample, outliers: Sample, settings: DecisionSettings) -> Promise:
    """The promise of a threshold that `choose_threshold` chose on these scores."""
    rank = float(normals.weights[normals.scores < threshold].sum())
    low, high = rate_interval(normals.units, *_ranks(settings.policy, rank, normals.units))
    confidence = settings.confidence if settings.policy in ("max_false_alarm_rate", "min_recall") else None
    asked = promised = needed = None
    if settings.policy == "max_false_alarm_rate":
        asked = settings.max_false_alarm_rate
        needed = units_needed(asked, confidence)
        promised = asked if normals.units >= needed else promised_rate(normals.units, confidence)
        text = _sentence(_RATE, asked, promised, confidence, normals, needed)
    elif settings.policy == "min_recall":
        asked = settings.min_recall
        needed = units_needed(1 - asked, confidence)
        promised = asked if outliers.units >= needed else 1 - promised_rate(outliers.units, confidence)
        text = _sentence(_RECALL, asked, promised, confidence, outliers, needed)
    else:
        text = _no_rate_sentence(threshold, normals, outliers, settings)
    text += f" Of good images expect {percent(low)} to {percent(high)} flagged (95 % interval)."
    return Promise(settings.policy, asked, promised, confidence, normals.units, needed, low, high, text, rank)


def percent(share: float) -> str:
    """A share in percent, with three digits at most."""
    return f"{100 * share:.3g} %"


def counted(sample: Sample, label: str) -> str:
    """How many images calibrate, such as `19 normal images`."""
    images = f"{_images(sample)} {label} image{_plural(_images(sample))}"
    return images if _all_alone(sample) else f"{images} of {sample.units} unit{_plural(sample.units)}"


def _plural(number: int) -> str:
    return "" if number == 1 else "s"


def _images(sample: Sample) -> int:
    return len(sample.scores) if sample.images is None else sample.images


def _all_alone(sample: Sample) -> bool:
    return sample.units == _images(sample)


def _as_set(share: float) -> str:
    """A share of the settings in percent; 99.99 % is not rounded to 100 %."""
    return f"{100 * share:g} %"


def _certainty(confidence: float | None) -> str:
    return "in expectation" if confidence is None else f"with a confidence of {_as_set(confidence)}"


@dataclass(frozen=True)
class _Words:
    at_most: str
    images: str
    calibrated: str
    place: str  # of the threshold where so few cannot promise the rate


_RATE = _Words("at most", "good", "normal", "lies just above the largest score")
_RECALL = _Words("at least", "defective", "anomalous", "is the smallest of their scores")


def _sentence(
    words: _Words, asked: float, promised: float, confidence: float | None, sample: Sample, needed: int
) -> str:
    calibrated = counted(sample, words.calibrated)
    if asked == promised:
        return (
            f"{words.at_most.capitalize()} {_as_set(asked)} of {words.images} images are flagged,"
            f" {_certainty(confidence)}, as {calibrated} promise{'s' if _images(sample) == 1 else ''}."
        )
    return (
        f"{calibrated} cannot promise that {words.at_most} {_as_set(asked)} of {words.images} images are"
        f" flagged: {needed} {'' if _all_alone(sample) else 'units '}are needed. {words.at_most.capitalize()}"
        f" {percent(promised)} are, {_certainty(confidence)}: the threshold {words.place}."
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
