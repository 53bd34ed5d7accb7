"""What the ledger says of a camera's earlier nights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np

from raysvq.fleet.watch.measure import USE
from raysvq.fleet.watch.statistics import Past
from raysvq.ledger.records import CameraNight

LAG = 3  # nights just before tonight that a past leaves out where it can, lest a slow drift hide in it
_SAME_WEEKDAYS = 3  # nights of one weekday that make a past of their own
_OF_PIXELS = ("exposure", "contrast", "sharpness", "warmth")

Read = Callable[[CameraNight], tuple[float, float] | None]  # a night -> value of a signal and its error


@dataclass(frozen=True)
class Night:
    """All runs of a camera in one night."""

    date: date
    last: CameraNight  # the run that looked at most images
    new: int  # images, of all runs
    gap: int | None  # days since the night before; None: the camera's first

    def deviates(self, signal: str) -> bool:
        """Whether a warning or error about the signal was raised."""
        return any(each.signal == signal and each.level != "info" for each in self.last.findings)


def nights_of(history: Sequence[Sequence[CameraNight]]) -> dict[str, list[Night]]:
    """camera -> its nights, oldest first. Runs in which it failed count only for the gap."""
    by_camera: dict[str, dict[str, list[CameraNight]]] = {}
    for run in history:
        for night in run:
            by_camera.setdefault(night.camera, {}).setdefault(night.night, []).append(night)
    found = {}
    for camera, runs in by_camera.items():
        before: date | None = None
        found[camera] = nights = []
        for day, some in sorted(runs.items()):
            current = date.fromisoformat(day)
            whole = [night for night in some if night.failure is None]
            if whole:
                most = max(whole, key=lambda night: (night.signals.get("images", 0), night.scored))
                findings = tuple(each for night in whole for each in night.findings)
                new = sum(night.new for night in whole)
                gap = (current - before).days if before else None
                nights.append(Night(current, replace(most, findings=findings), new, gap))
                before = current
    return found


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
        since = self.today - timedelta(weeks=self.weeks)
        return [night for night in self.nights if night.date >= since and self._alike(night.last, signal)]

    def past(self, signal: str, read: Read) -> Past | None:
        """The signal in comparable nights that did not deviate; None of too few."""
        found = [
            values
            for night in self.comparable(signal)
            if not night.deviates(_finding_of(signal)) and (values := read(night.last))
        ]
        if len(found) >= self.min_nights + LAG:
            found = found[:-LAG]
        return _as_past(found) if len(found) >= self.min_nights else None

    def volumes(self, gap: int) -> tuple[Past, str] | None:
        """log2 of the new images of nights of the same kind, and what kind; None of too few."""
        since = self.today - timedelta(weeks=self.weeks)
        alike = [
            night
            for night in self.nights
            if night.date >= since and night.gap == gap and not night.deviates("volume")
        ]
        same = [night for night in alike if night.date.weekday() == self.today.weekday()]
        if len(same) >= _SAME_WEEKDAYS:
            return _as_past([log_volume(night.new) for night in same]), f"on {self.today:%A}s"
        working = [night for night in alike if _works(night.date)]
        if _works(self.today) and len(working) >= self.min_nights:
            return _as_past([log_volume(night.new) for night in working]), "on working days"
        return None

    def _alike(self, night: CameraNight, signal: str) -> bool:
        tonight = self.tonight
        if signal == "reject_rate":
            return night.scored + night.rejected >= self.min_images
        if signal == "alarm_rate":
            return (
                night.scored >= self.min_images
                and night.model_digest == tonight.model_digest
                and night.decisions_digest == tonight.decisions_digest
            )
        if night.signals.get("images", 0) < self.min_images:
            return False
        if night.settings_digest != tonight.settings_digest:
            return False
        return signal in _OF_PIXELS or night.model_digest == tonight.model_digest


def log_volume(images: int) -> tuple[float, float]:
    """log2 of a number of images, and its error as if they came at random."""
    return float(np.log2(max(images, 0.5))), float(1 / (np.log(2) * max(images, 1) ** 0.5))


def reader(signal: str) -> Read:
    """Reads what `signals_of` wrote."""

    def read(night: CameraNight) -> tuple[float, float] | None:
        value, error = night.signals.get(signal), night.signals.get(f"{signal}_error")
        if value is None or error is None:
            return None
        return (float(np.log2(value)) if signal == "score" else value), error

    return read


def _finding_of(signal: str) -> str:
    """The signal by which findings name it."""
    return "codes" if signal in USE else {"reject_rate": "rejects"}.get(signal, signal)


def _as_past(found: Sequence[tuple[float, float]]) -> Past:
    values, errors = np.array(found, float).T
    return Past(values, errors)


def _works(day: date) -> bool:
    return day.weekday() < 5
