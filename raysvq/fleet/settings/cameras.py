"""The cameras of a fleet: what `fleet.yaml` says of each, resolved from defaults, entry and overrides.

A camera is whatever lands images under a name of its own: a camera, a line, an asset, a route.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

from pydantic import Field, model_validator

from raysvq.fleet.settings.spans import QuietHours, Span
from raysvq.ledger.records import Level
from raysvq.settings.decision import DecisionSettings
from raysvq.settings.section import Section
from raysvq.storage import join

if TYPE_CHECKING:
    from raysvq.imaging.region import Region

_LONGEST = 120  # characters of a folder's name; file systems take 255 bytes


class Expect(Section):
    """What should arrive from a camera."""

    every: Span | None = Field(None, description="How often images arrive, such as 1d.")
    at_least: int | None = Field(
        None, ge=1, description="Images in each of these spans; without `every`, a day."
    )
    warn_after: Span | None = Field(None, description="Warn where the newest image is older, such as 36h.")
    error_after: Span | None = Field(None, description="Raise an error where it is older.")

    @model_validator(mode="after")
    def _in_order(self) -> Expect:
        if self.warn_after and self.error_after and self.warn_after > self.error_after:
            raise ValueError("warn_after is longer than error_after; expected the warning first")
        return self


class Budget(Section):
    """What a camera may cost the others."""

    max_rejected: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Share of a night's images that may be rejected for reasons outside them; beyond it the"
        " camera fails. None: `scoring.max_rejected`.",
    )
    max_seconds: float | None = Field(None, gt=0, description="Workers' seconds in a night. None: no limit.")


class Route(Section):
    """Where alerts go. The address itself is a secret and stays in the environment."""

    kind: Literal["webhook", "apprise"]
    url_env: str  # name of the environment variable with the URL
    level: Level = "warning"  # findings of this level and above
    quiet_hours: QuietHours | None = None  # in the fleet's time zone; held until they end
    repeat_after: timedelta = timedelta(days=7)  # a finding that lasts is sent again after so long
    min_runs: int = Field(1, ge=1)  # a finding is sent once so many runs in a row have shown it
    wake_for_errors: bool = False  # errors are sent in quiet hours too


class Effects(Section):
    """The smallest differences that are worth a warning, however sure they are."""

    exposure: float = Field(0.3, gt=0, description="Stops.")
    contrast: float = Field(0.5, gt=0, description="log2 of a ratio.")
    sharpness: float = Field(0.5, gt=0, description="log2 of a ratio.")
    warmth: float = Field(0.3, gt=0, description="Stops of red over blue.")
    score: float = Field(0.5, gt=0, description="Deviations among the images' scores, on a log scale.")
    codes: float = Field(0.15, gt=0, lt=1, description="Share of the code use.")
    alarm_rate: float = Field(2.0, gt=1, description="Times what is usual or promised.")
    reject_rate: float = Field(0.05, gt=0, lt=1, description="Share of the images, more than usual.")
    volume: float = Field(0.4, gt=0, lt=1, description="Share of the usual number that is missing.")


class WatchSettings(Section):
    """How cameras are watched without labels."""

    enabled: bool = Field(
        True, description="Compare each night with the model's reference and earlier nights."
    )
    min_images: int = Field(
        20, ge=2, description="Images of a night without which its distributions say nothing."
    )
    min_nights: int = Field(5, ge=3, description="Nights of a camera without which its past says nothing.")
    weeks: int = Field(4, ge=1, description="How far back a camera's own past reaches.")
    false_warnings: float = Field(
        0.01, gt=0, lt=1, description="Chance of any false warning in a night, over all cameras and signals."
    )
    error_at: float = Field(
        3.0, ge=1, description="A difference this many times the smallest in `effects` is an error."
    )
    effects: Effects = Field(Effects(), description="The smallest differences that are worth a warning.")


@dataclass(frozen=True)
class Camera:
    """A camera, resolved. Images of one camera are scored by one model into one score directory."""

    name: str
    fields: tuple[tuple[str, str], ...]  # of the template, such as (("site", "north"), ("camera", "cam-07"))
    model: str  # bundle or alias, path or URI
    region: Region | None = None  # outside it nothing is scored; None: the whole image
    decision: DecisionSettings | None = None  # None: the decisions that the model brings along
    expect: Expect = field(default_factory=Expect)
    budget: Budget = field(default_factory=Budget)
    retention_days: int | None = None  # results older than that may be removed; None: kept
    routes: tuple[str, ...] = ()  # names of the alert routes

    def folder(self, out: str) -> str:
        """The camera's score directory, below the `out` of the fleet."""
        return join(out, "cameras", folder_name(self.name))


def folder_name(camera: str) -> str:
    """A name for a folder, the same for the same camera and another for any other.

    All but letters, digits and `-_.` of ASCII is percent-encoded, and so is a dot at the start: such a folder
    would be hidden. A long name is cut, and ends in its digest.
    """
    quoted = quote(camera, safe="", errors="surrogateescape").replace("~", "%7E")
    quoted = f"%2E{quoted[1:]}" if quoted.startswith(".") else quoted
    if len(quoted) <= _LONGEST:
        return quoted
    mark = hashlib.blake2b(camera.encode(errors="surrogateescape"), digest_size=8).hexdigest()
    return f"{quoted[:_LONGEST]}~{mark}"
