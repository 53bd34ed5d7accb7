"""Result files and the commit record that makes them count.

A work unit's files are named after its run, images, model and settings, and after what is in them, and
written whole. A unit that is scored twice, as by a worker thought lost, so leaves two files, of which its
receipt names one; a file that no commit record names counts for nothing, and no reader looks at it.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raysvq.data.manifest import Row
from raysvq.results import COMMITS, SCHEMAS
from raysvq.storage import filesystem, join, patiently, write_bytes


@dataclass(frozen=True)
class File:
    """A result file: its name below the score directory, its rows, and the SHA-256 of its bytes."""

    name: str
    rows: int
    sha256: str


Files = dict[str, list[File]]  # by kind of result


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
    return File(name, table.num_rows, sha256)


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


@dataclass(frozen=True)
class Commit:
    """What a run adds to a score directory, and what it takes the place of."""

    origin: Row  # provenance columns of the run's rows
    settings: Row  # resolved, plain values
    images: int  # that were to be scored
    files: Files  # of the run's own rows
    kept: Files  # earlier rows, written anew without those of images that were scored again
    replaced: dict[str, list[str]]  # names of the files that held them
    partition_by: tuple[str, ...]
    run_ids: tuple[str, ...] = ()  # of interrupted runs, whose rows are among those of `files`
    heatmaps: tuple[str, ...] = ()  # names of the overlays of the highest scores, highest first


def write_commit(out: str, commit: Commit) -> str:
    """Make a run's files count.

    Returns:
        The URI of the record.
    """
    files = {
        kind: sorted([*own, *commit.kept[kind]], key=lambda file: file.name)
        for kind, own in commit.files.items()
    }
    record: dict[str, Any] = {
        **commit.origin,
        "created_at": datetime.now(UTC).isoformat(),
        "settings": commit.settings,
        "images": commit.images,
        "scored": sum(file.rows for file in commit.files["scores"]),
        "rejected": sum(file.rows for file in commit.files["rejects"]),
        "partition_by": commit.partition_by,
        "run_ids": sorted({commit.origin["run_id"], *commit.run_ids}),
        "heatmaps": commit.heatmaps,
        "files": {kind: [asdict(file) for file in some] for kind, some in files.items()},
        "replaced": commit.replaced,
    }
    uri = join(out, COMMITS, f"{commit.origin['run_id']}.json")
    write_bytes(uri, json.dumps(record, indent=1).encode())
    return uri
