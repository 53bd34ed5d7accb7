"""Cameras that earlier nights know and a listing has not found: they are late, they did not vanish."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from raysvq.errors import SettingsError
from raysvq.fleet.listing.listing import Listing, named
from raysvq.fleet.night.unfinished import Noted
from raysvq.fleet.options import matches
from raysvq.fleet.planning.asked import Asked
from raysvq.fleet.planning.plan import CameraPlan
from raysvq.fleet.settings.cameras import Camera
from raysvq.fleet.settings.fleet import Entry, Fleet


def missing_cameras(fleet: Fleet, asked: Asked, listing: Listing, noted: Noted) -> Iterator[CameraPlan]:
    """A plan without work for each camera that is known and was not listed.

    One without an image for longer than `catch_up_days` is given up, and so is one that fleet.yaml has no
    entry for any more.

    Args:
        noted: cameras that runs before were about to commit when they were killed.
    """
    oldest = asked.night - timedelta(days=fleet.catch_up_days)
    fields = {name: night.fields for name, night in asked.before.items()} | dict(noted)
    for name, of_camera in fields.items():
        if name in listing.cameras or not matches(name, asked.only):
            continue
        night = asked.before.get(name)
        seen = night.last_image.astimezone(fleet.timezone).date() if night and night.last_image else None
        entry = fleet.entry_of(name, of_camera)
        if entry is None:
            continue
        failure = _failure(entry, name, listing)
        if seen and seen < oldest and not failure and name not in noted:
            continue
        try:
            camera = fleet.camera(entry, of_camera)
        except SettingsError as error:
            model = (night.model if night else None) or ""
            camera = Camera(name, tuple(of_camera.items()), model, routes=tuple(fleet.routes))
            failure = str(error)
        yield CameraPlan(camera, version=asked.known.get(name, 0), failure=failure)


def _failure(entry: Entry, name: str, listing: Listing) -> str | None:
    """Why a camera was not found, as far as its listing says: of itself, or of a prefix of its entry."""
    root = entry.template.root
    for what, why in listing.failures.items():
        if what == name:
            return why
        if what not in listing.cameras and (what == root or what.startswith(f"{root}/")):
            return f"not found; {named(what, why)}"
    return None
