"""Result files and the commit record that makes them count.

A work unit's files are named after its images, the model and the settings, and written whole; a
file that no commit record names was left by a run that did not finish, and no reader looks at it.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raysvq.results import COMMITS, SCHEMAS
from raysvq.scoring.rows import Row
from raysvq.storage import join, write_bytes


@dataclass(frozen=True)
class File:
    """A result file: its name below the score directory, and its rows."""

    name: str
    rows: int


def unit_name(sources: Sequence[Row], model_digest: str, settings_digest: str) -> str:
    """The same for the same images, unchanged, under the same model and settings."""
    key = hashlib.blake2b(f"{model_digest}:{settings_digest}".encode(), digest_size=12)
    for source in sources:
        key.update(
            f"|{source['image_id']}:{source['size_bytes']}:{source['etag']}:{source['mtime']}".encode()
        )
    return key.hexdigest()


def write_unit(out: str, name: str, tables: dict[str, list[Row]]) -> dict[str, list[File]]:
    """Write a work unit's rows, kind by kind; kinds without rows have no file.

    Raises:
        StorageError: `out` may not be written.
    """
    written: dict[str, list[File]] = {}
    for kind, rows in tables.items():
        written[kind] = []
        if rows:
            file = File(f"{kind}/part-{name}.parquet", len(rows))
            write_bytes(join(out, file.name), _parquet(rows, SCHEMAS[kind]))
            written[kind].append(file)
    return written


def write_commit(out: str, origin: Row, settings: Row, files: dict[str, list[File]], images: int) -> str:
    """Make a run's files count.

    Args:
        origin: provenance columns of the run's rows.
        settings: resolved, plain values.
        files: by kind.
        images: how many were to be scored.

    Returns:
        The URI of the record.
    """
    record: dict[str, Any] = {
        **origin,
        "created_at": datetime.now(UTC).isoformat(),
        "settings": settings,
        "images": images,
        "scored": sum(file.rows for file in files["scores"]),
        "rejected": sum(file.rows for file in files["rejects"]),
        "files": {
            kind: [
                {"name": file.name, "rows": file.rows} for file in sorted(names, key=lambda file: file.name)
            ]
            for kind, names in files.items()
        },
    }
    uri = join(out, COMMITS, f"{origin['run_id']}.json")
    write_bytes(uri, json.dumps(record, indent=1).encode())
    return uri


def _parquet(rows: list[Row], schema: pa.Schema) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), buffer, compression="zstd")
    return buffer.getvalue()
