"""What is done of some images: their newest committed rows, from the id index.

The cost is that of the images' own folders: of commits about other folders only footers are read. Ids that
are lost or damaged, and those of records of format 1, which have none, are made again from the result files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raysvq.results.format import IDS, SCHEMAS, Commit, File, Files
from raysvq.results.ids import SCHEMA, DamagedError, Hashes, fetch, folder_sql, may_hold
from raysvq.results.log import Snapshot
from raysvq.results.reconcile import rebuild_ids
from raysvq.storage import join, read_bytes, write_bytes
from raysvq.tables import database

READERS = 16  # ids files asked for at once

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
copy (select lower(hex(image_id)) as image_id, * exclude (image_id) from ({NEWEST.format(rows="matched")}))
to $path (format parquet)
"""


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
    with database(folder, matched=[matched]) as connection:
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
    found: list[Path] = []
    lost: list[Commit] = []
    indexed = [commit for commit in snapshot.commits if commit.version]
    with ThreadPoolExecutor(READERS) as pool:

        def ask(commit: Commit, number: int) -> Path | DamagedError | None:
            path = folder / f"ids-{commit.version}-{number}.parquet"
            return _fetched(snapshot.scores, commit.ids[number], wanted, path)

        asked = [
            (commit, [pool.submit(ask, commit, number) for number in range(len(commit.ids))])
            for commit in indexed
        ]
        for commit, answers in asked:
            local = [answer.result() for answer in answers]
            damages = [answer for answer in local if isinstance(answer, DamagedError)]
            if not damages and sum(file.rows for file in commit.ids) == commit.rows:
                found += [path for path in local if isinstance(path, Path)]
                continue
            why = damages[0] if damages else f"{snapshot.scores}: ids of version {commit.version} are not all"
            print(f"{why}; made again from the result files", flush=True)
            lost.append(commit)
            for path in local:
                if isinstance(path, Path):
                    path.unlink()
    earliest = tuple(commit for commit in snapshot.commits if not commit.version)
    blocks = [(0, replace(snapshot, commits=earliest))] if earliest else []
    blocks += [(commit.version, replace(snapshot, commits=(commit,))) for commit in lost]
    for version, block in blocks:
        found += _rebuilt(snapshot, version, block, wanted, folder, mend)
    return found


def _fetched(scores: str, file: File, wanted: Hashes, path: Path) -> Path | DamagedError | None:
    try:
        if not may_hold(scores, file, wanted):
            return None
        fetch(scores, file, path)
    except DamagedError as error:
        return error
    return path


def _rebuilt(
    snapshot: Snapshot, version: int, block: Snapshot, wanted: Hashes, folder: Path, mend: bool
) -> list[Path]:
    """Ids of the rows of some commits, as they were made again before, or are now."""
    files = rebuild_source(snapshot, block)
    key = hashlib.sha256(f"{version}:{sorted(files_names(files))}".encode()).hexdigest()[:16]
    uri = join(snapshot.scores, IDS, f"rebuilt-{key}.json")
    local = folder / f"rebuilt-{version}"
    try:
        ids = [File.from_json(values) for values in json.loads(read_bytes(uri))["ids"]]
        paths = [folder / f"rebuilt-{version}-{number}.parquet" for number in range(len(ids))]
        answers = [
            _fetched(snapshot.scores, file, wanted, path) for file, path in zip(ids, paths, strict=True)
        ]
        if not any(isinstance(answer, DamagedError) for answer in answers):
            return [path for path in answers if isinstance(path, Path)]
    except (FileNotFoundError, ValueError, KeyError):
        pass
    if version == 0:
        print(f"{snapshot.scores}: listing the images of records of an earlier format", flush=True)
    target = snapshot.scores if mend else str(local)
    made = rebuild_ids(snapshot.scores, files, version, folder, target, f"rebuilt-{key}")
    if mend:
        write_bytes(uri, json.dumps({"ids": [file.to_json() for file in made]}).encode())
    paths = []
    for number, file in enumerate(made):
        paths.append(folder / f"rebuilt-{version}-{number}.parquet")
        fetch(target, file, paths[-1])
    return paths


def rebuild_source(snapshot: Snapshot, block: Snapshot) -> Files:
    """The files that now hold the rows of some of the snapshot's commits."""
    current = {file.name: file for kind in SCHEMAS for file in snapshot.files(kind)}
    found: Files = {}
    for kind in SCHEMAS:
        own = block.commits[0].files[kind] if block.commits[0].version else block.files(kind)
        names = {snapshot.current_name(file.name) for file in own}
        found[kind] = [current[name] for name in sorted(name for name in names if name in current)]
    return found


def files_names(files: Files) -> list[str]:
    """Of all kinds."""
    return [file.name for some in files.values() for file in some]
