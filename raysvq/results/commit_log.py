"""The log of a score directory: numbered commit records, each created once.

`_commits/<20 digits>.json` is created with put-if-absent. A run reads the log when it starts, up to version
N, and publishes N + 1: where another one has published that meanwhile, it cannot, whatever its clock or its
lease says. Records of format 1, `_commits/<run>.json`, come before the numbered ones.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

from raysvq.errors import DataError
from raysvq.results.format import COMMITS, Commit, File, RunRecord
from raysvq.storage import ObjectInfo, create_file, join, list_objects, read_bytes, remove_file, write_bytes

READERS = 16  # records read at once

_NUMBERED = re.compile(r"(\d{20})\.json")


@dataclass(frozen=True)
class Snapshot:
    """A score directory as of a version: nothing that is committed later changes what it says."""

    scores: str
    commits: tuple[Commit, ...]  # oldest first; none before the newest complete one

    @property
    def version(self) -> int:
        """Of the newest record; 0 where there is none, or none with a number."""
        return self.commits[-1].version if self.commits else 0

    @property
    def partition_by(self) -> tuple[str, ...]:
        """Folders of the results."""
        return self.commits[-1].partition_by if self.commits else ()

    @property
    def runs(self) -> list[RunRecord]:
        """All scoring runs that have finished, oldest first."""
        return [run for commit in self.commits for run in commit.runs]

    def files(self, kind: str) -> list[File]:
        """The files of a kind that count, by name."""
        written = {
            file.name: file for commit in self.commits for file in (*commit.files[kind], *commit.kept[kind])
        }
        return [written[name] for name in sorted(written.keys() - self.replaced.keys())]

    @cached_property
    def replaced(self) -> dict[str, str | None]:
        """Names of files that no longer count -> of those that hold their other rows."""
        return {old: new for commit in self.commits for old, new in commit.replaced.items()}

    def current_name(self, name: str) -> str | None:
        """Of the file that holds the rows of a file now; None where none of its rows is left."""
        found: str | None = name
        while found in self.replaced:
            found = self.replaced[found]
        return found


def record_uri(scores: str, version: int) -> str:
    """Of the record of that number."""
    return join(scores, COMMITS, f"{version:020d}.json")


def read_snapshot(scores: str) -> Snapshot:
    """The log as it is now; without a record where no run has finished.

    Raises:
        DataError: a record is missing or damaged, or a later version of raysvq has written it.
    """
    try:
        return _read_snapshot(scores)
    except FileNotFoundError:  # a compaction removed a record after it was listed; its own is there by now
        return _read_snapshot(scores)


def _read_snapshot(scores: str) -> Snapshot:
    numbered, unnumbered = list_records(scores)
    numbers = sorted(numbered)
    commits: list[Commit] = []
    expected = numbers[-1] if numbers else 0
    for number, commit in _newest_first(scores, numbers):
        if number != expected:
            break
        expected -= 1
        if commit is None:
            continue
        commits.insert(0, commit)
        if commit.complete:
            return Snapshot(scores, tuple(commits))
    if expected:
        raise DataError(f"{record_uri(scores, expected)} is missing; put it back")
    with ThreadPoolExecutor(READERS) as pool:
        earlier = [commit for commit in pool.map(read_record, [info.uri for info in unnumbered]) if commit]
    return Snapshot(scores, (*sorted(earlier, key=lambda commit: commit.runs[0].created_at), *commits))


def list_records(scores: str) -> tuple[dict[int, ObjectInfo], list[ObjectInfo]]:
    """The records that have a number, by it, and those of format 1.

    A record cut off while it was written has another ending; hidden files are network file systems' own.
    """
    numbered: dict[int, ObjectInfo] = {}
    unnumbered: list[ObjectInfo] = []
    for info in list_objects(join(scores, COMMITS), must_exist=False):
        name = info.uri.rpartition("/")[2]
        if found := _NUMBERED.fullmatch(name):
            numbered[int(found[1])] = info
        elif name.endswith(".json") and not name.startswith("."):
            unnumbered.append(info)
    return numbered, unnumbered


def publish(scores: str, commit: Commit) -> str:
    """Make a commit count: create its record, which must be the next of the log.

    Returns:
        The URI of the record.

    Raises:
        DataError: another run has committed since this one read the log; nothing is committed.
        StorageError: the record cannot be written.
    """
    uri, content = record_uri(scores, commit.version), commit.to_json()
    found = content if create_file(uri, content) else _content(uri)
    if found is not None and _parsed(found) is None:
        # Cut off: a kill can leave that where the file system has no hard links. The holder of the lease
        # replaces it.
        write_bytes(uri, content)
    mine = _content(uri) == content
    newer = max(list_records(scores)[0]) > commit.version
    if mine and not newer:
        return uri
    if newer and _is_built_on(commit, read_snapshot(scores), mine):
        return uri
    if mine:  # created where a compaction had removed the record of that number
        remove_file(uri)
    raise DataError(
        f"{scores}: another run has committed since this one read version {commit.version - 1}; nothing of"
        " this one is committed. Start it again: it takes over the work units that are finished"
    )


def _is_built_on(commit: Commit, snapshot: Snapshot, mine: bool) -> bool:
    """Whether later records follow this one, rather than another that took its number.

    Args:
        mine: whether the record of its number is this one.
    """
    if any(each.version == commit.version for each in snapshot.commits):
        return mine
    return not commit.complete and set(commit.runs) <= set(snapshot.runs)


def _content(uri: str) -> bytes | None:
    """What a record holds; None where a compaction has removed it."""
    try:
        return read_bytes(uri)
    except FileNotFoundError:
        return None


def _newest_first(scores: str, numbers: list[int]) -> Iterator[tuple[int, Commit | None]]:
    """Records by falling number; the newest is none where it was cut off."""
    falling = iter(reversed(numbers))
    with ThreadPoolExecutor(READERS) as pool:
        while some := list(itertools.islice(falling, READERS)):
            for number, commit in zip(
                some, pool.map(lambda number: read_record(record_uri(scores, number)), some), strict=True
            ):
                if commit is None and number != numbers[-1]:
                    raise DataError(f"{record_uri(scores, number)} is damaged: it is no whole JSON")
                yield number, commit


def read_record(uri: str) -> Commit | None:
    """A record; None where it was cut off while it was written, or is damaged.

    Raises:
        DataError: a later version of raysvq has written it, or it lacks a field.
    """
    values = _parsed(read_bytes(uri))
    return None if values is None else Commit.from_json(values, uri)


def _parsed(content: bytes) -> dict[str, object] | None:
    try:
        values = json.loads(content)
    except ValueError:
        return None
    return values if isinstance(values, dict) else None
