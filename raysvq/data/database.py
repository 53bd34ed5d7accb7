"""DuckDB over local files, for tables that are too large for memory."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from raysvq.data.manifest import stream
from raysvq.errors import DataError

MEMORY = "192MiB"  # that DuckDB may take; it spills the rest to disk

_UNNAMED = "select count(*) from manifest where image_id is null or uri is null or size_bytes is null"
_REPEATED = """
select count(distinct image_id), arg_max(uri, times), max(times) from manifest join (
    select image_id, count(*) as times from manifest group by image_id having times > 1
) using (image_id)
"""


def spool_columns(rows: ds.Dataset, columns: Sequence[str], path: Path) -> None:
    """Copy some columns to a local file: DuckDB needs less memory to sort a file than a stream."""
    schema = pa.schema([rows.schema.field(name) for name in columns])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in stream(rows, list(columns)):
            writer.write_batch(pa.RecordBatch.from_arrays([batch[name] for name in columns], schema=schema))


@contextmanager
def database(folder: Path, **views: Sequence[Path]) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB connection that spills into `folder`.

    Args:
        views: name of a view -> the local Parquet files that it reads.
    """
    with duckdb.connect() as connection:
        connection.execute("set temp_directory = $folder", {"folder": f"{folder}/spill"})
        for setting in (f"memory_limit = '{MEMORY}'", "threads = 1", "preserve_insertion_order = false"):
            connection.execute(f"set {setting}")
        for name, paths in views.items():
            files = ", ".join(map(_quoted, paths))
            # The name of a folder above the files, such as site=north, is not read as a column.
            connection.execute(
                f"create view {name} as from read_parquet([{files}], union_by_name = true,"
                " hive_partitioning = false)"
            )
        yield connection


def require_distinct(connection: duckdb.DuckDBPyConnection) -> None:
    """Check the view `manifest` of a database: an image with two rows would count twice.

    Raises:
        DataError: an image has several rows, or a row lacks image_id, uri or size_bytes.
    """
    ((unnamed,),) = connection.execute(_UNNAMED).fetchall()
    if unnamed:
        raise DataError(
            f"{unnamed} rows of the manifest have no image_id, uri or size_bytes; expected all three, as"
            " `raysvq index` writes them"
        )
    ((images, uri, times),) = connection.execute(_REPEATED).fetchall()
    if images:
        raise DataError(
            f"{images} images stand in the manifest more than once, such as {uri} ({times} times); expected"
            " one row per image: are manifests concatenated, or in one folder, that overlap?"
        )


def require_distinct_rows(manifest: ds.Dataset) -> None:
    """`require_distinct` for a manifest that is no view yet. Raises DataError."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "manifest.parquet"
        spool_columns(manifest, ["image_id", "uri", "size_bytes"], path)
        with database(Path(name), manifest=[path]) as connection:
            require_distinct(connection)


def _quoted(path: Path) -> str:
    """A path as a string of SQL, with the wildcards in it escaped."""
    literal = re.sub(r"([\[*?])", r"[\1]", str(path)).replace("'", "''")
    return f"'{literal}'"
