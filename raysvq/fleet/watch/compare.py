"""Compares what images of a night look like with a model's reference, and with the camera's own past."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from scipy import stats

from raysvq.fleet.watch.evidence import Evidence
from raysvq.fleet.watch.measure import LOOKS, Measured, Reference, Sample
from raysvq.fleet.watch.past import Window, log_images, read_signal
from raysvq.fleet.watch.statistics import (
    Cameras,
    Nights,
    Past,
    against_past,
    against_reference,
    same_distribution,
)

if TYPE_CHECKING:
    from raysvq.fleet.settings.cameras import Effects

REFERENCE: Final = "reference"
PAST: Final = "past"
DOUBTFUL = 0.01  # below it the images themselves are tested too, which takes longer
_LEAST = 1e-6  # deviation of scores, to avoid division by 0


@dataclass(frozen=True)
class Subject:
    """A camera's night as it is compared."""

    evidence: Evidence
    measured: Measured | None  # None: fewer images than `watch.min_images`
    reference: Reference | None
    samples: Mapping[str, Sample]  # by names of LOOKS, and `codes`
    window: Window
    new: int  # images tonight, of all runs
    gap: int | None  # days since the night before
    pasts: Mapping[str, Past]  # by signal: of LOOKS, codes, code_use, alarm_rate, reject_rate
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

    nights: Mapping[str, Nights]
    cameras: Mapping[tuple[str, str | None], Cameras]  # by signal and digest of the model


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


def compare_looks(subject: Subject, spreads: Spreads, effects: Effects) -> Iterator[Comparison]:
    """Exposure, contrast, sharpness, warmth, scores, and codes against the reference."""
    for signal in LOOKS:
        if sample := subject.samples.get(signal):
            yield from _look(subject, signal, sample, spreads, effects)
    if subject.measured is not None:
        yield from _codes(subject, spreads, effects)


def compare_volume(subject: Subject, spreads: Spreads, effects: Effects) -> Iterator[Comparison]:
    """The number of new images."""
    if subject.volumes is not None:
        past, kind = subject.volumes
        p_value, (shift,) = against_past(*log_images(subject.new), past, spreads.nights["volume"])
        size = abs(shift / float(np.log2(1 - effects.volume)))
        usual, since = float(2 ** past.centre[0]), since_finding(subject, "volume")
        yield Comparison("volume", PAST, subject.new, usual, float(shift), size, p_value, kind, since)


def _look(
    subject: Subject, signal: str, sample: Sample, spreads: Spreads, effects: Effects
) -> Iterator[Comparison]:
    centre, past = subject.centres.get(signal), subject.pasts.get(signal)
    unit = float(getattr(effects, signal))
    if signal == "score":
        unit *= max((centre or sample).deviation, _LEAST)
    if centre is not None:
        shift = sample.value - centre.value
        p_value, size = test_reference(subject, signal, sample, centre, spreads), abs(shift) / unit
        if p_value < DOUBTFUL:
            p_value = max(p_value, same_distribution(sample.values, centre.values))
            if signal == "score":
                size = float(stats.wasserstein_distance(sample.values, centre.values)) / unit
        found = Comparison(signal, REFERENCE, sample.value, centre.value, shift, size, p_value)
        yield replace(found, since=_since_value(subject, found, unit))
    if past is not None:
        p_value, (shift,) = against_past(*_numbers(sample), past, spreads.nights[signal])
        usual = float(past.centre[0])
        found = Comparison(signal, PAST, sample.value, usual, float(shift), abs(float(shift)) / unit, p_value)
        yield replace(found, since=_since_value(subject, found, unit))


def _codes(subject: Subject, spreads: Spreads, effects: Effects) -> Iterator[Comparison]:
    """Codes that normal images hardly use."""
    sample, centre = subject.samples.get("codes"), subject.centres.get("codes")
    if sample is None or centre is None:
        return
    p_value = test_reference(subject, "codes", sample, centre, spreads)
    if p_value < DOUBTFUL:
        p_value = max(p_value, same_distribution(sample.values, centre.values))
    shift = sample.value - centre.value
    found = Comparison("codes", REFERENCE, sample.value, centre.value, shift, shift / effects.codes, p_value)
    yield replace(found, since=_since_value(subject, found, effects.codes))


def test_reference(subject: Subject, signal: str, sample: Sample, centre: Sample, spreads: Spreads) -> float:
    """p-value of a signal for a camera that is like those of the reference."""
    error = float(np.hypot(sample.error, centre.error))
    cameras = spreads.cameras[signal, subject.window.tonight.model_digest]
    return against_reference(sample.value - centre.value, error, spreads.nights[signal], cameras)


def since_finding(subject: Subject, signal: str) -> date | None:
    """The first of the nights just before tonight that raised it too."""
    first = None
    for night in reversed(subject.window.nights):
        if night.deviates(signal):
            first = night.date
        elif night.last.scored or night.last.rejected:
            break
    return first


def _since_value(subject: Subject, found: Comparison, unit: float) -> date | None:
    """The first of the nights just before tonight that lie half a warning or more on the same side."""
    read, first = read_signal(found.signal), None
    for night in reversed(subject.window.comparable(found.signal)):
        values = read(night)
        if values is None or (values[0][0] - found.usual) * np.sign(found.shift) < unit / 2:
            break
        first = night.date
    return first


def _numbers(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    return np.array([sample.value]), np.array([sample.error])
