"""Entries of the ledger, from what is committed: the score and reject rows of a camera's commits.

Every table has rows of one commit, and earlier commits come first: where the ledger has one row of a commit,
it so has all rows of the commits before it.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from functools import partial
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from raysvq.errors import DataError
from raysvq.ledger.records import ENTRIES, SCORED
from raysvq.results import Commit, Snapshot, read_snapshot
from raysvq.results.commit_log import read_record, record_uri
from raysvq.results.format import SCHEMAS, File
from raysvq.results.ids import SCHEMA as IDS_SCHEMA
from raysvq.results.ids import DamagedError, fetch
from raysvq.results.writer import read_file
from raysvq.schema import SOURCE_FIELDS
from raysvq.storage import filesystem, join, patiently, read_bytes
from raysvq.tables import database

READERS = 16  # result files read at once
SMALL = 4 * 2**20  # bytes of a file that is read in one request
TABLE_ROWS = 65_536  # of a table, about

_DATE = re.compile(r"/date=(\d{4}-\d{2}-\d{2})/")
_KINDS = ("scores", "rejects")
_COLUMNS = [
    *(field.name for field in SOURCE_FIELDS),
    *("is_anomalous", "model_version", "model_digest", "settings_digest", "policy", "decisions_digest"),
    *("run_id", "reason"),
]
_LATER = """
copy (
    select lower(hex(image_id)) as image_id, version::bigint as version, file from ids where version > $known
) to $path (format parquet)
"""
_ROWS = """
select r.* exclude (version), l.version from rows r join later l on l.image_id = r.image_id
where l.version = ? order by r.image_id
"""


def entries_of_commit(camera: str, scores: str, version: int) -> Iterator[pa.Table]:
    """Rows of ENTRIES for `append_entries`: the images of one commit, some thousands at a time.

    Args:
        scores: the camera's score directory.

    Raises:
        DataError: the record, or a file that it names, is gone or damaged.
        StorageError: the store does not answer.
    """
    uri = record_uri(scores, version)
    try:
        commit = read_record(uri)
    except FileNotFoundError:
        raise DataError(f"{uri} is gone, which was committed just now; put it back") from None
    if commit is None:
        raise DataError(f"{uri} is damaged: it is no whole JSON")
    yield from _own_rows(camera, scores, commit)


def entries_since(camera: str, scores: str, known: int) -> Iterator[pa.Table]:
    """Rows of ENTRIES: the images of all commits after version `known`, the earliest commit first.

    Raises:
        DataError: a record, or a file that it names, is gone or damaged.
        StorageError: the store does not answer.
    """
    snapshot = read_snapshot(scores)
    for commit in snapshot.commits:
        if commit.complete:  # holds the rows of all commits before it, and none of its own
            if commit.version - 1 > known:
                yield from _indexed_rows(camera, snapshot, commit, known)
        elif commit.version > known:
            names = {file.name for kind in _KINDS for file in commit.files[kind]}
            if names.isdisjoint(snapshot.replaced):
                yield from _own_rows(camera, scores, commit)
            else:
                yield from _indexed_rows(camera, snapshot, commit, commit.version - 1)


def _own_rows(camera: str, scores: str, commit: Commit) -> Iterator[pa.Table]:
    """The rows of the files that a commit has added."""
    files = [file for kind in _KINDS for file in commit.files[kind]]
    times = _times([commit])
    waiting: list[pa.Table] = []
    for table in _tables(camera, scores, files):
        waiting.append(_dated(table, times, commit.version))
        if sum(each.num_rows for each in waiting) >= TABLE_ROWS:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def _indexed_rows(camera: str, snapshot: Snapshot, commit: Commit, known: int) -> Iterator[pa.Table]:
    """The rows after version `known` that a commit's ids name, from the files that hold them now."""
    scores, times = snapshot.scores, _times(snapshot.commits)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ids, later, rows = [], folder / "later.parquet", folder / "rows.parquet"
        for number, file in enumerate(commit.ids):
            if _newest_in(scores, file) <= known:
                continue
            ids.append(folder / f"ids-{number}.parquet")
            try:
                fetch(scores, file, ids[-1])
            except DamagedError as error:
                raise _lost(scores, str(error)) from None
        if not ids:
            return
        with database(folder, ids=ids) as connection:
            connection.execute(_LATER, {"path": str(later), "known": known})
        with database(folder, later=[later]) as connection:
            named = connection.execute("select distinct file from later").fetchall()
            found = connection.execute("select distinct version from later order by 1").fetchall()
        current = {snapshot.current_name(name) for (name,) in named}
        files = [file for kind in _KINDS for file in snapshot.files(kind) if file.name in current]
        with pq.ParquetWriter(rows, ENTRIES, compression="zstd") as writer:
            for table in _tables(camera, scores, files):
                writer.write_table(table)
        for (version,) in found:
            with database(folder, later=[later], rows=[rows]) as connection:
                reader = connection.sql(_ROWS, params=[version]).to_arrow_reader(TABLE_ROWS)
                for batch in reader:
                    yield _dated(pa.Table.from_batches([batch]), times, version)


def _newest_in(scores: str, file: File) -> int:
    """The newest version in an ids file, from its footer alone."""
    uri = join(scores, file.name)

    def footer() -> pq.FileMetaData:
        fs, path = filesystem(uri)
        with pq.ParquetFile(path, filesystem=fs) as opened:
            return opened.metadata

    try:
        found = patiently(uri, footer)
    except (FileNotFoundError, pa.ArrowException) as error:
        raise _lost(scores, f"{uri} is damaged or gone ({error})") from None
    column = IDS_SCHEMA.get_field_index("version")
    groups = [found.row_group(number).column(column).statistics for number in range(found.num_row_groups)]
    return max((group.max for group in groups), default=0)


def _lost(scores: str, why: str) -> DataError:
    return DataError(f"{why}; `raysvq compact {scores}` makes the id index again")


def _times(commits: Iterable[Commit]) -> Mapping[str, datetime]:
    """Id of a run that scored rows -> when they were committed."""
    return {
        run_id: datetime.fromisoformat(run.created_at)
        for commit in commits
        for run in commit.runs
        for run_id in run.run_ids
    }


def _dated(table: pa.Table, times: Mapping[str, datetime], version: int) -> pa.Table:
    """With the version of the commit, and its time: that of the newest where the run's own is not known."""
    newest = max(times.values())
    committed = [times.get(run_id, newest) for run_id in table["run_id"].to_pylist()]
    values = {"version": pa.array([version] * table.num_rows), "committed_at": pa.array(committed)}
    columns = [values.get(field.name, table[field.name]).cast(field.type) for field in ENTRIES]
    return pa.Table.from_arrays(columns, schema=ENTRIES)


def _tables(camera: str, scores: str, files: Iterable[File]) -> Iterator[pa.Table]:
    """The rows of result files as entries, without a version."""
    left = iter(files)
    with ThreadPoolExecutor(READERS) as pool:
        while some := list(islice(left, READERS)):
            yield from pool.map(partial(_read, camera, scores), some)


def _read(camera: str, scores: str, file: File) -> pa.Table:
    kind = file.name.partition("/")[0]
    wanted = [name for name in _COLUMNS if name in SCHEMAS[kind].names]
    try:
        if file.size_bytes is not None and file.size_bytes <= SMALL:
            content = pa.BufferReader(read_bytes(join(scores, file.name)))
            table = pq.ParquetFile(content).read(wanted)
        else:
            table = read_file(scores, file, wanted)
    except FileNotFoundError:
        raise DataError(f"{join(scores, file.name)} is gone, which a commit record names") from None
    except pa.ArrowException as error:
        raise DataError(f"{join(scores, file.name)} is damaged: {error}") from None
    found = _DATE.search(file.name)
    return _as_entries(table, camera, date.fromisoformat(found[1]) if found else None)


def _as_entries(table: pa.Table, camera: str, day: date | None) -> pa.Table:
    rows = table.num_rows
    fixed = {
        "camera": pa.array([camera] * rows, pa.string()),
        "date": pa.array([day] * rows, pa.date32()),
        "outcome": table["reason"] if "reason" in table.schema.names else pa.array([SCORED] * rows),
        "version": pa.array([0] * rows, pa.int64()),
        "committed_at": pa.array([datetime.min] * rows, ENTRIES.field("committed_at").type),
    }
    names = table.schema.names
    columns = [
        fixed[field.name]
        if field.name in fixed
        else table[field.name]
        if field.name in names
        else pa.nulls(rows, field.type)
        for field in ENTRIES
    ]
    return pa.Table.from_arrays(
        [column.cast(field.type) for column, field in zip(columns, ENTRIES, strict=True)], schema=ENTRIES
    )
