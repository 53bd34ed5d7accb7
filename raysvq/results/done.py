"""What is done of some images: their newest committed rows, from the id index.

The cost is that of the images' own folders: of commits about other folders only footers are read. Ids that
are lost or damaged, and those of records of format 1, which have none, are made again from the result files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raysvq import log
from raysvq.results.commit_log import Snapshot
from raysvq.results.format import IDS, SCHEMAS, Commit, File, Files
from raysvq.results.ids import SCHEMA, DamagedError, Hashes, fetch, folder_sql, may_hold
from raysvq.results.reconcile import rebuild_ids
from raysvq.storage import join, read_bytes, write_bytes
from raysvq.tables import database

READERS = 16  # ids files asked for at once

Answer = TypeVar("Answer")

_MATCHED = """
copy (select ids.* from ids semi join (select unhex(image_id) as image_id from wanted) using (image_id))
to $path (format parquet)
"""
# Of an image's rows the one of the newest commit; most images have no second one, and no row that says so.
NEWEST = """
select r.* from {rows} r left join (
    select image_id, max(version) as version from {rows} where rescored group by image_id
) newest on newest.image_id = r.image_id where newest.image_id is null or r.version >= newest.version
"""
_DONE = f"""
copy (
    select lower(hex(image_id)) as image_id, r.* exclude (image_id) from ({NEWEST.format(rows="matched")}) r
    anti join dropped on dropped.name = r.file
) to $path (format parquet)
"""


@dataclass(frozen=True)
class _Block:
    """Commits whose ids are to be made again, together."""

    part: Snapshot
    why: str


def find_done(snapshot: Snapshot, wanted: Sequence[Path], folder: Path, mend: bool = False) -> Path:
    """Write the newest committed row of each wanted image that has one.

    Memory does not grow with the images, nor with what is committed; what does not fit goes to the folder.

    Args:
        wanted: local Parquet files with the columns `image_id` and `uri`.
        folder: a local one, for the result and what it takes to make it.
        mend: put ids that had to be made again beside the others, so that the next run has them.

    Returns:
        A Parquet file with the columns of `raysvq.results.ids.SCHEMA`, `image_id` in hexadecimal digits.

    Raises:
        DataError: ids are lost, and so are result files to make them from.
        StorageError: the store does not answer.
    """
    path = folder / "done.parquet"
    local = _local_ids(snapshot, _folders(wanted, folder), folder, mend)
    if not local:
        schema = SCHEMA.set(SCHEMA.get_field_index("image_id"), pa.field("image_id", pa.string()))
        pq.write_table(schema.empty_table(), path)
        return path
    matched = folder / "matched.parquet"
    with database(folder, ids=local, wanted=wanted) as connection:
        connection.execute(_MATCHED, {"path": str(matched)})
    # Rows whose retention has ended are in no file; that they were there counts for nothing.
    dropped = [name for name in snapshot.replaced if snapshot.current_name(name) is None]
    with database(folder, matched=[matched]) as connection:
        connection.register("dropped", pa.table({"name": pa.array(dropped, pa.string())}))
        connection.execute(_DONE, {"path": str(path)})
    for file in (matched, *local):
        file.unlink()
    return path


def _folders(wanted: Sequence[Path], folder: Path) -> Hashes:
    with database(folder, wanted=wanted) as connection:
        query = f"select distinct {folder_sql('uri')} as folder from wanted"
        found: Hashes = connection.execute(query).fetchnumpy()["folder"]
        return np.asarray(found, np.uint64)


def _local_ids(snapshot: Snapshot, wanted: Hashes, folder: Path, mend: bool) -> list[Path]:
    """Ids files, copied or made again, that may have a row about an image of these folders."""

    def ask(commit: Commit, number: int) -> Path | DamagedError | None:
        path = folder / f"ids-{commit.version}-{number}.parquet"
        return _fetched(snapshot.scores, commit.ids[number], wanted, path)

    found: list[Path] = []
    lost: list[tuple[Commit, str]] = []
    for commit, answers, problem in _asked(snapshot, ask):
        paths = [path for path in answers if isinstance(path, Path)]
        if problem:
            lost.append((commit, problem))
            for path in paths:
                path.unlink()
        else:
            found += paths
    for block in _blocks(snapshot, lost):
        found += _rebuilt(snapshot, block, wanted, folder, mend)
    return found


def rebuilt_ids(snapshot: Snapshot, folder: Path) -> tuple[list[Commit], list[Path]]:
    """Commits whose ids are whole, and local ids of the rows of the others, made again."""
    nowhere = np.array([], np.uint64)

    def ask(commit: Commit, number: int) -> bool | DamagedError:
        try:
            return may_hold(snapshot.scores, commit.ids[number], nowhere)
        except DamagedError as error:
            return error

    whole: list[Commit] = []
    lost: list[tuple[Commit, str]] = []
    for commit, _, problem in _asked(snapshot, ask):
        if problem:
            lost.append((commit, problem))
        else:
            whole.append(commit)
    paths = [
        path
        for block in _blocks(snapshot, lost)
        for path in _rebuilt(snapshot, block, nowhere, folder, mend=False, anew=True)
    ]
    return whole, paths


def _asked(
    snapshot: Snapshot, ask: Callable[[Commit, int], Answer]
) -> Iterator[tuple[Commit, list[Answer], str | None]]:
    """Each commit that has ids, what `ask` says of each of its ids files, and what is wrong with them."""
    with ThreadPoolExecutor(READERS) as pool:
        asked = [
            (commit, [pool.submit(ask, commit, number) for number in range(len(commit.ids))])
            for commit in snapshot.commits
            if commit.version
        ]
        for commit, waiting in asked:
            answers = [each.result() for each in waiting]
            yield commit, answers, _problem(snapshot, commit, answers)


def _problem(snapshot: Snapshot, commit: Commit, answers: Sequence[object]) -> str | None:
    """What is wrong with a commit's ids, in words; None where they are what its record says."""
    for answer in answers:
        if isinstance(answer, DamagedError):
            return str(answer)
    if sum(file.rows for file in commit.ids) != commit.rows:
        return f"{snapshot.scores}: ids of version {commit.version} are not all there"
    return None


def _blocks(snapshot: Snapshot, lost: list[tuple[Commit, str]]) -> list[_Block]:
    """What is to be made again: ids of the commits of format 1 together, those of the others one by one."""
    earliest = tuple(commit for commit in snapshot.commits if not commit.version)
    why = f"{snapshot.scores} has commit records of an earlier format, without ids"
    blocks = [_Block(replace(snapshot, commits=earliest), why)] if earliest else []
    return blocks + [_Block(replace(snapshot, commits=(commit,)), why) for commit, why in lost]


def _fetched(scores: str, file: File, wanted: Hashes, path: Path) -> Path | DamagedError | None:
    try:
        if not may_hold(scores, file, wanted):
            return None
        fetch(scores, file, path)
    except DamagedError as error:
        return error
    return path


def _rebuilt(
    snapshot: Snapshot, block: _Block, wanted: Hashes, folder: Path, mend: bool, anew: bool = False
) -> list[Path]:
    """Ids of the rows of some commits, as they were made again before, or are now."""
    scores, version = snapshot.scores, block.part.version
    files = _holding(snapshot, block.part)
    names = sorted(file.name for some in files.values() for file in some)
    key = hashlib.sha256(f"{version}:{names}".encode()).hexdigest()[:16]
    uri = join(scores, IDS, f"rebuilt-{key}.json")
    earlier = None if anew else _listed(uri)
    if earlier is not None:
        answers = [
            _fetched(scores, file, wanted, folder / f"rebuilt-{version}-{number}.parquet")
            for number, file in enumerate(earlier)
        ]
        if not any(isinstance(answer, DamagedError) for answer in answers):
            return [path for path in answers if isinstance(path, Path)]
    log.warning(f"{block.why}: made again from the result files")
    target = scores if mend else str(folder / "rebuilt")
    made = rebuild_ids(scores, files, version, folder, target, f"rebuilt-{key}")
    if mend:
        write_bytes(uri, json.dumps([file.to_json() for file in made]).encode())
    paths = [folder / f"rebuilt-{version}-{number}.parquet" for number in range(len(made))]
    for file, path in zip(made, paths, strict=True):
        fetch(target, file, path)
    return paths


def _listed(uri: str) -> list[File] | None:
    """Ids files that an earlier run has made again; None where there are none, or their list is cut off."""
    try:
        return [File.from_json(values) for values in json.loads(read_bytes(uri))]
    except (FileNotFoundError, ValueError):
        return None


def _holding(snapshot: Snapshot, part: Snapshot) -> Files:
    """The files that now hold the rows of some of the snapshot's commits."""
    current = {file.name: file for kind in SCHEMAS for file in snapshot.files(kind)}
    found: Files = {}
    for kind in SCHEMAS:
        own = part.commits[0].files[kind] if part.version else part.files(kind)
        names = {snapshot.current_name(file.name) for file in own}
        found[kind] = [current[name] for name in sorted(name for name in names if name in current)]
    return found
