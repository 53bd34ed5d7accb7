"""Result files, written whole under names that say what is in them.

A work unit's files are named after its run, images, model and settings, and after what is in them. A unit
that is scored twice, as by a worker thought lost, so leaves two files, of which its receipt names one; a
file that no commit record names counts for nothing, and no reader looks at it.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from raysvq.results.format import SCHEMAS, File, Files
from raysvq.storage import filesystem, join, patiently, put_file, write_bytes
from raysvq.tables import ROW_GROUP, with_columns

GROUP_BYTES = 32 * 2**20  # in memory, of a row group that is streamed

Row = dict[str, Any]


def unit_name(sources: Sequence[Row], origin: Row) -> str:
    """The same for the same images, unchanged, in the same run, under the same model and settings."""
    digests = [origin["run_id"], origin["model_digest"], origin["settings_digest"]]
    key = hashlib.blake2b(":".join(digests).encode(), digest_size=12)
    for source in sources:
        key.update(
            f"|{source['image_id']}:{source['size_bytes']}:{source['etag']}:{source['mtime']}".encode()
        )
    return key.hexdigest()


def write_unit(out: str, name: str, tables: dict[str, list[Row]], folders: Mapping[str, str]) -> Files:
    """Write a work unit's rows, a file for each kind and partition that has any.

    Args:
        folders: image id -> partition such as `site=north`, for images that have one.

    Raises:
        StorageError: `out` may not be written.
    """
    written: Files = {}
    for kind, rows in tables.items():
        parts: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            parts[folders.get(row["image_id"], "")].append(row)
        written[kind] = [
            write_table(out, join(kind, *filter(None, [part]), f"part-{name}"), kind, table)
            for part, some in sorted(parts.items())
            if (table := pa.Table.from_pylist(some, schema=SCHEMAS[kind]))
        ]
    return written


def write_table(out: str, stem: str, kind: str, table: pa.Table) -> File:
    """Write one result file; its name is `stem` and the start of its digest.

    Raises:
        StorageError: `out` may not be written.
    """
    buffer = io.BytesIO()
    pq.write_table(table.cast(SCHEMAS[kind]), buffer, compression="zstd")
    content = buffer.getvalue()
    sha256 = hashlib.sha256(content).hexdigest()
    name = f"{stem}-{sha256[:16]}.parquet"
    write_bytes(join(out, name), content)
    return File(name, table.num_rows, sha256, len(content))


class Spooled:
    """A Parquet file that is filled on local disk, in bounded memory, before it is put in place."""

    def __init__(self, sink: BinaryIO, path: Path, writer: pq.ParquetWriter) -> None:
        self.rows = 0
        self._sink, self._path, self._writer = sink, path, writer
        self._schema: pa.Schema = writer.schema
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = self._waiting_bytes = 0

    @property
    def size_bytes(self) -> int:
        """Of what is on disk; some row groups may still be in memory."""
        return self._sink.tell()

    def add(self, batch: pa.RecordBatch) -> None:
        """Add rows; columns that an earlier version did not write are null."""
        self.rows += batch.num_rows
        self._waiting.append(with_columns(batch, self._schema))
        self._waiting_rows += batch.num_rows
        self._waiting_bytes += batch.nbytes
        if self._waiting_rows >= ROW_GROUP or self._waiting_bytes >= GROUP_BYTES:
            self._flush()

    def put(self, out: str, stem: str, metadata: dict[str, str] | None = None) -> File:
        """Put it in place, named by `stem` and the start of its digest.

        Raises:
            StorageError: `out` may not be written.
        """
        self._flush()
        if metadata:
            self._writer.add_key_value_metadata(metadata)
        self._writer.close()
        self._sink.flush()
        with self._path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        name = f"{stem}-{sha256[:16]}.parquet"
        put_file(self._path, join(out, name))
        return File(name, self.rows, sha256, self._path.stat().st_size)

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.Table.from_batches(self._waiting).cast(self._schema))
        self._waiting, self._waiting_rows, self._waiting_bytes = [], 0, 0


@contextmanager
def spooled(schema: pa.Schema) -> Iterator[Spooled]:
    """A file to fill; what is left of it on local disk goes when the block ends."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spooled.parquet"
        with path.open("wb") as sink, pq.ParquetWriter(sink, schema, compression="zstd") as writer:
            yield Spooled(sink, path, writer)


def read_file(out: str, file: File, columns: list[str]) -> pa.Table:
    """Some columns of a result file.

    Raises:
        FileNotFoundError: it is gone.
        StorageError: its store does not answer.
    """
    uri = join(out, file.name)

    def read() -> pa.Table:
        fs, path = filesystem(uri)
        with pq.ParquetFile(path, filesystem=fs) as table:
            return table.read(columns)

    return patiently(uri, read)


def file_batches(out: str, name: str, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of a result file, one row group in memory at a time; each is asked for again where need be.

    Raises:
        FileNotFoundError: it is gone.
        StorageError: its store does not answer.
    """
    uri = join(out, name)

    def opened() -> pq.ParquetFile:
        fs, path = filesystem(uri)
        return pq.ParquetFile(path, filesystem=fs, pre_buffer=False)

    file = patiently(uri, opened)
    with file:
        for group in range(file.num_row_groups):
            table = patiently(uri, lambda group=group: file.read_row_group(group, columns))  # type: ignore[misc]
            yield from table.to_batches()
