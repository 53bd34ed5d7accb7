"""Merging small result files, so that reading and starting stay cheap however many runs there were.

It merges the small files of each kind and partition, and their ids, and publishes one complete record: what
counts, and what earlier records say of their runs. Rows stay as they are. A reader that opened before reads
the old files, which stay for the grace time; one that opens after reads the new ones, with the same rows.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pyarrow as pa

from raysvq import log
from raysvq.results import ids
from raysvq.results.commit_log import Snapshot, publish
from raysvq.results.done import NEWEST, rebuilt_ids
from raysvq.results.expire import MERGED, Expired, find_expired, remove_expired, store_time
from raysvq.results.format import COMMITS, SCHEMAS, Commit, File, Files, Json, count_rows
from raysvq.results.reader import read_results
from raysvq.results.reconcile import rebuild_ids, spool_joined, write_sorted
from raysvq.results.writer import file_batches, spooled
from raysvq.storage import file_infos, join, require_put_if_absent
from raysvq.tables import database

TARGET_BYTES = 128 * 2**20  # of a merged file; files of less than half of it are merged
WORKERS = 4  # files read, and written, at once

_MOVED = """
select r.* exclude (file, maps_file, rescored), false as rescored, coalesce(f.new, r.file) as file,
case when m.old is null then r.maps_file else m.new end as maps_file
from ({newest}) r left join moved f on f.old = r.file left join moved m on m.old = r.maps_file
where f.old is null or f.new is not null
"""


@dataclass(frozen=True)
class Compaction:
    """What a compaction does, or would do."""

    snapshot: Snapshot
    groups: tuple[tuple[File, ...], ...]  # small files that belong together
    expired: Expired
    grace: timedelta
    version: int = 0  # of the record published; 0: none
    merged: int = 0  # files that came of the groups

    @property
    def needs_record(self) -> bool:
        """Whether readers would gain by a new record, or leftovers are to go.

        A run that wrote those and has stalled since must not commit them once they are gone; the new record
        takes its number.
        """
        return bool(self.groups or self.expired.leftovers or not self.snapshot.commits[-1].complete)

    def lines(self) -> Iterator[str]:
        """As people read it."""
        files = sum(map(len, self.groups))
        gone = len(self.expired.files) + len(self.expired.leftovers)
        if self.version:
            yield f"merged {files} files into {self.merged}"
            yield f"version {self.version} is complete: readers need no record before it"
        elif self.needs_record:
            yield f"{files} small files are to be merged, in {len(self.groups)} kinds and partitions"
        elif not (gone or self.expired.records):
            yield f"nothing to do: {self.snapshot.scores} is compact"
            return
        yield (
            f"{gone} files of {self.expired.size_bytes / 1e6:,.1f} MB and {len(self.expired.records)} records"
            f" were replaced or left behind more than {self.grace.total_seconds() / 3600:g} h ago"
        )


def plan_compaction(
    scores: str, grace: timedelta, target: int = TARGET_BYTES, now: datetime | None = None
) -> Compaction:
    """Look at what `compact` would do; changes nothing.

    Args:
        now: by the store's clock; None takes this machine's.

    Raises:
        DataError: no scoring run has finished there.
        StorageError: the store does not answer.
    """
    snapshot = read_results(scores)
    expired = find_expired(snapshot, grace, now or datetime.now(UTC), snapshot.version + 1)
    return Compaction(snapshot, tuple(_groups(snapshot, target)), expired, grace)


def compact(
    scores: str, grace: timedelta, require_held: Callable[[], None], target: int = TARGET_BYTES
) -> Compaction:
    """Merge small files, publish a complete record, remove what is older than the grace time.

    Killed at any instant, readers see the same rows, and the next one does the rest.

    Args:
        require_held: raises where another run may have taken the folder over.
        target: bytes of a merged file.

    Raises:
        DataError: no scoring run has finished there, or one has committed meanwhile.
        StorageError: the store does not answer, or may not be written.
    """
    plan = plan_compaction(scores, grace, target, store_time(join(scores, COMMITS)))
    if not plan.needs_record:
        remove_expired(scores, plan.expired)
        return plan
    require_put_if_absent(scores)
    snapshot = plan.snapshot
    files = {kind: {file.name: file for file in snapshot.files(kind)} for kind in SCHEMAS}
    moved: dict[str, str] = {}
    merged = 0
    with ThreadPoolExecutor(WORKERS) as pool:
        for made in pool.map(partial(_merge, scores, target, snapshot.version + 1), plan.groups):
            for file, olds in made:
                merged += 1
                of_kind = files[file.name.partition("/")[0]]
                moved |= {old.name: file.name for old in olds}
                for old in olds:
                    del of_kind[old.name]
                of_kind[file.name] = file
    current: Files = {kind: [some[name] for name in sorted(some)] for kind, some in files.items()}
    commit = Commit(
        version=snapshot.version + 1,
        runs=tuple(snapshot.runs),
        partition_by=snapshot.partition_by,
        files=current,
        ids=_merged_ids(snapshot, current, moved),
        settings=_settings(snapshot),
        complete=True,
    )
    require_held()
    publish(scores, commit)
    after = read_results(scores)
    expired = find_expired(after, grace, store_time(join(scores, COMMITS)), after.version)
    remove_expired(scores, expired)
    return Compaction(snapshot, plan.groups, expired, grace, commit.version, merged)


def _settings(snapshot: Snapshot) -> Json:
    """Settings by their digest, of the newest run that had them."""
    found: Json = {}
    for commit in snapshot.commits:
        each = commit.settings
        found |= each if commit.complete else {run.settings_digest: each for run in commit.runs}
    return found


def _groups(snapshot: Snapshot, target: int) -> Iterator[tuple[File, ...]]:
    """Two or more small files each, of one kind and partition."""
    for kind in SCHEMAS:
        small: defaultdict[str, list[File]] = defaultdict(list)
        files = snapshot.files(kind)
        for file, size in zip(files, _sizes(snapshot.scores, files), strict=True):
            if size < target // 2:
                small[file.name.rpartition("/")[0]].append(file)
        yield from (tuple(some) for some in small.values() if len(some) > 1)


def _sizes(scores: str, files: list[File]) -> list[int]:
    """In bytes; records of format 1 have none."""
    unknown = [join(scores, file.name) for file in files if file.size_bytes is None]
    asked = {
        uri: info.size_bytes if info else 0 for uri, info in zip(unknown, file_infos(unknown), strict=True)
    }
    return [asked[join(scores, file.name)] if file.size_bytes is None else file.size_bytes for file in files]


def _merge(scores: str, target: int, version: int, group: tuple[File, ...]) -> list[tuple[File, list[File]]]:
    """New files, each with those that it is of; one that would be alone stays."""
    made = []
    left = list(group)
    kind, folder = left[0].name.partition("/")[0], left[0].name.rpartition("/")[0]
    while len(left) > 1:
        olds: list[File] = []
        with spooled(SCHEMAS[kind]) as whole:
            while left and (whole.size_bytes < target or len(olds) < 2):
                olds.append(left.pop(0))
                for batch in file_batches(scores, olds[-1].name):
                    whole.add(batch)
            made.append((whole.put(scores, f"{folder}/{MERGED}-{version:020d}"), olds))
    return made


def _merged_ids(snapshot: Snapshot, current: Files, merged: dict[str, str]) -> tuple[File, ...]:
    """The id index of all rows, made of that of the records, else of the result files."""
    scores, version = snapshot.scores, snapshot.version + 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            found = _ids_of_ids(snapshot, merged, folder)
            if sum(file.rows for file in found) == count_rows(current):
                return found
            why = f"{scores}: its ids are not those of its rows"
        except ids.DamagedError as error:
            why = str(error)
        log.warning(f"{why}; made again from the result files")
        return rebuild_ids(scores, current, version, folder, scores, f"{version:020d}-all")


def _ids_of_ids(snapshot: Snapshot, merged: dict[str, str], folder: Path) -> tuple[File, ...]:
    """Ids files with nothing to change are kept, the others written anew.

    Raises:
        DamagedError: one is damaged inside, which shows when it is read.
    """
    scores = snapshot.scores
    moved = {old: _final(snapshot, merged, old) for old in {*merged, *snapshot.replaced}}
    kept: list[File] = []
    changed: list[tuple[File, bool]] = []  # and whether it names the right files as it is
    indexed, paths = rebuilt_ids(snapshot, folder)
    for commit in indexed:
        for file in commit.ids:
            same = not commit.replaced and not _names_any(scores, file, moved)
            if same and file.rows >= ids.MAX_ROWS // 2:
                kept.append(file)
            else:
                changed.append((file, same))
    if len(changed) == 1 and changed[0][1] and not paths:
        kept.append(changed.pop()[0])
    for number, (file, _) in enumerate(changed):
        paths.append(folder / f"ids-{number}.parquet")
        ids.fetch(scores, file, paths[-1])
    if not paths:
        return tuple(kept)
    with database(folder, rows=paths) as connection:
        connection.register("moved", pa.table({"old": list(moved), "new": list(moved.values())}, _NAMES))
        spool_joined(connection.sql(_MOVED.format(newest=NEWEST.format(rows="rows"))), folder)
    return (*kept, *write_sorted(scores, f"{snapshot.version + 1:020d}", folder))


def _names_any(scores: str, file: File, moved: dict[str, str | None]) -> bool:
    """Whether an ids file names a file that has moved, or cannot be read."""
    try:
        return not moved.keys().isdisjoint(ids.result_files(scores, file))
    except (OSError, ValueError):
        return True


_NAMES = pa.schema([pa.field("old", pa.string()), pa.field("new", pa.string())])


def _final(snapshot: Snapshot, merged: dict[str, str], name: str) -> str | None:
    current = snapshot.current_name(name)
    return None if current is None else merged.get(current, current)
