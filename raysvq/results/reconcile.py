"""Every image once: the ids in the files just written against the rows that were to be scored."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from raysvq.errors import AccountingError, DataError
from raysvq.results.format import SCHEMAS, File, Files, count_rows
from raysvq.results.ids import folder_sql, write_ids
from raysvq.results.writer import Row, read_file
from raysvq.schema import SOURCE_FIELDS
from raysvq.storage import join
from raysvq.tables import ROW_GROUP, count_in, database

if TYPE_CHECKING:
    import duckdb

READERS = 16  # result files read at once
NAMED = 5  # images that an error names

_DIGESTS = ("model_digest", "settings_digest")
_SOURCES = [*(field.name for field in SOURCE_FIELDS), *_DIGESTS]
_WRITTEN = pa.schema(
    [
        pa.field("kind", pa.string()),
        pa.field("file", pa.string()),
        *(pa.field(name, SCHEMAS["rejects"].field(name).type) for name in (*_SOURCES, "reason")),
    ]
)

_LOST = "select image_id from pending anti join written using (image_id)"
_STRANGE = "select image_id from written anti join pending using (image_id)"
_TWICE = "select image_id from written group by image_id having count(*) > 1"
_TO_MAP = "select image_id from scored semi join pending_maps using (image_id)"
_VIEWS = """
create temp view written as from rows where kind <> 'maps';
create temp view scored as from rows where kind = 'scores';
create temp view mapped as from rows where kind = 'maps';
"""
_ROWS = """
select unhex(w.image_id) as image_id, {folder} as folder, s.size_bytes, s.etag, s.mtime, w.reason,
{model} as model_digest, {settings} as settings_digest, w.file, m.file as maps_file, {rescored} as rescored,
{version}::ubigint as version
from written w join {sources} s on s.image_id = w.image_id
left join mapped m on m.image_id = w.image_id
"""
_ORDER = "order by folder, image_id"


def require_complete(out: str, files: Files, pending: Path, folder: Path) -> None:
    """Compare the ids in a run's files with its pending rows; leaves in `folder` what `write_run_ids` needs.

    Args:
        pending: a local Parquet file: `image_id` and `keeps_map` of the images that were to be scored.

    Raises:
        AccountingError: an image or a map is missing, was written twice, or was not asked for, or a file is
            gone; some are named.
    """
    try:
        spool_written(out, files, ["image_id"], _path(folder))
    except FileNotFoundError as error:
        raise AccountingError(
            f"{error} is gone, which a finished work unit had written; nothing was committed, start the run"
            " again"
        ) from None
    with database(folder, rows=[_path(folder)], pending=[pending]) as connection:
        connection.execute(_VIEWS)
        ((images, maps),) = connection.execute("select count(*), sum(keeps_map::int) from pending").fetchall()
        found = count_rows(files)
        lost, strange = _some(connection, _LOST), _some(connection, _STRANGE)
        if found != images or lost or strange:
            raise AccountingError(
                f"{out}: {images} images to score, {found} rows written; lost {lost}, twice"
                f" {_some(connection, _TWICE)}, not in the manifest {strange}; nothing was committed"
            )
        if maps or files["maps"]:
            _require_maps(connection, out, files)


def _require_maps(connection: duckdb.DuckDBPyConnection, out: str, files: Files) -> None:
    connection.execute("create temp view pending_maps as from pending where keeps_map")
    ((maps,),) = connection.execute(f"select count(*) from ({_TO_MAP})").fetchall()
    found = sum(file.rows for file in files["maps"])
    lost = _some(connection, f"select image_id from ({_TO_MAP}) anti join mapped using (image_id)")
    if found != maps or lost:
        twice = _some(connection, _TWICE.replace("written", "mapped"))
        raise AccountingError(
            f"{out}: {maps} anomaly maps to keep, {found} written; lost {lost}, twice {twice};"
            " nothing was committed"
        )


def write_run_ids(out: str, version: int, pending: Path, folder: Path, digests: Row) -> tuple[File, ...]:
    """Write the id index of a run's rows, once they are complete.

    Args:
        version: of the record that will name the files.
        digests: of the model and the settings of all its rows.

    Raises:
        StorageError: `out` may not be written.
    """
    query = _ROWS.format(
        folder=folder_sql("s.uri"),
        sources="pending",
        rescored="s.rescored",
        version=version,
        **{name.partition("_")[0]: f"'{digests[name]}'" for name in _DIGESTS},
    )
    views = {"rows": [_path(folder)], "pending": [pending]}
    return _write_joined(out, f"{version:020d}", query, views, folder)


def rebuild_ids(
    out: str, files: Files, version: int, folder: Path, target: str, stem: str
) -> tuple[File, ...]:
    """Write an id index of result files from what is in them.

    Args:
        target: the directory to write it to; `out` itself, or a local one.

    Raises:
        DataError: a result file is gone.
        StorageError: `target` may not be written.
    """
    path = folder / f"{stem}.parquet"
    try:
        spool_written(out, files, _SOURCES, path)
    except FileNotFoundError as error:
        raise DataError(f"{error} is gone, which a commit record names; put it back") from None
    # An earlier row of its image may be in another commit's ids: for all that is known it is rescored.
    query = _ROWS.format(
        folder=folder_sql("s.uri"),
        sources="written",
        rescored="true",
        version=version,
        **{name.partition("_")[0]: f"s.{name}" for name in _DIGESTS},
    )
    return _write_joined(target, stem, query, {"rows": [path]}, folder)


def _write_joined(
    out: str, stem: str, query: str, views: dict[str, list[Path]], folder: Path
) -> tuple[File, ...]:
    """Write the rows of a query on _VIEWS as an id index."""
    with database(folder, **views) as connection:
        connection.execute(_VIEWS)
        if count_in(views) <= ROW_GROUP:
            return write_ids(out, stem, connection.sql(f"from ({query}) {_ORDER}"))
        spool_joined(connection.sql(query), folder)
    return write_sorted(out, stem, folder)


def spool_joined(rows: duckdb.DuckDBPyRelation, folder: Path) -> None:
    """Write the rows of an id index, in any order, for `write_sorted`."""
    reader = rows.to_arrow_reader(ROW_GROUP)
    with pq.ParquetWriter(_joined(folder), reader.schema, compression="zstd") as writer:
        for batch in reader:
            writer.write_batch(batch)


def write_sorted(out: str, stem: str, folder: Path) -> tuple[File, ...]:
    """Write joined rows as an id index. The join is over: with it the sort would not fit into memory."""
    with database(folder, joined=[_joined(folder)]) as connection:
        return write_ids(out, stem, connection.sql(f"from joined {_ORDER}"))


def spool_written(out: str, files: Files, columns: list[str], path: Path) -> None:
    """Copy columns of result files to a local one, with the file that each row is in and its kind.

    Raises:
        FileNotFoundError: a file is gone; the error's text is its URI.
    """
    named = iter([(kind, file) for kind in files for file in files[kind]])
    with (
        pq.ParquetWriter(path, _WRITTEN, compression="zstd") as writer,
        ThreadPoolExecutor(READERS) as pool,
    ):
        while some := list(islice(named, READERS)):
            for table in pool.map(partial(_rows, out, columns), *zip(*some, strict=True)):
                writer.write_table(table)


def _rows(out: str, columns: list[str], kind: str, file: File) -> pa.Table:
    wanted = [name for name in (*columns, "reason") if name in SCHEMAS[kind].names]
    try:
        table = read_file(out, file, wanted)
    except FileNotFoundError:
        raise FileNotFoundError(join(out, file.name)) from None
    texts = {"kind": kind, "file": file.name}
    arrays = [
        pa.array([texts[field.name]] * table.num_rows, field.type)
        if field.name in texts
        else table[field.name].cast(field.type)
        if field.name in wanted
        else pa.nulls(table.num_rows, field.type)
        for field in _WRITTEN
    ]
    return pa.Table.from_arrays(arrays, schema=_WRITTEN)


def _some(connection: duckdb.DuckDBPyConnection, query: str) -> list[str]:
    found: Iterator[tuple[str]] = iter(connection.execute(f"{query} order by 1 limit {NAMED}").fetchall())
    return [image_id for (image_id,) in found]


def _path(folder: Path) -> Path:
    return folder / "written.parquet"


def _joined(folder: Path) -> Path:
    return folder / "joined.parquet"
