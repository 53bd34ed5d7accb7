"""Arrow tables larger than memory: streamed, copied to local files, queried with DuckDB."""

from __future__ import annotations

import atexit
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    import duckdb
    import pyarrow.dataset as ds

ROW_GROUP = 16_384  # rows
MEMORY = 192 * 2**20  # bytes that DuckDB may take; it spills the rest to disk
MEMORY_PER_ROW = 12  # bytes that it may take instead where there are more rows: spilling takes some, too


def stream(dataset: ds.Dataset, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Some columns of a dataset of Parquet files, ROW_GROUP rows in memory at a time.

    Arrow's own scan is not used: it reads up to a gigabyte ahead of a slow consumer.
    """
    for fragment in dataset.get_fragments():
        with pq.ParquetFile(fragment.path, filesystem=fragment.filesystem, pre_buffer=False) as file:
            yield from file.iter_batches(batch_size=ROW_GROUP, columns=columns, use_threads=False)


def spool_columns(rows: ds.Dataset, columns: Sequence[str], path: Path) -> None:
    """Copy some columns to a local file: DuckDB needs less memory to sort a file than a stream."""
    schema = pa.schema([rows.schema.field(name) for name in columns])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in stream(rows, list(columns)):
            writer.write_batch(pa.RecordBatch.from_arrays([batch[name] for name in columns], schema=schema))


def with_columns(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The columns of a schema; those that an earlier version did not write are null.

    Raises:
        ValueError: a column is missing that may not be null.
    """
    names = set(batch.schema.names)
    for field in schema:
        if field.name not in names and not field.nullable:
            raise ValueError(f"column {field.name} is missing")
    present = [batch.schema.field(field.name) if field.name in names else field for field in schema]
    values = [
        batch[field.name] if field.name in names else pa.nulls(batch.num_rows, field.type) for field in schema
    ]
    return pa.RecordBatch.from_arrays(values, schema=pa.schema(present))


@contextmanager
def database(folder: Path, **views: Sequence[Path]) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB connection that spills into `folder`. Its views are to be temporary ones: its own.

    Args:
        views: name of a view -> the local Parquet files that it reads.
    """
    rows = count_in(views)
    with _few_rows().cursor() if rows <= ROW_GROUP else _own(folder, rows) as connection:
        for name, paths in views.items():
            files = ", ".join(map(_quoted, paths))
            # The name of a folder above the files, such as site=north, is not read as a column.
            connection.execute(
                f"create temp view {name} as from read_parquet([{files}], union_by_name = true,"
                " hive_partitioning = false)"
            )
        yield connection


def count_in(views: Mapping[str, Sequence[Path]]) -> int:
    """Rows of all files together, from their footers."""
    return sum(pq.read_metadata(path).num_rows for paths in views.values() for path in paths)


def _own(folder: Path, rows: int) -> duckdb.DuckDBPyConnection:
    """An instance for one connection: what it may take depends on the rows."""
    import duckdb  # takes a tenth of a second and some 20 MiB, and workers need it not

    connection = duckdb.connect()
    connection.execute("set temp_directory = $folder", {"folder": f"{folder}/spill"})
    _set(connection, max(MEMORY, MEMORY_PER_ROW * rows))
    return connection


@lru_cache(maxsize=1)
def _few_rows() -> duckdb.DuckDBPyConnection:
    """An instance that all connections to few rows share: to start one takes longer than to ask it."""
    import duckdb

    connection = duckdb.connect()
    atexit.register(connection.close)
    _set(connection, MEMORY)
    return connection


def _set(connection: duckdb.DuckDBPyConnection, memory: int) -> None:
    for setting in (f"memory_limit = '{memory} bytes'", "threads = 1", "preserve_insertion_order = false"):
        connection.execute(f"set {setting}")


def _quoted(path: Path) -> str:
    """A path as a string of SQL, with the wildcards in it escaped."""
    literal = re.sub(r"([\[*?])", r"[\1]", str(path)).replace("'", "''")
    return f"'{literal}'"
