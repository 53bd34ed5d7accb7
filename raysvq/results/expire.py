"""Removing what no reader needs any more: replaced files, superseded records and ids, and leftovers.

A file is retired by the record that replaced it. It is removed once that record is older than the grace time,
by the store's own clock, so that those who opened the results before can read on for so long. Records go
last: as long as one is there, the next compaction finds what it names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from raysvq.results.commit_log import READERS, Snapshot, list_records, read_record, record_uri
from raysvq.results.format import IDS, SCHEMAS, Commit
from raysvq.results.rewrite import REWRITTEN
from raysvq.storage import ObjectInfo, file_infos, join, list_objects, remove_file, write_bytes

MERGED = "merged"  # what names of files begin with that are of several others; a version follows

_VERSION = re.compile(r"(?:^|-)(\d{20})-")  # in names of files that only the record of that number may name


@dataclass
class Expired:
    """What may be removed, as names below the score directory."""

    files: list[str] = field(default_factory=list)  # that records name
    leftovers: list[str] = field(default_factory=list)  # of runs that were killed, which no record names
    records: list[str] = field(default_factory=list)  # oldest first
    size_bytes: int = 0


def find_expired(snapshot: Snapshot, grace: timedelta, now: datetime, version: int) -> Expired:
    """What is retired, or was left behind, for longer than the grace time.

    What interrupted scoring runs have finished is none of it: another run may take it over.

    Args:
        version: of the newest record when it is removed. What was written for a later one is no leftover:
            its run may go on, and commit it.

    Raises:
        StorageError: the store does not answer.
    """
    scores = snapshot.scores
    records = _records(scores, snapshot)
    retired = _retired(records)
    current = {name for kind in SCHEMAS for name in (file.name for file in snapshot.files(kind))}
    current |= {file.name for commit in snapshot.commits for file in commit.ids}
    until = now - grace
    found = Expired()
    for folder in (*SCHEMAS, IDS):
        for info in list_objects(join(scores, folder), must_exist=False):
            name = info.uri.removeprefix(f"{scores}/")
            if name in current or retired.get(name, _mtime(info)) > until:
                continue
            if name in retired:
                found.files.append(name)
            elif (folder == IDS or _is_made_of_others(name)) and _version(name) <= version:
                found.leftovers.append(name)
            else:
                continue
            found.size_bytes += info.size_bytes
    found.records = [uri.removeprefix(f"{scores}/") for uri in _superseded(records, until)]
    return found


def remove_expired(scores: str, expired: Expired) -> None:
    """Remove it; killed at any instant, the next compaction does the rest.

    Raises:
        StorageError: something may not be removed.
    """
    for names in (expired.leftovers, expired.files):
        with ThreadPoolExecutor(READERS) as pool:
            for _ in pool.map(lambda name: remove_file(join(scores, name)), names):
                pass
    for name in expired.records:
        remove_file(join(scores, name))


def _records(scores: str, snapshot: Snapshot) -> list[tuple[str, Commit | None, datetime]]:
    """URI, content and time of all records that are there, oldest first; a damaged one has no content."""
    known = {record_uri(scores, commit.version): commit for commit in snapshot.commits if commit.version}
    numbered, unnumbered = list_records(scores)
    infos = [*unnumbered, *(numbered[number] for number in sorted(numbered) if number <= snapshot.version)]
    with ThreadPoolExecutor(READERS) as pool:
        contents = pool.map(lambda info: known.get(info.uri) or read_record(info.uri), infos)
    found = [(info.uri, commit, _mtime(info)) for info, commit in zip(infos, contents, strict=True)]
    earliest = [each for each in found if each[1] and not each[1].version]
    earliest.sort(key=lambda each: each[1].runs[0].created_at if each[1] else "")
    return [*earliest, *(each for each in found if not (each[1] and not each[1].version))]


def _retired(records: Iterable[tuple[str, Commit | None, datetime]]) -> dict[str, datetime]:
    """Names of files that count no more -> time of the record that replaced them."""
    alive: set[str] = set()
    retired: dict[str, datetime] = {}
    for _, commit, when in records:
        if commit is None:
            continue
        names = set(_names(commit))
        gone = alive - names if commit.complete else commit.replaced.keys()
        retired |= {name: when for name in gone if name not in retired}
        alive = (alive | names).difference(gone)
        for name in names:
            retired.pop(name, None)
    return retired


def _names(commit: Commit) -> Iterator[str]:
    for files in (*commit.files.values(), *commit.kept.values(), commit.ids):
        for file in files:
            yield file.name


def _superseded(records: list[tuple[str, Commit | None, datetime]], until: datetime) -> list[str]:
    """URIs of the records that a complete one follows which is as old as that, oldest first."""
    found: list[str] = []
    followed: datetime | None = None
    for uri, commit, when in reversed(records):
        if followed and followed <= until:
            found.insert(0, uri)
        if commit and commit.complete:
            followed = when
    return found


def _is_made_of_others(name: str) -> bool:
    return name.rpartition("/")[2].startswith((f"{MERGED}-", f"{REWRITTEN}-"))


def _version(name: str) -> int:
    """Of the record that a file was written for; 0 where the name has none."""
    found = _VERSION.search(name.rpartition("/")[2])
    return int(found[1]) if found else 0


def store_time(folder: str) -> datetime:
    """Now, by the store's clock.

    Raises:
        StorageError: the folder may not be written.
    """
    probe = join(folder, ".clock")
    write_bytes(probe, b"")
    (info,) = file_infos([probe])
    remove_file(probe)
    return _mtime(info) if info else datetime.now(UTC)


def _mtime(info: ObjectInfo) -> datetime:
    """When a file was written; where the store does not say, now: it is kept."""
    return info.mtime or datetime.now(UTC)
