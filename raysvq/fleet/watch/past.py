"""What the ledger says of a camera's earlier nights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import cached_property

import numpy as np

from raysvq.fleet.watch.measure import USE, rates
from raysvq.fleet.watch.statistics import Floats, Past, make_past
from raysvq.ledger.records import CameraNight

LAG = 3  # nights just before tonight that a past leaves out where it can, lest a slow drift hide in it
_SAME_WEEKDAYS = 3  # nights of one weekday that make a past of their own
_FINDINGS = {"code_use": "codes", "reject_rate": "rejects"}  # signal -> its name in findings, if another
_OF_PIXELS = ("exposure", "contrast", "sharpness", "warmth")

Value = tuple[Floats, Floats]  # the numbers of a signal, and their standard errors


@dataclass(frozen=True)
class Night:
    """All runs of a camera in one night."""

    date: date
    last: CameraNight  # the run that looked at most images
    new: int  # images, of all runs
    gap: int | None  # days since the night before; None: the camera's first

    def deviates(self, signal: str) -> bool:
        """Whether a warning or error about the signal was raised."""
        name = _FINDINGS.get(signal, signal)
        return any(each.signal == name and each.level != "info" for each in self.last.findings)


def nights_of(history: Sequence[Sequence[CameraNight]]) -> dict[str, list[Night]]:
    """camera -> its nights, oldest first. Runs in which it failed count only for the gap."""
    by_camera: dict[str, dict[str, list[CameraNight]]] = {}
    for run in history:
        for night in run:
            by_camera.setdefault(night.camera, {}).setdefault(night.night, []).append(night)
    found: dict[str, list[Night]] = {}
    for camera, runs in by_camera.items():
        before: date | None = None
        found[camera] = nights = []
        for day, some in sorted(runs.items()):
            current = date.fromisoformat(day)
            whole = [night for night in some if night.failure is None]
            if whole:
                most = max(whole, key=lambda night: (night.signals.get("images", 0), night.scored))
                if len(whole) > 1:
                    most = replace(most, findings=tuple(each for night in whole for each in night.findings))
                gap = (current - before).days if before else None
                nights.append(Night(current, most, sum(night.new for night in whole), gap))
                before = current
    return found


Read = Callable[[Night], Value | None]


@dataclass(frozen=True)
class Split:
    """Earlier nights that say what is usual, and those just before tonight that do not."""

    usual: list[Night]
    recent: list[Night]  # fewer than LAG


@dataclass(frozen=True)
class Window:
    """The nights that tonight may be compared with."""

    tonight: CameraNight
    today: date
    nights: Sequence[Night]  # oldest first, all before today
    weeks: int
    min_nights: int
    min_images: int

    def comparable(self, signal: str) -> list[Night]:
        """Those in which the signal was measured in the same way, on enough images."""
        kind = (
            signal
            if signal in ("alarm_rate", "reject_rate")
            else "pixels"
            if signal in _OF_PIXELS
            else "model"
        )
        return self._comparable[kind]

    @cached_property
    def _comparable(self) -> dict[str, list[Night]]:
        since = self.today - timedelta(weeks=self.weeks)
        nights = [night for night in self.nights if night.date >= since]
        least, tonight = self.min_images, self.tonight
        seen = [night for night in nights if night.last.signals.get("images", 0) >= least]
        pixels = [night for night in seen if night.last.settings_digest == tonight.settings_digest]
        return {
            "pixels": pixels,
            "model": [night for night in pixels if night.last.model_digest == tonight.model_digest],
            "alarm_rate": [
                night
                for night in nights
                if night.last.scored >= least
                and night.last.model_digest == tonight.model_digest
                and night.last.decisions_digest == tonight.decisions_digest
            ],
            "reject_rate": [night for night in nights if night.last.scored + night.last.rejected >= least],
        }

    def split(self, signal: str) -> Split | None:
        """What is usual, of comparable nights that did not deviate, and what is recent; None of too few."""
        alike = self.comparable(signal)
        usual = [night for night in alike[:-LAG] if not night.deviates(signal)]
        if len(usual) >= self.min_nights:
            return Split(usual, alike[1 - LAG :])
        usual = [night for night in alike if not night.deviates(signal)]
        return Split(usual, []) if len(usual) >= self.min_nights else None

    def past(self, signal: str, read: Read) -> Past | None:
        """The signal in these nights; None of too few."""
        if (split := self.split(signal)) is None:
            return None
        usual, recent = (
            [found for night in nights if (found := read(night)) is not None]
            for nights in (split.usual, split.recent)
        )
        return _as_past(usual, recent) if len(usual) >= self.min_nights else None

    def volumes(self, gap: int) -> tuple[Past, str] | None:
        """log2 of the new images of nights of the same kind, and what kind; None of too few."""
        since = self.today - timedelta(weeks=self.weeks)
        alike = [night for night in self.nights if night.date >= since and night.gap == gap]
        usual = [night for night in alike if not night.deviates("volume")]
        same = [night for night in usual if night.date.weekday() == self.today.weekday()]
        if len(same) >= _SAME_WEEKDAYS:
            return _as_past([log_images(night.new) for night in same], []), f"on {self.today:%A}s"
        if not _works(self.today):
            return None
        working, recent = [night for night in usual if _works(night.date)], alike[1 - LAG :]
        settled = [night for night in working if night not in alike[-LAG:]]
        if len(settled) < self.min_nights:
            settled, recent = working, []
        if len(settled) < self.min_nights:
            return None
        some = (
            [log_images(night.new) for night in nights if _works(night.date)] for nights in (settled, recent)
        )
        return _as_past(*some), "on working days"


def log_images(images: int) -> Value:
    """log2 of a number of images, and its error as if they came at random."""
    return np.array([np.log2(max(images, 0.5))]), np.array([1 / (np.log(2) * max(images, 1) ** 0.5)])


def read_signal(signal: str) -> Read:
    """Reads what `signals_of` wrote."""

    def read(night: Night) -> Value | None:
        value, error = (night.last.signals.get(name) for name in (signal, f"{signal}_error"))
        if value is None or error is None:
            return None
        return np.array([np.log2(value) if signal == "score" else value]), np.array([error])

    return read


def use_of(night: Night) -> tuple[Floats, float] | None:
    """Images (d,) that show each bucket of codes, and of how many."""
    signals = night.last.signals
    if USE[-1] not in signals:
        return None
    images = signals["code_images"]
    return np.round(np.array([signals[name] for name in USE]) * images), images


def read_use(night: Night) -> Value | None:
    """`use_of` on the scale of rates."""
    found = use_of(night)
    return None if found is None else rates(*found)


def _as_past(usual: list[Value], recent: list[Value]) -> Past:
    """`usual` has at least two nights."""
    none = np.zeros((0, len(usual[0][0])))
    values, errors = (np.array(part) for part in zip(*usual, strict=True))
    later = [np.array(part) for part in zip(*recent, strict=True)] or [none, none]
    return make_past(values, errors, *later)


def _works(day: date) -> bool:
    return day.weekday() < 5
