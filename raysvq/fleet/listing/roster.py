"""The cameras that a listing comes upon, each resolved once and claimed by one entry."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from fnmatch import fnmatchcase

from raysvq.errors import SettingsError
from raysvq.fleet.settings.cameras import Camera
from raysvq.fleet.settings.fleet import Entry, Fleet

Since = Callable[[str], date]


@dataclass
class Roster:
    """Cameras found so far. Threads share it."""

    fleet: Fleet
    since: Since
    until: date
    only: Sequence[str]
    cameras: dict[str, Camera] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)  # camera or prefix -> why
    entries: dict[str, Entry] = field(default_factory=dict)  # camera -> the entry that has it
    disputed: set[str] = field(default_factory=set)  # cameras whose name or images are claimed twice
    _windows: dict[str, tuple[date, ...]] = field(default_factory=dict)  # of cameras that are to be listed
    _fields: dict[str, Mapping[str, str]] = field(default_factory=dict)
    _unlisted: list[tuple[Entry, Mapping[str, str], str]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def days(self, camera: str) -> tuple[date, ...]:
        """The days to list for a camera; for "", where it is not known yet."""
        first = self.since(camera)
        return tuple(first + timedelta(n) for n in range((self.until - first).days + 1))

    def enter(self, entry: Entry, fields: Mapping[str, str]) -> tuple[str, tuple[date, ...]] | None:
        """Name and days of the camera with these fields; None where it is not to be listed.

        It is none of those asked for, or it fails: the file contradicts itself, or two claim the name.
        """
        name = entry.name(fields)
        with self._lock:
            if name not in self.entries:
                self._add(name, entry, fields)
            elif self.entries[name] is not entry or self._fields[name] != fields:
                self._fail_twice(name, entry, fields)
            days = self._windows.get(name)
            return None if days is None or name in self.failures else (name, days)

    def fail(self, entry: Entry, known: Mapping[str, str], what: str, why: str) -> None:
        """A camera, or a prefix of an entry, cannot be listed."""
        with self._lock:
            self.failures[what] = why
            self._unlisted.append((entry, known, why))

    def settle(self) -> None:
        """Let every camera fail that may have images where nothing could be listed; once all is walked."""
        for name in self.cameras:
            mine, fields = self.entries[name], self._fields[name].items()
            for entry, known, why in self._unlisted:
                if entry is mine and all(known.get(key, value) == value for key, value in fields):
                    self.failures.setdefault(name, why)

    def _add(self, name: str, entry: Entry, fields: Mapping[str, str]) -> None:
        self.entries[name], self._fields[name] = entry, fields
        if self.only and not any(fnmatchcase(name, pattern) for pattern in self.only):
            return
        try:
            self.cameras[name] = self.fleet.camera(entry, fields)
        except SettingsError as error:
            self.failures[name] = str(error)
        else:
            self._windows[name] = self.days(name)

    def _fail_twice(self, name: str, entry: Entry, fields: Mapping[str, str]) -> None:
        if name not in self._windows:
            return
        self.disputed.add(name)
        self.failures[name] = (
            f"{self.fleet.file}: line {self.entries[name].line} ({_text(self._fields[name])}) and line"
            f" {entry.line} ({_text(fields)}) both have a camera {name!r}; expected a name for each camera"
        )


def _text(fields: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in fields.items()) or "no fields"
