"""A walk through the folders that templates describe, many of them listed at once.

Each folder is listed one level deep, and only for names that can fit. Days of the window are entered by name,
so that a walk costs what is in the window, whatever lies beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from datetime import date, datetime

from raysvq.data.sources.names import RESULTS, is_image, mark_of, why_left_out
from raysvq.errors import RaysvqError
from raysvq.fleet.listing.roster import Roster
from raysvq.fleet.settings.fleet import Entry
from raysvq.fleet.settings.template import Known, Segment, branches, is_day, is_known, match, start_of
from raysvq.storage import ObjectInfo, join, list_folder

AT_ONCE = 32  # folders that are listed at once
CHUNK = 2_000  # names in memory for each of them

OTHER_FOLDERS = "folders that no template fits"
OTHER_FILES = "images that no template fits"
TOO_HIGH = "files beside the folders of a template"
TOO_DEEP = "folders beside the images of a template"


@dataclass(frozen=True)
class Found:
    """An image that a template fits."""

    camera: str
    date: date | None
    info: ObjectInfo
    captured_at: datetime | None
    fields: dict[str, str]


@dataclass(frozen=True)
class LeftOut:
    """A file or folder that is no image of a camera; without a cause its ending is it."""

    uri: str
    cause: str | None


@dataclass(frozen=True)
class _Folder:
    """A folder to list, and what is known of the images in it."""

    entry: Entry
    uri: str
    depth: int  # the segment of the template that its names are to fit
    known: Known
    camera: str | None  # None: not known yet
    days: tuple[date, ...] | None  # that its images may be of; None: not known yet, or no matter

    @property
    def segment(self) -> Segment:
        return self.entry.template.segments[self.depth]

    @property
    def is_last(self) -> bool:
        return self.depth == len(self.entry.template.segments) - 1


@dataclass
class Part:
    """What a share of a folder holds."""

    images: list[Found] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    folders: list[_Folder] = field(default_factory=list)


_Content = Iterator[Found | LeftOut | _Folder]


def walk(entries: Sequence[Entry], roster: Roster) -> Iterator[Part]:
    """What lies under the templates, in no order; in memory are AT_ONCE parts of CHUNK names.

    What cannot be listed becomes a failure of the roster.
    """
    waiting: list[tuple[_Folder, _Content]] = []
    for entry in entries:
        start = _entered(_Folder(entry, entry.template.root, 0, {}, None, None), roster)
        waiting += [(start, _content(start, roster))] if start else []
    running: dict[Future[tuple[Part, bool]], tuple[_Folder, _Content]] = {}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        while waiting or running:
            while waiting and len(running) < AT_ONCE:
                task = waiting.pop()  # the deepest folder first, so that few are waiting
                running[pool.submit(_part, *task, roster)] = task
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                task = running.pop(future)
                part, ended = future.result()
                waiting += [] if ended else [task]
                waiting += [(folder, _content(folder, roster)) for folder in part.folders]
                yield part


def _part(folder: _Folder, content: _Content, roster: Roster) -> tuple[Part, bool]:
    """The next CHUNK names of a folder, and whether they were the last ones."""
    part = Part()
    try:
        for _ in range(CHUNK):
            each = next(content, None)
            if each is None:
                return part, True
            if isinstance(each, Found):
                part.images.append(each)
            elif isinstance(each, LeftOut):
                part.left_out.append(each)
            else:
                part.folders.append(each)
    except RaysvqError as error:
        roster.fail(folder.entry, folder.known, folder.camera or folder.uri, str(error))
        return part, True
    return part, False


def _content(folder: _Folder, roster: Roster) -> _Content:
    """What a folder holds: images, or folders to list in their turn."""
    days = folder.days
    if days is None and any(token.key in folder.entry.template.codes for token in folder.segment):
        days = roster.days("")
    for known, some in branches(folder.segment, folder.known, days):
        start = start_of(folder.segment, known)
        if is_known(folder.segment, known) and not folder.is_last:
            yield from _inside(folder, join(folder.uri, start), known, some, roster)
        else:
            yield from _listed(replace(folder, known=known, days=some), start, roster)


def _listed(folder: _Folder, start: str, roster: Roster) -> _Content:
    """What is in a folder under names with this start."""
    problems: list[LeftOut] = []
    marks: set[str] = set()
    for each in list_folder(folder.uri, start, lambda uri, why: problems.append(LeftOut(uri, why))):
        yield from problems
        problems.clear()
        uri = each.removesuffix("/") if isinstance(each, str) else each.uri
        name = uri.rpartition("/")[2]
        listed = f"{name}/" if isinstance(each, str) else name
        if mark := mark_of(listed):
            marks.add(mark)
        if why := RESULTS if uri == roster.fleet.out else why_left_out(listed, marks):
            yield LeftOut(uri, why)
        elif isinstance(each, ObjectInfo):
            yield from _image(folder, each, name, roster)
        elif folder.is_last:
            yield LeftOut(uri, TOO_DEEP)
        elif known := match(folder.segment, name, folder.known):
            yield from _inside(folder, uri, known, folder.days, roster)
        else:
            yield LeftOut(uri, OTHER_FOLDERS)
    yield from problems


def _inside(
    folder: _Folder, uri: str, known: Known, days: tuple[date, ...] | None, roster: Roster
) -> Iterator[_Folder]:
    """A folder in a folder, unless it is of no camera or day that is to be listed."""
    days = None if days is None else tuple(day for day in days if is_day(day, known))
    inner = _entered(replace(folder, uri=uri, depth=folder.depth + 1, known=known, days=days), roster)
    if inner:
        yield inner


def _entered(folder: _Folder, roster: Roster) -> _Folder | None:
    """A folder with its camera, once that is known; None where it is not to be listed."""
    template = folder.entry.template
    if folder.camera is None and all(name in folder.known for name in template.fields):
        entered = roster.enter(folder.entry, {name: folder.known[name] for name in template.fields})
        if entered is None:
            return None
        camera, window = entered
        days = window if folder.days is None else tuple(day for day in folder.days if day in window)
        folder = replace(folder, camera=camera, days=days if template.codes else None)
    return None if folder.days == () else folder


def _image(folder: _Folder, info: ObjectInfo, name: str, roster: Roster) -> Iterator[Found | LeftOut]:
    """A file, if it is an image of a camera and day that are to be listed."""
    template = folder.entry.template
    known = match(folder.segment, name, folder.known) if folder.is_last else None
    place = template.place_of(known, roster.fleet.timezone) if known else None
    if not is_image(name):
        yield LeftOut(info.uri, None)
    elif place is None:
        yield LeftOut(info.uri, OTHER_FILES if folder.is_last else TOO_HIGH)
    else:
        camera, days = folder.camera, folder.days
        if camera is None:
            entered = roster.enter(folder.entry, place.fields)
            if entered is None:
                return
            camera, window = entered
            days = window if days is None else tuple(day for day in days if day in window)
        if place.date is None or (days is not None and place.date in days):
            fields = {"camera": camera} if folder.entry.camera else place.fields
            yield Found(camera, place.date, info, place.captured_at, fields)
