"""The id index: which images the rows of a commit are about, and in which files those rows are.

Each record names its ids files, which are written before it: one row for each of its score and reject rows.
They are sorted by folder, the part of a URI up to its last `/`. A file's metadata has the hashes of all its
folders, so that a run opens only files with folders that its manifest has: an image is its URI, so one in
another folder is another image. Where a file has too many folders to list, it is always read.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from raysvq.errors import first_line
from raysvq.results.format import IDS, File
from raysvq.results.writer import file_batches, spooled
from raysvq.schema import TIMESTAMP
from raysvq.storage import fetch_file, filesystem, join, patiently
from raysvq.tables import ROW_GROUP

if TYPE_CHECKING:
    import duckdb

MAX_ROWS = 2_000_000  # of an ids file
MAX_FOLDERS = 100_000  # hashes in a file's metadata, 8 bytes each

SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.binary(16), nullable=False),
        pa.field("folder", pa.uint64(), nullable=False),  # hash of the URI up to its last `/`
        pa.field("size_bytes", pa.int64(), nullable=False),
        pa.field("etag", pa.string()),
        pa.field("mtime", TIMESTAMP),
        pa.field("reason", pa.string()),  # of a rejected image; null for a scored one
        pa.field("model_digest", pa.string(), nullable=False),
        pa.field("settings_digest", pa.string(), nullable=False),
        pa.field("file", pa.string(), nullable=False),  # with its row when it was committed
        pa.field("maps_file", pa.string()),  # with its map, if one was kept
        pa.field("rescored", pa.bool_(), nullable=False),  # takes the place of an earlier row
        pa.field("version", pa.uint64(), nullable=False),  # of the commit; the highest one counts
    ]
)
_FOLDERS = "raysvq.folders"
_END = 2**16  # bytes that are read of a file for its footer, if that is no longer

Hashes = npt.NDArray[np.uint64]
Found = TypeVar("Found")


class DamagedError(Exception):
    """An ids file is gone, or not what its record says."""


def folder_sql(uri: str) -> str:
    """SQL for the hash of the folder of a URI; stays the same in all versions of DuckDB."""
    return f"md5_number_lower(regexp_replace({uri}, '[^/]*$', ''))"


def write_ids(out: str, stem: str, rows: duckdb.DuckDBPyRelation) -> tuple[File, ...]:
    """Write rows with the columns of SCHEMA, sorted by folder, as ids files whose names begin with `stem`.

    Raises:
        StorageError: `out` may not be written.
    """
    files: list[File] = []
    batches = _sliced(rows.to_arrow_reader(ROW_GROUP))
    batch = next(batches, None)
    while batch is not None:
        folders = np.array([], np.uint64)
        with spooled(SCHEMA) as file:
            while batch is not None and file.rows + batch.num_rows <= MAX_ROWS:
                file.add(batch)
                if len(folders) <= MAX_FOLDERS:
                    folders = np.union1d(folders, batch["folder"].to_numpy())
                batch = next(batches, None)
            metadata = {_FOLDERS: _packed(folders)} if len(folders) <= MAX_FOLDERS else None
            files.append(file.put(out, f"{IDS}/{stem}-{len(files):04d}", metadata))
    return tuple(files)


def _sliced(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    for batch in reader:
        columns = [batch[name].cast(SCHEMA.field(name).type) for name in SCHEMA.names]
        whole = pa.RecordBatch.from_arrays(columns, schema=SCHEMA)
        size = min(ROW_GROUP, MAX_ROWS)
        for start in range(0, whole.num_rows, size):
            yield whole.slice(start, size)


def may_hold(out: str, file: File, wanted: Hashes) -> bool:
    """Whether an ids file may have an image in one of these folders; reads its footer alone.

    Raises:
        DamagedError: it is gone, or not what its record says.
        StorageError: its store does not answer.
    """
    uri = join(out, file.name)

    def footer() -> bytes:
        fs, path = filesystem(uri)
        with fs.open_input_file(path) as source:
            size = source.size()
            end: bytes = source.read_at(min(size, _END), max(size - _END, 0))
            length = min(int.from_bytes(end[-8:-4], "little") + 8, size)
            return end if length <= len(end) else source.read_at(length, size - length)

    content = _read(uri, footer)
    try:
        metadata = pq.read_metadata(pa.BufferReader(content))
    except (OSError, ValueError) as error:
        raise DamagedError(f"{uri} is no Parquet file ({first_line(error)})") from None
    if metadata.num_rows != file.rows:
        raise DamagedError(f"{uri} has {metadata.num_rows} rows, expected {file.rows}")
    packed = (metadata.metadata or {}).get(_FOLDERS.encode())
    return packed is None or bool(np.isin(_unpacked(packed, uri), wanted).any())


def fetch(out: str, file: File, path: Path) -> None:
    """Copy an ids file to local disk, a few MiB in memory at a time.

    Raises:
        DamagedError: it is gone, or not what its record says.
        StorageError: its store does not answer.
    """
    uri = join(out, file.name)
    if _read(uri, partial(fetch_file, uri, path)) != file.sha256:
        raise DamagedError(f"{uri} is damaged: its SHA-256 is not the record's")


def result_files(out: str, file: File) -> set[str]:
    """Names of all result files that an ids file names; reads two columns of it.

    Raises:
        OSError, ValueError: it cannot be read, or not as what it is.
    """
    columns = ["file", "maps_file"]
    names: set[str] = set()
    for batch in file_batches(out, file.name, columns):
        for column in columns:
            names.update(name for name in batch[column].unique().to_pylist() if name is not None)
    return names


def _read(uri: str, call: Callable[[], Found]) -> Found:
    try:
        return patiently(uri, call)
    except FileNotFoundError:
        raise DamagedError(f"{uri} is gone") from None


def _packed(folders: Hashes) -> str:
    return base64.b64encode(zlib.compress(folders.astype("<u8").tobytes(), 1)).decode()


def _unpacked(packed: bytes, uri: str) -> Hashes:
    try:
        return np.frombuffer(zlib.decompress(base64.b64decode(packed)), "<u8")
    except (ValueError, zlib.error):
        raise DamagedError(f"{uri} is damaged: its list of folders cannot be read") from None
