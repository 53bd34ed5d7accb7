"""What `fleet.yaml` finds: camera by camera the images of a few days, the model, and what does not fit.

Nothing is scored or written. A camera's first image and its model are read as a run would read them.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from raysvq.data.sources.names import printable
from raysvq.errors import RaysvqError
from raysvq.fleet.listing.listing import Listing, list_fleet, named
from raysvq.fleet.settings.cameras import Camera
from raysvq.fleet.settings.fleet import Fleet
from raysvq.fleet.settings.template import Segment, match
from raysvq.fleet.views.columns import aligned
from raysvq.imaging.decode import DecodeError, image_size
from raysvq.scoring.request import Models, Request
from raysvq.storage import ObjectInfo, configure, join, list_folder, read_bytes
from raysvq.tables import database

_READ_AT_ONCE = 16
_LOOKED_AT = 10_000  # names in the folder of a camera without images
_FIRST = "select camera, arg_min(uri, (date, uri)) from listed group by camera"
_HEAD = ("camera", "images", "model", "first image")


@dataclass(frozen=True)
class CameraCheck:
    """What was found of a camera."""

    camera: str
    fields: dict[str, str]
    images: int  # on the days that were listed
    first: str | None  # URI of the first of them
    model: str  # as fleet.yaml names it
    model_version: str | None  # None: it cannot be used
    problems: tuple[str, ...]


@dataclass(frozen=True)
class FleetCheck:
    """What was found of a fleet."""

    fleet: str
    since: str  # first day that was listed
    until: str
    cameras: tuple[CameraCheck, ...]
    problems: tuple[str, ...]  # of prefixes whose cameras are not known
    left_out: tuple[str, ...]  # what lies there and is no image of a camera

    @property
    def is_well(self) -> bool:
        """Whether nothing was found that keeps a camera from being scored."""
        return not self.problems and not any(camera.problems for camera in self.cameras)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """As a table, with what is wrong with a camera below its line."""
        head, *rows = aligned([_HEAD, *map(_cells, self.cameras)], numbers=[1])
        yield head
        for row, camera in zip(rows, self.cameras, strict=True):
            yield row
            yield from (f"    problem: {problem}" for problem in camera.problems)
        yield from (f"problem: {problem}" for problem in self.problems)
        yield from self.left_out
        images = _count(sum(camera.images for camera in self.cameras), "image")
        wrong = sum(bool(camera.problems) for camera in self.cameras) + len(self.problems)
        yield (
            f"{self.fleet}: {_count(len(self.cameras), 'camera')}, {images} of {self.since} to {self.until},"
            f" {_count(wrong, 'problem')}"
        )


def check_fleet(fleet: Fleet, since: date, until: date, only: Sequence[str] = ()) -> FleetCheck:
    """List some days of a fleet, and try what a run would need of each camera.

    Args:
        only: patterns of camera names; none: all.
    """
    configure(fleet.settings.storage)
    with tempfile.TemporaryDirectory() as name:
        listing = list_fleet(fleet, lambda camera: since, until, Path(name), only)
        with database(Path(name), listed=[listing.path]) as connection:
            first: dict[str, str] = dict(connection.execute(_FIRST).fetchall())
    models = usable_models(fleet, listing.cameras)

    def check(camera: Camera) -> CameraCheck:
        name, model = camera.name, models[camera.name]
        problems = [listing.failures[name]] if name in listing.failures else []
        problems += [model] if isinstance(model, str) else []
        if name in first:
            problems += _problems_of_image(first[name], model)
        elif name not in listing.failures:
            problems += _why_empty(fleet, camera, since, until)
        version = None if isinstance(model, str) else model.bundle.model_version
        images = listing.images[name]
        return CameraCheck(
            name, dict(camera.fields), images, first.get(name), camera.model, version, tuple(problems)
        )

    with ThreadPoolExecutor(_READ_AT_ONCE) as pool:
        cameras = tuple(pool.map(check, (camera for _, camera in sorted(listing.cameras.items()))))
    return FleetCheck(
        fleet.name, f"{since}", f"{until}", cameras, _unknown(listing), tuple(listing.skips.lines())
    )


def usable_models(fleet: Fleet, cameras: Mapping[str, Camera]) -> dict[str, Request | str]:
    """What each camera is scored with, or why it cannot be: its model, mask or decision cannot be used.

    Each is opened once.
    """
    models = Models(fleet.settings)
    tried: dict[object, Request | str] = {}
    found: dict[str, Request | str] = {}
    for name, camera in cameras.items():
        what = camera.model, camera.region, camera.decision
        if what not in tried:
            try:
                tried[what] = models.request(
                    camera.model, camera.folder(fleet.out), camera.region, camera.decision
                )
            except (RaysvqError, OSError) as error:
                tried[what] = str(error)
        model = found[name] = tried[what]
        group_by = None if isinstance(model, str) else model.decisions.group_by
        if group_by and group_by not in dict(camera.fields):
            fields = ", ".join(dict(camera.fields))
            found[name] = (
                f"model {camera.model} decides by `{group_by}`, which is no field of the template; fields are"
                f" {fields}"
            )
    return found


def _problems_of_image(uri: str, model: Request | str) -> list[str]:
    try:
        height, width = image_size(read_bytes(uri))
    except (DecodeError, OSError) as error:
        return [f"{uri} cannot be read: {error}"]
    if isinstance(model, str):
        return []
    tiles = model.bundle.settings.tiles
    if tiles.mode == "whole" or min(height, width) >= tiles.size:
        return []
    return [
        f"{uri} has {width} x {height} pixels, less than a tile of its model {model.model} ({tiles.size} x"
        f" {tiles.size}); expected a model of smaller tiles, or of whole images"
    ]


def _why_empty(fleet: Fleet, camera: Camera, since: date, until: date) -> list[str]:
    """What is in the folder in which dates were looked for."""
    entry = fleet.entry_of(camera.name, dict(camera.fields))
    if entry is None or not entry.template.codes or entry.template.dates_first:
        return []
    folder, known = entry.template.root, dict(camera.fields)
    for segment in entry.template.segments:
        texts = [known.get(token.key) if token.key else token.text for token in segment]
        if None in texts or any(token.pattern and not token.key for token in segment):
            return [_found_instead(folder, segment, known, since, until)]
        folder = join(folder, "".join(map(str, texts)))
    return []


def _found_instead(folder: str, segment: Segment, known: Mapping[str, str], since: date, until: date) -> str:
    """A sentence on a folder in which nothing is of the days that are listed."""
    template = "".join(token.text for token in segment)
    last: str | None = None
    fits = False
    try:
        for each in itertools.islice(list_folder(folder, problems=lambda uri, why: None), _LOOKED_AT):
            uri = each.uri if isinstance(each, ObjectInfo) else each.removesuffix("/")
            name = uri.rpartition("/")[2]
            now = match(segment, name, known) is not None
            if now or not fits:
                last, fits = name, now
    except RaysvqError as error:
        return str(error)
    what = f"no image from {since} to {until}: "
    if last is None:
        return f"{what}nothing is in {folder}"
    if fits:
        return f"{what}the last name in {folder} that fits {template} is {printable(last)}"
    return f"{what}in {folder} nothing fits {template}, such as {printable(last)}"


def _unknown(listing: Listing) -> tuple[str, ...]:
    failures = sorted(listing.failures.items())
    return tuple(named(name, why) for name, why in failures if name not in listing.cameras)


def _cells(camera: CameraCheck) -> tuple[str, ...]:
    first = printable(camera.first) if camera.first else "-"
    return printable(camera.camera), f"{camera.images:,}", camera.model_version or camera.model, first


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"
