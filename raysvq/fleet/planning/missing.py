"""Cameras that earlier nights know and a listing has not found: they are late, they did not vanish."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta

from raysvq.fleet.listing.listing import Listing, named
from raysvq.fleet.night.unfinished import Noted
from raysvq.fleet.options import matches
from raysvq.fleet.planning.asked import Asked
from raysvq.fleet.planning.plan import CameraPlan
from raysvq.fleet.settings.cameras import Camera
from raysvq.fleet.settings.fleet import Fleet


def missing_cameras(fleet: Fleet, asked: Asked, listing: Listing, noted: Noted) -> Iterator[CameraPlan]:
    """A plan without work for each camera that is known and was not listed.

    One without an image for longer than `catch_up_days` is given up, and so is one that fleet.yaml has no
    entry for any more.

    Args:
        noted: cameras that runs before were about to commit when they were killed.
    """
    unlisted = {name: why for name, why in listing.failures.items() if name not in listing.cameras}
    oldest = asked.night - timedelta(days=fleet.catch_up_days)
    fields = {name: night.fields for name, night in asked.before.items()} | dict(noted)
    for name, of_camera in fields.items():
        if name in listing.cameras or not matches(name, asked.only):
            continue
        night = asked.before.get(name)
        seen = night.last_image.astimezone(fleet.timezone).date() if night and night.last_image else None
        camera = _camera(fleet, name, of_camera)
        given_up = seen and seen < oldest and not unlisted and name not in noted
        if camera is None or given_up:
            continue
        prefix, why = next(iter(unlisted.items()), ("", ""))
        failure = unlisted.get(name) or (f"not found; {named(prefix, why)}" if why else None)
        yield CameraPlan(camera, version=asked.known.get(name, 0), failure=failure)


def _camera(fleet: Fleet, name: str, fields: Mapping[str, str]) -> Camera | None:
    """As fleet.yaml has it now; None where no entry makes it."""
    entry = fleet.entry_of(name, fields)
    return fleet.camera(entry, fields) if entry else None
