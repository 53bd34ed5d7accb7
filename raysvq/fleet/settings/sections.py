"""Sections of `fleet.yaml`, each as it stands in the file."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, Field, model_validator

from raysvq.errors import SettingsError
from raysvq.fleet.settings.cameras import Budget, Expect, Route, WatchSettings
from raysvq.fleet.settings.spans import QuietHours, Span
from raysvq.imaging.region import Region
from raysvq.ledger.records import Level
from raysvq.settings import DecisionSettings, RaySettings, ScoringSettings, StorageSettings
from raysvq.settings.section import Section

_KEYS = ("access_key_id", "secret_access_key", "session_token")
_KEY_IN_URI = re.compile(r"\w+://[^/@]*:[^/@]*@")
_ONE_SLASH = re.compile(r"[a-z][a-z0-9+]+:/(?!/)")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _uri(uri: str) -> str:
    if _KEY_IN_URI.match(uri):
        raise ValueError("it holds a key before `@`; expected keys in the environment, never in this file")
    if _ONE_SLASH.match(uri):
        raise ValueError(f"found {uri!r}, expected two slashes behind the colon, as in s3://bucket/prefix")
    return uri


def _variable(name: str) -> str:
    if not _VARIABLE.fullmatch(name):
        raise ValueError(
            "expected the name of an environment variable that holds the URL, such as OPS_WEBHOOK"
        )
    return name


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (OSError, ValueError, LookupError):
        raise ValueError(
            f"found {name!r}, expected the name of a time zone, such as Europe/Berlin or UTC"
        ) from None
    return name


Uri = Annotated[str, Field(min_length=1), AfterValidator(_uri)]
Variable = Annotated[str, AfterValidator(_variable)]


class RegionSection(Section):
    """`region_of_interest`: outside it nothing is scored."""

    polygon: tuple[tuple[float, float], ...] = Field(
        (), description="Corners [x, y] in fractions of width and height."
    )
    mask: Uri | None = Field(None, description="An image that is white inside.")

    @model_validator(mode="after")
    def _is_a_region(self) -> RegionSection:
        try:
            Region(self.polygon, self.mask)
        except SettingsError as error:
            raise ValueError(str(error).removeprefix("region of interest: ")) from None
        return self


class CameraSection(Section):
    """What defaults, an entry and overrides may say of cameras."""

    model: Uri | None = Field(None, description="A bundle, or an alias such as models@champion.")
    decision: DecisionSettings | None = Field(
        None, description="Thresholds, fitted anew from the model's scores."
    )
    region_of_interest: RegionSection | None = Field(
        None, description="What part of the images is inspected."
    )
    expect: Expect = Field(Expect(), description="What should arrive.")
    budget: Budget = Field(Budget(), description="What a camera may cost the others.")
    retention_days: int | None = Field(None, ge=1, description="Results older than that may be removed.")
    alerts: tuple[str, ...] | None = Field(
        None, description="Names of alert routes; none given: all of them."
    )


class EntrySection(CameraSection):
    """`cameras`: an entry."""

    images: Uri = Field(description="Template of where images land.")
    camera: str | None = Field(
        None, min_length=1, description="Name, where the template has no field for it."
    )
    whole_prefix: bool = Field(False, description="List all of it every time: the template has no date.")


class OverrideSection(CameraSection):
    """`overrides`: an item."""

    match: dict[str, str] = Field(
        min_length=1, description="Field of the template -> pattern, such as cam-07*."
    )


class AlertSection(Section):
    """`alerts`: a route."""

    webhook_env: Variable | None = Field(None, description="Variable with the URL that JSON is posted to.")
    apprise_env: Variable | None = Field(None, description="Variable with a URL of apprise.")
    level: Level = Field("warning", description="Findings of this level and above.")
    quiet_hours: QuietHours | None = Field(
        None, description='In the fleet\'s time zone, such as "22:00-06:00".'
    )
    repeat_after: Span = Field(Route.model_fields["repeat_after"].default, description="When to send again.")
    min_runs: int = Field(1, ge=1, description="Runs in a row that must show a finding before it is sent.")
    wake_for_errors: bool = Field(False, description="Send errors in quiet hours too.")

    @model_validator(mode="after")
    def _one_address(self) -> AlertSection:
        if (self.webhook_env is None) == (self.apprise_env is None):
            found = "neither" if self.webhook_env is None else "both"
            raise ValueError(f"found {found} of webhook_env and apprise_env; expected one of them")
        return self

    def route(self) -> Route:
        """As alerts go."""
        kind: Literal["webhook", "apprise"] = "webhook" if self.webhook_env else "apprise"
        return Route(
            kind=kind,
            url_env=str(self.webhook_env or self.apprise_env),
            level=self.level,
            quiet_hours=self.quiet_hours,
            repeat_after=self.repeat_after,
            min_runs=self.min_runs,
            wake_for_errors=self.wake_for_errors,
        )


class JobSection(Section):
    """`settings`: those of raysvq that a run has; the others come with each model."""

    scoring: ScoringSettings = ScoringSettings()
    storage: StorageSettings = StorageSettings()
    ray: RaySettings = RaySettings()

    @model_validator(mode="before")
    @classmethod
    def _no_keys(cls, values: Any) -> Any:
        storage = values.get("storage") if isinstance(values, dict) else None
        found = [name for name in _KEYS if isinstance(storage, dict) and name in storage]
        if found:
            raise ValueError(
                f"found storage.{found[0]}; expected keys in the environment, as AWS_{found[0].upper()},"
                " never in this file"
            )
        return values


class FleetSection(Section):
    """The whole file. Cameras are validated one by one, over the defaults."""

    fleet: str = Field(min_length=1, description="Name of the fleet.")
    out: Uri = Field(description="Folder for results, ledger and page.")
    timezone: Annotated[str, AfterValidator(_zone)] = Field(
        "UTC", description="Of dates, nights and quiet hours."
    )
    lateness_days: int = Field(3, ge=0, le=366, description="How late images may arrive.")
    catch_up_days: int = Field(
        31, ge=1, le=3660, description="How far back a camera that was missed is listed."
    )
    defaults: dict[str, Any] = Field({}, description="Of all cameras.")
    cameras: tuple[dict[str, Any], ...] = Field(min_length=1, description="Where images land.")
    overrides: tuple[dict[str, Any], ...] = Field(
        (), description="Of cameras whose fields match; later ones win."
    )
    alerts: dict[str, AlertSection] = Field({}, description="Routes by name.")
    watch: WatchSettings = WatchSettings()
    settings: JobSection = JobSection()


def allowed(model: type[BaseModel], path: tuple[Any, ...]) -> list[str]:
    """The keys of the section at a path."""
    found: Any = model
    for part in path:
        inner = found.model_fields.get(part) if _is_section(found) else None
        found = _section_in(inner.annotation) if inner else found
    return list(found.model_fields)


def _section_in(annotation: Any) -> Any:
    """The section that an annotation is of: itself, or one in an optional, a dict or a tuple."""
    if _is_section(annotation):
        return annotation
    return next(filter(None, map(_section_in, getattr(annotation, "__args__", ()))), None)


def _is_section(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, Section)
