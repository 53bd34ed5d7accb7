"""House-keeping: small files of a fleet become large ones, what is past its retention goes.

Each step leaves readers what they see, and can be done again: killed anywhere, the next house-keeping does
the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from raysvq.errors import RaysvqError
from raysvq.fleet.settings.cameras import folder_name
from raysvq.fleet.settings.fleet import Fleet
from raysvq.ledger.merge import crowded_dates, look_at_date, merge_date
from raysvq.ledger.nights import merge_nights, nights_apart, read_nights, superseded_nights
from raysvq.ledger.records import CameraNight
from raysvq.results import Snapshot, read_snapshot
from raysvq.results.compact import compact, plan_compaction
from raysvq.results.expire import Expired, find_expired, remove_expired, store_time
from raysvq.results.format import COMMITS
from raysvq.results.retention import drop_before, files_before
from raysvq.scoring.pending import NO_VALUE
from raysvq.storage import join, list_objects, remove_file

MANY_COMMITS = 16  # since a camera's last compaction, beyond which it is compacted
NIGHTS_APART = 90  # runs whose nights stay files of their own
MANY_NIGHTS = 30  # beyond them, that are worth a file for all
WORKERS = 4  # cameras at once
REMOVERS = 16  # files removed at once


@dataclass
class HouseReport:
    """What house-keeping did, or would do; numbers are of files."""

    planned: bool  # nothing was changed
    dropped: dict[str, int] = field(default_factory=dict)  # camera -> whose retention has ended
    merged: dict[str, int] = field(default_factory=dict)  # camera -> of its results
    removed: dict[str, int] = field(
        default_factory=dict
    )  # camera -> that were replaced before, and heat maps
    dates: dict[str, int] = field(default_factory=dict)  # date of the ledger -> of entries
    nights: int = 0  # runs whose nights are in one file now
    superseded: int = 0  # of the ledger, removed
    failures: dict[str, str] = field(default_factory=dict)  # camera -> why not all was done

    def lines(self) -> Iterator[str]:
        """As people read it."""
        will = "to be " if self.planned else ""
        found = [
            (self.dropped, "cameras: results past their retention, in {} files,", "dropped"),
            (self.merged, "cameras: {} small files", "merged"),
            (self.removed, "cameras: {} files that no reader needs", "removed"),
            (self.dates, "dates of the ledger: {} files of entries", "merged"),
        ]
        for counts, what, verb in found:
            if counts:
                yield f"{len(counts)} {what.format(sum(counts.values()))} {will}{verb}"
        if self.nights:
            yield f"nights of {self.nights} runs {will}put into one file"
        if self.superseded:
            yield f"{self.superseded} files of the ledger that no reader needs {will}removed"
        for camera, why in sorted(self.failures.items()):
            yield f"camera {camera}: {why}"
        if not (any(counts for counts, _, _ in found) or self.nights or self.superseded or self.failures):
            yield "nothing to do: the fleet is in order"


def keep_house(
    fleet: Fleet, grace: timedelta, require_held: Callable[[], None], plan: bool = False
) -> HouseReport:
    """Compact the cameras' scores and the ledger, and end the retention of old results.

    Killed at any instant, readers see the same rows, and the next one does the rest.

    Args:
        grace: how long files that were replaced stay, for those who read them.
        require_held: raises where another run may have taken the fleet over.
        plan: only say what it would do.

    Raises:
        DataError: a later version of raysvq wrote the ledger, or as `require_held` raises.
        StorageError: the ledger may not be read or written. What fails at one camera is in the report.
    """
    # The store's clock: a machine whose clock is wrong must not end a retention.
    now = datetime.now(UTC) if plan else store_time(join(fleet.out, "ledger"))
    house = _House(fleet, grace, require_held, now, HouseReport(plan))
    newest = {night.camera: night for nights in read_nights(fleet.out) for night in nights}
    with ThreadPoolExecutor(WORKERS) as pool:
        for _ in pool.map(house.keep_camera, newest.values()):
            pass
    house.keep_entries()
    house.keep_nights()
    return house.report


@dataclass(frozen=True)
class _House:
    fleet: Fleet
    grace: timedelta
    require_held: Callable[[], None]
    now: datetime
    report: HouseReport

    def keep_camera(self, night: CameraNight) -> None:
        """Drop, compact, remove; what fails is noted."""
        name, scores = night.camera, join(self.fleet.out, "cameras", folder_name(night.camera))
        self.require_held()
        try:
            days = retention_days(self.fleet, night)
            before = None if days is None else self.fleet.today(self.now) - timedelta(days=days)
            snapshot = read_snapshot(scores)
            if not snapshot.commits:
                return
            gone = files_before(snapshot, before) if before else []
            _count(self.report.dropped, name, len(gone))
            if gone and before and not self.report.planned:
                drop_before(scores, before, self.require_held)
                snapshot = read_snapshot(scores)
            removed = self._compact(name, snapshot)
            overlays = _old_overlays(snapshot, self._midnight(before)) if before else []
            if not self.report.planned:
                _remove(overlays)
            _count(self.report.removed, name, removed + len(overlays))
        except RaysvqError as error:
            self.report.failures[name] = str(error)

    def _compact(self, name: str, snapshot: Snapshot) -> int:
        """Merge small files where there are many commits; returns how many old ones are removed."""
        scores, planned = snapshot.scores, self.report.planned
        if len(snapshot.commits) > MANY_COMMITS:
            if planned:
                done = plan_compaction(scores, self.grace, now=self.now)
            else:
                done = compact(scores, self.grace, self.require_held)
            _count(self.report.merged, name, sum(map(len, done.groups)))
            return 0
        now = self.now if planned else store_time(join(scores, COMMITS))
        expired: Expired = find_expired(snapshot, self.grace, now, snapshot.version)
        if not planned:
            remove_expired(scores, expired)
        return len(expired.files) + len(expired.leftovers) + len(expired.records)

    def _midnight(self, day: date) -> datetime:
        return datetime(day.year, day.month, day.day, tzinfo=self.fleet.timezone)

    def keep_entries(self) -> None:
        """Merge the entries of dates that no run looks at any more, remove those that were merged before."""
        closed = self.fleet.today(self.now) - timedelta(days=self.fleet.lateness_days + 1)
        for day in crowded_dates(self.fleet.out):
            if day is not None and day >= closed:
                continue
            self.require_held()
            files = look_at_date(self.fleet.out, day)
            old = [uri for uri, since in files.superseded if (since or self.now) <= self.now - self.grace]
            if len(files.alone) > 1:
                _count(self.report.dates, str(day), len(files.alone))
                if not self.report.planned:
                    merge_date(self.fleet.out, day)
            self._remove_of_ledger(old)

    def keep_nights(self) -> None:
        """Put the nights of runs long ago into one file, remove those that were before."""
        self.require_held()
        out = self.fleet.out
        for whole, olds in superseded_nights(out):
            if (whole.mtime or self.now) <= self.now - self.grace:
                self._remove_of_ledger([info.uri for info in olds])
        found = nights_apart(out, NIGHTS_APART)
        if len(found) >= MANY_NIGHTS:
            self.report.nights = len(found)
            if not self.report.planned:
                merge_nights(out, found)

    def _remove_of_ledger(self, uris: Sequence[str]) -> None:
        self.report.superseded += len(uris)
        if not self.report.planned:
            _remove(uris)


def retention_days(fleet: Fleet, night: CameraNight) -> int | None:
    """How long the results of a camera are kept; None: for ever, also where no entry has it any more.

    Raises:
        SettingsError: what the file says of it contradicts itself.
    """
    days = [
        fleet.camera(entry, night.fields).retention_days
        for entry in fleet.entries
        if set(entry.fields) == night.fields.keys() and entry.name(night.fields) == night.camera
    ]
    return None if None in days else max((each for each in days if each is not None), default=None)


def _old_overlays(snapshot: Snapshot, before: datetime) -> list[str]:
    """Heat maps that were drawn before a time: of rows that are dropped, unless some have no date."""
    if any(f"={NO_VALUE}/" in file.name for file in snapshot.files("scores")):
        return []
    found = list_objects(join(snapshot.scores, "heatmaps"), must_exist=False)
    return [info.uri for info in found if info.mtime and info.mtime < before]


def _remove(uris: Sequence[str]) -> None:
    with ThreadPoolExecutor(REMOVERS) as pool:
        for _ in pool.map(remove_file, uris):
            pass


def _count(counts: dict[str, int], name: str, files: int) -> None:
    if files:
        counts[name] = files
