"""Compares a camera's night with its model's reference, and with its own past."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from scipy import stats

from raysvq.fleet.watch import past as earlier
from raysvq.fleet.watch.evidence import Evidence
from raysvq.fleet.watch.measure import LOOKS, USE, Measured, Reference, Sample, rate
from raysvq.fleet.watch.past import Window
from raysvq.fleet.watch.statistics import (
    Past,
    Spread,
    against_past,
    against_reference,
    same_distribution,
    too_many,
)

if TYPE_CHECKING:
    from raysvq.fleet.cameras import Effects

REFERENCE: Final = "reference"
PAST: Final = "past"
COMPARED = (*LOOKS, "codes", *USE, "alarm_rate", "reject_rate", "volume")
_DOUBTFUL = 0.01  # below it the images themselves are tested too, which takes longer
_LEAST = 1e-6  # deviation of scores, to avoid division by 0


@dataclass(frozen=True)
class Subject:
    """A camera's night as it is compared."""

    evidence: Evidence
    measured: Measured | None  # None: fewer images than `watch.min_images`
    reference: Reference | None
    samples: Mapping[str, Sample]  # by names of LOOKS, USE and `codes`
    window: Window
    new: int  # images tonight, of all runs
    gap: int | None  # days since the night before
    pasts: Mapping[str, Past]  # by names of COMPARED but `volume`
    volumes: tuple[Past, str] | None  # and what kind of nights these are

    @property
    def centres(self) -> dict[str, Sample]:
        """The reference's samples of the same names."""
        if self.reference is None:
            return {}
        rare = self.reference.rare_use
        return self.reference.measured.looks | ({} if rare is None else {"codes": rare})


@dataclass(frozen=True)
class Spreads:
    """How nights and cameras of the fleet differ when all is well, by signal."""

    nights: Mapping[str, Spread]
    cameras: Mapping[tuple[str, str | None], Spread]  # by signal and digest of the model


@dataclass(frozen=True)
class Comparison:
    """One signal of a night against what is usual."""

    signal: str  # as findings name it
    against: Literal["reference", "past"]
    value: float
    usual: float
    shift: float  # from what is usual, signed, on the scale of the test
    size: float  # in units of the smallest difference that is worth a warning
    p_value: float
    kind: str = ""  # of the nights that a volume is compared with
    since: date | None = None  # first night of an unbroken run; None: tonight


def compare(subject: Subject, spreads: Spreads, effects: Effects) -> Iterator[Comparison]:
    """All comparisons that the evidence allows."""
    if subject.measured is not None:
        for signal in LOOKS:
            yield from _looks(subject, signal, spreads, effects)
        yield from _codes(subject, spreads, effects)
    yield from _alarms(subject, spreads, effects)
    yield from _rejects(subject, spreads, effects)
    yield from _volume(subject, spreads, effects)


def _looks(subject: Subject, signal: str, spreads: Spreads, effects: Effects) -> Iterator[Comparison]:
    sample = subject.samples.get(signal)
    if sample is None:
        return
    centre, past = subject.centres.get(signal), subject.pasts.get(signal)
    unit = float(getattr(effects, signal))
    if signal == "score":
        unit *= max((centre or sample).deviation, _LEAST)
    if centre is not None:
        shift = sample.value - centre.value
        p_value = _against_reference(subject, signal, sample, centre, spreads)
        size = abs(shift) / unit
        if p_value < _DOUBTFUL:
            p_value = max(p_value, same_distribution(sample.values, centre.values))
            if signal == "score":
                size = float(stats.wasserstein_distance(sample.values, centre.values)) / unit
        found = Comparison(signal, REFERENCE, sample.value, centre.value, shift, size, p_value)
        yield replace(found, since=_since_value(subject, found, unit))
    if past is not None:
        shift = sample.value - past.centre
        p_value = against_past(sample.value, sample.error, past, spreads.nights[signal])
        found = Comparison(signal, PAST, sample.value, past.centre, shift, abs(shift) / unit, p_value)
        yield replace(found, since=_since_value(subject, found, unit))


def _codes(subject: Subject, spreads: Spreads, effects: Effects) -> Iterator[Comparison]:
    """Codes that normal images hardly use, and a use of codes that is not the camera's own."""
    sample, centre = subject.samples.get("codes"), subject.centres.get("codes")
    if sample is not None and centre is not None:
        shift = sample.value - centre.value
        p_value = _against_reference(subject, "codes", sample, centre, spreads)
        found = Comparison(
            "codes", REFERENCE, sample.value, centre.value, shift, shift / effects.codes, p_value
        )
        yield replace(found, since=_since_value(subject, found, effects.codes))
    use = [(subject.samples[name], subject.pasts[name], name) for name in USE if name in subject.pasts]
    if len(use) == len(USE) and all(name in subject.samples for name in USE):
        moved = sum(abs(sample.value - past.centre) for sample, past, _ in use) / 2
        each = [
            against_past(sample.value, sample.error, past, spreads.nights[name]) for sample, past, name in use
        ]
        p_value = min(1.0, len(use) * min(each))
        found = Comparison("codes", PAST, moved, 0.0, moved, moved / effects.codes, p_value)
        yield replace(found, since=_since_finding(subject, "codes"))


def _alarms(subject: Subject, spreads: Spreads, effects: Effects) -> Iterator[Comparison]:
    night = subject.window.tonight
    if night.scored < subject.window.min_images:
        return
    tonight, promise = rate(night.anomalous, night.scored), _promise(subject)
    share, factor = night.anomalous / night.scored, float(np.log(effects.alarm_rate))
    if promise is not None:
        before, of = promise
        usual, centre = before / of, rate(round(before), round(of))
        p_value = _against_reference(subject, "alarm_rate", tonight, centre, spreads)
        if p_value < _DOUBTFUL:
            p_value = max(p_value, too_many(night.anomalous, night.scored, before, of))
        size = _log_ratio(share, usual) / factor
        yield Comparison(
            "alarm_rate",
            REFERENCE,
            share,
            usual,
            share - usual,
            size,
            p_value,
            since=_since_finding(subject, "alarm_rate"),
        )
    past = subject.pasts.get("alarm_rate")
    if past is not None:
        nights = [each.last for each in subject.window.comparable("alarm_rate")]
        before, of = sum(each.anomalous for each in nights), sum(each.scored for each in nights)
        usual = (before + 0.5) / (of + 1)
        p_value = against_past(tonight.value, tonight.error, past, spreads.nights["alarm_rate"])
        if p_value < _DOUBTFUL:
            p_value = max(p_value, too_many(night.anomalous, night.scored, before, of))
        size = _log_ratio(share, usual) / factor
        yield Comparison(
            "alarm_rate",
            PAST,
            share,
            usual,
            share - usual,
            size,
            p_value,
            since=_since_finding(subject, "alarm_rate"),
        )


def _promise(subject: Subject) -> tuple[float, float] | None:
    """Alarms that are expected among so many good images; None: nothing is known."""
    evidence, night = subject.evidence, subject.window.tonight
    promised = evidence.max_false_alarm_rate
    if subject.reference is None or night.threshold is None or "score" not in subject.centres:
        return None if promised is None else (promised * 1e6, 1e6)  # as if the rate were known
    scores = subject.centres["score"].values
    over = float((2**scores >= night.threshold).sum())
    return max(over, (promised or 0.0) * len(scores), 0.5), float(len(scores))


def _rejects(subject: Subject, spreads: Spreads, effects: Effects) -> Iterator[Comparison]:
    night, past = subject.window.tonight, subject.pasts.get("reject_rate")
    images = night.scored + night.rejected
    if past is None or images < subject.window.min_images:
        return
    nights = [each.last for each in subject.window.comparable("reject_rate")]
    before, of = sum(each.rejected for each in nights), sum(each.scored + each.rejected for each in nights)
    tonight, share, usual = rate(night.rejected, images), night.rejected / images, before / of
    p_value = against_past(tonight.value, tonight.error, past, spreads.nights["reject_rate"])
    if p_value < _DOUBTFUL:
        p_value = max(p_value, too_many(night.rejected, images, before, of))
    size = (share - usual) / effects.reject_rate
    yield Comparison(
        "rejects", PAST, share, usual, share - usual, size, p_value, since=_since_finding(subject, "rejects")
    )


def _volume(subject: Subject, spreads: Spreads, effects: Effects) -> Iterator[Comparison]:
    if subject.volumes is None:
        return
    past, kind = subject.volumes
    value, error = earlier.log_volume(subject.new)
    shift = value - past.centre
    p_value = against_past(value, error, past, spreads.nights["volume"])
    size = abs(shift / float(np.log2(1 - effects.volume)))
    found = Comparison("volume", PAST, subject.new, 2**past.centre, shift, size, p_value, kind)
    yield replace(found, since=_since_finding(subject, "volume"))


def _against_reference(
    subject: Subject, signal: str, sample: Sample, centre: Sample, spreads: Spreads
) -> float:
    error = float(np.hypot(sample.error, centre.error))
    cameras = spreads.cameras[signal, subject.window.tonight.model_digest]
    return against_reference(sample.value, error, centre.value, spreads.nights[signal], cameras)


def _log_ratio(share: float, usual: float) -> float:
    return float(np.log(share / usual)) if share > 0 else -np.inf


def _since_value(subject: Subject, found: Comparison, unit: float) -> date | None:
    """The first of the nights just before tonight that lie half a warning or more on the same side."""
    read, first = earlier.reader(found.signal), None
    for night in reversed(subject.window.comparable(found.signal)):
        values = read(night.last)
        if values is None or (values[0] - found.usual) * np.sign(found.shift) < unit / 2:
            break
        first = night.date
    return first


def _since_finding(subject: Subject, signal: str) -> date | None:
    """The first of the nights just before tonight that raised it too."""
    first = None
    for night in reversed(subject.window.nights):
        if night.deviates(signal):
            first = night.date
        elif night.last.scored or night.last.rejected:
            break
    return first


def offset(subject: Subject, signal: str) -> float | None:
    """How the camera usually lies beside the reference; None: not known."""
    if signal == "alarm_rate":
        promise, night = _promise(subject), subject.window.tonight
        if promise is None:
            return None
        tonight = rate(night.anomalous, night.scored).value if night.scored else None
        centre: float = rate(round(promise[0]), round(promise[1])).value
    else:
        sample, known = subject.samples.get(signal), subject.centres.get(signal)
        if known is None:
            return None
        tonight, centre = (None if sample is None else sample.value), known.value
    past = subject.pasts.get(signal)
    usual = tonight if past is None else past.centre
    return None if usual is None else usual - centre


def pasts_of(window: Window, signals: Sequence[str]) -> dict[str, Past]:
    """A camera's past of each signal that has one."""
    found = {}
    for signal in signals:
        if signal == "alarm_rate":
            past = window.past(signal, lambda night: _of_rate(night.anomalous, night.scored))
        elif signal == "reject_rate":
            past = window.past(signal, lambda night: _of_rate(night.rejected, night.scored + night.rejected))
        else:
            past = window.past(signal, earlier.reader(signal))
        if past is not None:
            found[signal] = past
    return found


def _of_rate(count: int, of: int) -> tuple[float, float]:
    sample = rate(count, of)
    return sample.value, sample.error
