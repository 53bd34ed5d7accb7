"""The manifest: a Parquet file with one row per image, written and read as a stream."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raysvq.errors import DataError, first_line
from raysvq.schema import MANIFEST, UNKNOWN
from raysvq.storage import ObjectInfo, filesystem, image_id, put_file
from raysvq.tables import ROW_GROUP, database, spool_columns

if TYPE_CHECKING:
    import duckdb
    import pyarrow.dataset as ds

# The schema of rows whose split is not drawn yet.
UNSPLIT = MANIFEST.set(MANIFEST.get_field_index("split"), pa.field("split", pa.string()))

_UNNAMED = "select count(*) from manifest where image_id is null or uri is null or size_bytes is null"
_REPEATED = """
select count(distinct image_id), arg_max(uri, times), max(times) from manifest join (
    select image_id, count(*) as times from manifest group by image_id having times > 1
) using (image_id)
"""

Row = dict[str, Any]
Item = TypeVar("Item")


def row_of(info: ObjectInfo, **fields: Any) -> Row:
    """The row of a file: of unknown label and without a split, unless `fields` says otherwise."""
    row: Row = dict.fromkeys(MANIFEST.names)
    row |= {"image_id": image_id(info.uri), "uri": info.uri, "size_bytes": info.size_bytes}
    row |= {"etag": info.etag, "mtime": info.mtime, "label": UNKNOWN, "meta": []}
    return row | fields


def write_manifest(rows: Iterable[Row], uri: str) -> None:
    """Write rows as one Parquet file; every row has all fields of MANIFEST.

    Raises:
        StorageError: the place cannot be written.
    """
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / "manifest.parquet"
        spool(rows, local, MANIFEST)
        put_file(local, uri)


def spool(rows: Iterable[Row], path: Path, schema: pa.Schema) -> None:
    """Write rows to a local Parquet file, one row group in memory at a time."""
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for chunk in chunks(rows, ROW_GROUP):
            writer.write_table(pa.Table.from_pylist(chunk, schema=schema))


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a local manifest file, one row group in memory at a time."""
    for batch in pq.ParquetFile(path).iter_batches(batch_size=ROW_GROUP):
        yield from batch.to_pylist()


def open_manifest(uri: str) -> ds.Dataset:
    """An Arrow dataset over a manifest; no rows are read yet.

    Raises:
        DataError: the manifest is missing, is not Parquet, or lacks a column.
    """
    import pyarrow.dataset as ds  # brings pandas where that is installed, and workers need it not

    fs, path = filesystem(uri)
    try:
        dataset = ds.dataset(path, filesystem=fs, format="parquet", partitioning=None)
    except FileNotFoundError:
        raise DataError(f"manifest {uri} does not exist; `raysvq index` makes one") from None
    except pa.ArrowInvalid as error:
        raise DataError(f"manifest {uri} is not Parquet: {first_line(error)}") from None
    except OSError as error:
        raise DataError(f"manifest {uri} cannot be read: {first_line(error)}") from None
    missing = [name for name in MANIFEST.names if name not in dataset.schema.names]
    if missing:
        raise DataError(f"manifest {uri} lacks the columns {', '.join(missing)}")
    return dataset


def select(uri: str, **values: str | Sequence[str]) -> pa.Table:
    """The rows whose columns have a given value, or one of several: split="train", label="anomalous".

    Raises:
        DataError: the manifest cannot be read.
    """
    condition = pc.scalar(True)
    for column, wanted in values.items():
        condition = condition & pc.field(column).isin([wanted] if isinstance(wanted, str) else list(wanted))
    return open_manifest(uri).to_table(filter=condition)


def chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` items, the last one shorter."""
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk


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
