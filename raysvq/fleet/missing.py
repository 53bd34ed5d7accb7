"""Cameras that earlier nights know and a listing has not found: they are late, they did not vanish."""

from __future__ import annotations

from collections.abc import Iterator

from raysvq.fleet.asked import Asked
from raysvq.fleet.cameras import Camera
from raysvq.fleet.listing import Listing
from raysvq.fleet.options import matches
from raysvq.fleet.planning import CameraPlan
from raysvq.fleet.settings import Fleet
from raysvq.ledger.records import CameraNight


def missing_cameras(fleet: Fleet, asked: Asked, listing: Listing) -> Iterator[CameraPlan]:
    """A plan without work for each camera of the last nights that was not listed.

    One without an image for longer than `catch_up_days` is given up, and so is one that fleet.yaml has no
    entry for any more.
    """
    unlisted = {name: why for name, why in listing.failures.items() if name not in listing.cameras}
    for name, night in asked.before.items():
        if name in listing.cameras or not matches(name, asked.only):
            continue
        camera = _camera(fleet, night)
        seen = night.last_image and night.last_image.astimezone(fleet.timezone).date()
        if camera is None or (not unlisted and seen and seen < asked.window.since):
            continue
        failure = unlisted.pop(name, None) or next(
            (f"it was not found; {prefix} could not be listed: {why}" for prefix, why in unlisted.items()),
            None,
        )
        yield CameraPlan(camera, version=night.version, failure=failure)


def _camera(fleet: Fleet, night: CameraNight) -> Camera | None:
    """As fleet.yaml has it now; None where no entry makes it."""
    for entry in fleet.entries:
        if set(entry.fields) == night.fields.keys() and entry.name(night.fields) == night.camera:
            return fleet.camera(entry, night.fields)
    return None
