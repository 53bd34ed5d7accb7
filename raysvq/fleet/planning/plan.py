"""What a night has to do: what was listed against what the ledger knows, all cameras at once.

Nothing is scored twice, whenever a run was killed: a camera's commits come before their entries in the
ledger, and where they are ahead of them, the ledger is caught up before anything is planned.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from raysvq.errors import RaysvqError
from raysvq.fleet.listing.listing import Listing
from raysvq.fleet.planning.catch_up import Versions
from raysvq.fleet.planning.joining import (
    NEW,
    REPLACED,
    RETRY,
    Joined,
    Listed,
    join_listing,
    look_at,
)
from raysvq.fleet.planning.to_score import Target, write_pending
from raysvq.fleet.planning.windows import Window
from raysvq.fleet.settings.cameras import Camera
from raysvq.ledger.entries import Entries, spool_entries
from raysvq.ledger.records import DELETED, CameraNight
from raysvq.scoring.pending import Pending
from raysvq.tables import ROW_GROUP


@dataclass(frozen=True)
class CameraPlan:
    """What one camera has to do."""

    camera: Camera
    listed: int = 0  # images in its window
    new: int = 0
    replaced: int = 0  # known, and another file now, or back after it was gone
    deleted: int = 0  # known, and gone
    retried: int = 0  # rejected before for reasons outside the image
    last_image: datetime | None = None  # when the newest of the window was taken, or written
    version: int = 0  # up to which all commits of the camera are in the ledger, as far as it was looked at
    pending: Pending | None = None  # what is to be scored; None: nothing, or not possible
    failure: str | None = None  # why something is not listed or planned; what is pending can be scored


@dataclass(frozen=True)
class NightPlan:
    """What all cameras have to do."""

    cameras: Mapping[str, CameraPlan]  # by name
    deleted: Path  # local Parquet file: rows of ENTRIES that say which images are gone

    def deletions(self) -> Iterator[pa.Table]:
        """Rows for `append_entries`."""
        with pq.ParquetFile(self.deleted) as file:
            for batch in file.iter_batches(ROW_GROUP):
                yield pa.Table.from_batches([batch])


def known_versions(history: Iterable[Iterable[CameraNight]]) -> dict[str, int]:
    """Camera -> version of its scores up to which all entries were written, by its nights."""
    found: dict[str, int] = {}
    for nights in history:
        for night in nights:
            found[night.camera] = max(found.get(night.camera, 0), night.version)
    return found


def plan_night(
    out: str,
    listing: Listing,
    since: Callable[[str], date],
    until: date,
    known: Mapping[str, int],
    group_by: Callable[[Camera], str | None],
    folder: Path,
    moved: bool = False,
) -> NightPlan:
    """Compare what was listed with the ledger, and write what is to be scored, camera by camera.

    Where a camera's commits are ahead of the ledger, as after a kill, it is caught up first. Memory does not
    grow with the images, nor with the history: entries of other dates are not looked at.

    Args:
        out: the fleet's folder.
        since: first day that was listed of a camera, by its name.
        until: last day that was listed.
        known: camera -> version of its scores up to which all entries were written, as its last nights say.
        group_by: what the model of a camera decides by, see raysvq.data.decision_group. Asked only of cameras
            with something to score; a RaysvqError that it raises is that camera's failure.
        folder: a local one, for the rows to be scored.
        moved: images may have been committed under other days than they are listed of now, as where a
            template was mended: those that seem new are looked up among the commits.

    Raises:
        DataError: a later version of raysvq wrote the ledger.
        StorageError: the ledger cannot be read or written.
    """
    listed = look_at(listing.path, folder)
    night = _Night(out, listing, listed, since, until, known, folder)
    joined = night.join()
    targets = {
        name: Target(night.folders[name], night.versions.found[name], listed.images[name])
        for name in joined.cameras()
        if name not in night.versions.failures
    }
    of_camera = lambda name: group_by(listing.cameras[name])  # noqa: E731
    pending = write_pending(joined.work, targets, of_camera, folder, moved)
    plans = {}
    for name, camera in listing.cameras.items():
        counts = joined.counts.get(name, {})
        rows = pending.get(name)
        why = str(rows) if isinstance(rows, RaysvqError) else night.versions.failures.get(name)
        plans[name] = CameraPlan(
            camera=camera,
            listed=listed.images.get(name, 0),
            new=counts.get(NEW, 0),
            replaced=counts.get(REPLACED, 0),
            deleted=counts.get(DELETED, 0),
            retried=counts.get(RETRY, 0),
            last_image=listed.last.get(name),
            version=night.versions.found.get(name, known.get(name, 0)),
            pending=None if isinstance(rows, RaysvqError) else rows,
            failure="; ".join(filter(None, (listing.failures.get(name), why))) or None,
        )
    return NightPlan(plans, joined.deleted)


class _Night:
    """The join of a night, once the ledger has all that the cameras with work have committed."""

    def __init__(
        self,
        out: str,
        listing: Listing,
        listed: Listed,
        since: Callable[[str], date],
        until: date,
        known: Mapping[str, int],
        folder: Path,
    ) -> None:
        self.out, self.listing, self.listed, self.folder = out, listing, listed, folder
        self.until, self.known = until, known
        self.since = {name: since(name) for name in listing.cameras}
        self.folders = {name: camera.folder(out) for name, camera in listing.cameras.items()}
        self.versions = Versions()

    def join(self) -> Joined:
        """Compare, see who has something to do, catch those up that are behind, and compare once more."""
        # What was never seen, and has no commit, has no entries: nothing need be read for it.
        self.versions.find({name: uri for name, uri in self.folders.items() if name not in self.known})
        entries = self._entries()
        joined = self._join(entries)
        busy = {name: self.folders[name] for name in joined.cameras()}
        self.versions.find(busy)
        seen = entries.versions
        self.versions.require(busy, {name: max(self.known.get(name, 0), seen.get(name, 0)) for name in busy})
        if not self.versions.catch_up(self.out, busy, self._complete(busy, entries)):
            return joined
        return self._join(self._entries())

    def _complete(self, names: Iterable[str], entries: Entries) -> dict[str, int]:
        """Camera -> version up to which the ledger has all entries.

        Earlier commits come first: with one row of a commit, all rows of those before it are there. Where a
        file was cut off, nothing is sure.
        """
        found = {}
        for name in names:
            days = entries.damaged
            lost = any(day is None or self.since[name] <= day <= self.until for day in days)
            found[name] = 0 if lost else max(self.known.get(name, 0), entries.versions.get(name, 0) - 1)
        return found

    def _entries(self) -> Entries:
        cameras: defaultdict[date | None, set[str]] = defaultdict(set)
        known = {name for name in self.folders if name in self.known or self.versions.found.get(name)}
        for name in known:
            for day in Window(self.since[name], self.until).dates():
                cameras[day].add(name)
            if not self.listed.images.get(name):  # all of its images may be gone, those without a date too
                cameras[None].add(name)
        for name, filed in self.listed.dates:
            if name in known:
                cameras[filed].add(name)
        path = self.folder / "entries.parquet"
        return spool_entries(self.out, cameras, path, lambda day: sorted(cameras[day]))

    def _join(self, entries: Entries) -> Joined:
        names = list(self.folders)
        cameras = pa.table(
            {
                "camera": pa.array(names, pa.string()),
                "since": pa.array([self.since[name] for name in names], pa.date32()),
                "whole": pa.array([name not in self.listing.failures for name in names], pa.bool_()),
            }
        )
        return join_listing(self.listing.path, entries.path, cameras, self.until, self.folder)
