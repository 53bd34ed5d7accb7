"""A fleet, as its file says it: entries of cameras, where results go, who is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from raysvq.fleet.cameras import Camera, Route, WatchSettings
from raysvq.settings import Settings


@dataclass(frozen=True)
class Entry:
    """One entry of `cameras`: a template, under which one camera or a thousand land their images."""

    line: int  # in the file
    images: str  # the template, as it stands in the file but with an absolute path
    camera: str | None  # name of its camera, where the template has no field for it
    whole_prefix: bool  # all of it is listed every time: the template has no date
    values: Mapping[str, Any]  # defaults, and over them what the entry says


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
    settings: Settings  # sections scoring, storage and ray; the others come with each model
    watch: WatchSettings
    routes: Mapping[str, Route]  # by name
    digest: str  # of all that the file says, but for `settings.storage`

    def today(self, now: datetime) -> date:
        """The day in the fleet's time zone."""
        return now.astimezone(self.timezone).date()

    def camera(self, entry: Entry, fields: Mapping[str, str]) -> Camera:
        """The camera of an entry whose template found these values.

        Raises:
            SettingsError: what the file says of it cannot be, such as overrides that contradict each other.
        """
        raise NotImplementedError
