"""Write the fleet's page."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, tzinfo
from functools import partial
from pathlib import Path

from jinja2 import Environment

from raysvq.ledger.records import CameraNight, FleetRun
from raysvq.report.fleet.addresses import page_name, record_link
from raysvq.report.fleet.camera_page import view_camera
from raysvq.report.fleet.history import CameraHistory, histories, is_partial
from raysvq.report.fleet.overview import view_fleet
from raysvq.report.fleet.times import clock, day, duration, iso, took_s
from raysvq.report.page import environment
from raysvq.storage import join, list_objects, write_bytes

_AT_ONCE = 16  # pages that are written


def write_page(
    out: str,
    runs: Sequence[FleetRun],
    nights: Sequence[Sequence[CameraNight]],
    changed: Collection[str] | None = None,
    *,
    timezone: tzinfo = UTC,
) -> str:
    """Write the fleet's page: the overview always, a camera's own page where there is something new.

    Args:
        out: URI of the fleet's folder; the page comes into `page/` there.
        runs: the recent ones, oldest first.
        nights: the cameras' nights of the same runs.
        changed: the cameras whose pages are written; None: all. Those whose state has changed, and pages
            that are missing, are written anyway.
        timezone: of the times that are shown.

    Returns:
        The URI of the overview, `<out>/page/index.html`.

    Raises:
        StorageError: the place may not be listed or written.
    """
    cameras = histories(runs, nights)
    pages = environment(Path(__file__).parent)
    pages.filters.update(
        clock=partial(clock, zone=timezone), day=day, iso=iso, duration=duration, took=took_s
    )
    pages.filters.update(record=record_link, is_partial=is_partial)
    pages.globals.update(zone=str(timezone))
    folder = join(out, "page")
    stale = _stale(join(folder, "cameras"), cameras, changed)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for _ in pool.map(lambda camera: _write_camera(pages, folder, cameras[camera]), stale):
            pass
    index = join(folder, "index.html")
    html = pages.get_template("index.html").render(view=view_fleet(runs, cameras))
    write_bytes(index, _bytes(html))
    return index


def _stale(folder: str, cameras: Mapping[str, CameraHistory], changed: Collection[str] | None) -> list[str]:
    """The cameras whose pages are to be written."""
    if changed is None:
        return list(cameras)
    there = {found.uri.rpartition("/")[2] for found in list_objects(folder, must_exist=False)}
    return [
        camera
        for camera, history in cameras.items()
        if camera in changed or history.turned or page_name(camera) not in there
    ]


def _write_camera(pages: Environment, folder: str, history: CameraHistory) -> None:
    html = pages.get_template("camera.html").render(view=view_camera(history))
    write_bytes(join(folder, "cameras", page_name(history.camera)), _bytes(html))


def _bytes(html: str) -> bytes:
    """UTF-8; what a file's name has of other bytes becomes question marks."""
    return html.encode(errors="replace")
