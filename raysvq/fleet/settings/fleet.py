"""A fleet, as its file says it: entries of cameras, where results go, who is told."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from fnmatch import fnmatchcase
from zoneinfo import ZoneInfo

from raysvq.fleet.settings.cameras import Camera, Route, WatchSettings
from raysvq.fleet.settings.problems import Problems
from raysvq.fleet.settings.sections import CameraSection
from raysvq.fleet.settings.template import Template
from raysvq.imaging.region import Region
from raysvq.settings import Settings
from raysvq.settings.lines import LinedDict, merged
from raysvq.storage import canonical


@dataclass(frozen=True)
class Entry:
    """One entry of `cameras`: a template, under which one camera or a thousand land their images."""

    line: int  # in the file
    template: Template
    camera: str | None  # name of its camera, where the template has no field for it
    values: LinedDict  # of CameraSection: the defaults, and over them what the entry says

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields that overrides may match."""
        return ("camera",) if self.camera else self.template.fields

    def name(self, fields: Mapping[str, str]) -> str:
        """Name of the camera whose template found these values."""
        return self.camera or ".".join(fields[name] for name in self.template.fields)


@dataclass(frozen=True)
class Override:
    """What is said of cameras whose fields match."""

    line: int
    match: Mapping[str, str]  # field -> pattern
    values: LinedDict  # of CameraSection

    def fits(self, fields: Mapping[str, str]) -> bool:
        """Whether every pattern fits its field."""
        return all(
            name in fields and fnmatchcase(fields[name], pattern) for name, pattern in self.match.items()
        )


@dataclass(frozen=True)
class Fleet:
    """A validated `fleet.yaml`."""

    file: str
    name: str
    out: str  # canonical URI of the folder that everything is written below
    timezone: ZoneInfo  # of dates in templates, of nights and of quiet hours
    lateness_days: int  # images may arrive so many days after the day they are filed under
    catch_up_days: int  # and a camera that was not listed for long is listed so many days back
    entries: tuple[Entry, ...]
    overrides: tuple[Override, ...]  # later ones win
    settings: Settings  # sections scoring, storage and ray; the others come with each model
    watch: WatchSettings
    routes: Mapping[str, Route]  # by name
    digest: str  # of all that the file says, but for `settings.storage`

    @property
    def templates_digest(self) -> str:
        """Of the templates of all entries."""
        texts = sorted(entry.template.text for entry in self.entries)
        return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]

    def today(self, now: datetime) -> date:
        """The day in the fleet's time zone."""
        return now.astimezone(self.timezone).date()

    def entry_of(self, name: str, fields: Mapping[str, str]) -> Entry | None:
        """The entry that a camera is of; None where there is none."""
        for entry in self.entries:
            if set(entry.fields) == fields.keys() and entry.name(fields) == name:
                return entry
        return None

    def camera(self, entry: Entry, fields: Mapping[str, str]) -> Camera:
        """The camera of an entry whose template found these values.

        Raises:
            SettingsError: what the file says of it cannot be, such as overrides that contradict each other.
        """
        fields = {"camera": entry.camera} if entry.camera else fields
        values = entry.values
        for override in self.overrides:
            if override.fits(fields):
                values = over(values, override.values)
        problems = Problems(self.file, line=entry.line)
        section = problems.check(CameraSection, values)
        if section and section.model is None:
            problems.add(entry.line, "`model` is missing; expected it in the defaults or the entry")
        problems.require_none()
        assert section
        assert section.model
        region, budget = section.region_of_interest, section.budget
        if budget.max_rejected is None:
            budget = budget.model_copy(update={"max_rejected": self.settings.scoring.max_rejected})
        return Camera(
            name=entry.name(fields),
            fields=tuple(fields.items()),
            model=absolute(section.model, self.file),
            region=Region(region.polygon, region.mask and absolute(region.mask, self.file))
            if region
            else None,
            decision=section.decision,
            expect=section.expect,
            budget=budget,
            retention_days=section.retention_days,
            routes=tuple(self.routes) if section.alerts is None else section.alerts,
        )


def over(below: LinedDict, above: LinedDict) -> LinedDict:
    """What is said of cameras, over what was said of them before: key by key, but for regions of interest."""
    return merged(below, above, whole=("region_of_interest",))


def absolute(uri: str, file: str) -> str:
    """A URI or absolute path as it is, any other from the folder of a file, which may be a URI."""
    path = os.path.expanduser(uri)
    return uri if "://" in uri else os.path.join(os.path.dirname(canonical(file)), path)
