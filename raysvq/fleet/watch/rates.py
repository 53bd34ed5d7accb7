"""Compares shares of images with what is promised or usual: flagged, rejected, and with some codes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from raysvq.fleet.watch.compare import (
    DOUBTFUL,
    PAST,
    REFERENCE,
    Comparison,
    Spreads,
    Subject,
    since_finding,
    test_reference,
)
from raysvq.fleet.watch.measure import rate, rates
from raysvq.fleet.watch.past import Night, Value, Window, use_of
from raysvq.fleet.watch.statistics import Past, against_past, too_many, unusual_counts
from raysvq.ledger.records import CameraNight

if TYPE_CHECKING:
    from raysvq.fleet.settings.cameras import Effects

Count = Callable[[CameraNight], tuple[int, int]]  # a night -> events, of how many images


def alarms(night: CameraNight) -> tuple[int, int]:
    """Images that are flagged, of those that are scored."""
    return night.anomalous, night.scored


def rejects(night: CameraNight) -> tuple[int, int]:
    """Images that are rejected, of those that should be scored."""
    return night.rejected, night.scored + night.rejected


COUNTS: dict[str, Count] = {"alarm_rate": alarms, "reject_rate": rejects}


def compare_rates(subject: Subject, spreads: Spreads, effects: Effects) -> Iterator[Comparison]:
    """Alarm rate and reject rate; only more than usual counts."""
    count, of = alarms(subject.window.tonight)
    if of >= subject.window.min_images:
        share, factor = count / of, float(np.log(effects.alarm_rate))
        if (promise := promised(subject)) is not None:
            usual, sample = promise[0] / promise[1], rate(count, of)
            p_value = test_reference(subject, "alarm_rate", sample, rate(*promise), spreads)
            if p_value < DOUBTFUL:
                p_value = max(p_value, too_many(count, of, *promise))
            size = _log_ratio(share, usual) / factor
            yield _comparison(subject, "alarm_rate", REFERENCE, share, usual, size, p_value)
        if (past := _against_past(subject, "alarm_rate", spreads)) is not None:
            before, images, p_value = past
            size = _log_ratio(share, (before + 0.5) / (images + 1)) / factor
            yield _comparison(subject, "alarm_rate", PAST, share, before / images, size, p_value)
    count, of = rejects(subject.window.tonight)
    if (
        of >= subject.window.min_images
        and (past := _against_past(subject, "reject_rate", spreads)) is not None
    ):
        before, images, p_value = past
        size = (count / of - before / images) / effects.reject_rate
        yield _comparison(subject, "rejects", PAST, count / of, before / images, size, p_value)


def promised(subject: Subject) -> tuple[float, float] | None:
    """Alarms that are expected among so many good images; None: nothing is known."""
    known, night = subject.evidence.max_false_alarm_rate, subject.window.tonight
    if night.threshold is None or (sample := subject.centres.get("score")) is None:
        return None if known is None else (known * 1e6, 1e6)  # as if the rate itself were known
    over = float((2**sample.values >= night.threshold).sum())
    return max(over, (known or 0.0) * len(sample.values), 0.5), float(len(sample.values))


def past_rate(window: Window, signal: str) -> Past | None:
    """The share in earlier nights, on the scale of `measure.rate`."""
    count = COUNTS[signal]

    def read(night: Night) -> Value:
        sample = rate(*count(night.last))
        return np.array([sample.value]), np.array([sample.error])

    return window.past(signal, read)


def _against_past(subject: Subject, signal: str, spreads: Spreads) -> tuple[float, float, float] | None:
    """Events before, of how many images, and a p-value.

    More than usual must show among nights, which differ by themselves, and among images, which are few.
    """
    past, split, count = subject.pasts.get(signal), subject.window.split(signal), COUNTS[signal]
    if past is None or split is None:
        return None
    before, of = (
        float(sum(part)) for part in zip(*(count(night.last) for night in split.usual), strict=True)
    )
    tonight = rate(*count(subject.window.tonight))
    p_value, _ = against_past(
        np.array([tonight.value]), np.array([tonight.error]), past, spreads.nights[signal]
    )
    if p_value < DOUBTFUL:
        pooled = _pooled(
            [count(night) for night in (*(each.last for each in split.recent), subject.window.tonight)]
        )
        by_images = min(too_many(events, images, before, of) for events, images in pooled)
        p_value = max(p_value, min(1.0, len(pooled) * by_images))
    return before, of, p_value


def compare_use(subject: Subject, spreads: Spreads, effects: Effects) -> Iterator[Comparison]:
    """A use of codes that is not the camera's own: by images that show each bucket of codes."""
    past, split, measured = subject.pasts.get("code_use"), subject.window.split("code_use"), subject.measured
    if past is None or split is None or measured is None or not len(measured.codes):
        return
    shown, images = measured.use.astype(float), float(len(measured.codes))
    before, recent = (
        [found for night in nights if (found := use_of(night)) is not None]
        for nights in (split.usual, split.recent)
    )
    usual, of = np.sum([count for count, _ in before], axis=0), sum(images for _, images in before)
    p_value, _ = against_past(*rates(shown, images), past, spreads.nights["code_use"])
    if p_value < DOUBTFUL:
        pooled = _pooled([*recent, (shown, images)])
        by_images = min(float(unusual_counts(some, number, usual, of).min()) for some, number in pooled)
        p_value = max(p_value, min(1.0, len(pooled) * len(shown) * by_images))
    moved = float(np.abs(shown / images - usual / of).sum() / (2 * usual / of).sum())
    since = since_finding(subject, "codes")
    yield Comparison("codes", PAST, moved, 0.0, moved, moved / effects.codes, p_value, since=since)


def _pooled(nights: Sequence[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Counts, and of how many images, of the last night, of the last two together, and so on."""
    counts, images = (accumulate(reversed(part)) for part in zip(*nights, strict=True))
    return list(zip(counts, images, strict=True))


def _comparison(
    subject: Subject,
    signal: str,
    against: Literal["reference", "past"],
    share: float,
    usual: float,
    size: float,
    p_value: float,
) -> Comparison:
    since = since_finding(subject, signal)
    return Comparison(signal, against, share, usual, share - usual, size, p_value, since=since)


def _log_ratio(share: float, usual: float) -> float:
    return float(np.log(share / usual)) if share > 0 else -np.inf
