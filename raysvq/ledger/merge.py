"""Many small files of entries become one a date, under readers.

The new file comes first: a reader that sees it beside those it was made of sees the same rows. It names them
in its metadata, and they are removed when it has been there for the grace time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq

from raysvq.ledger.entries import (
    FOLDER,
    WITHOUT_DATE,
    date_folder,
    entries_name,
    entries_schema,
    entry_files,
    read_entries,
    spool_entries,
)
from raysvq.ledger.records import ENTRIES
from raysvq.storage import join, list_objects, put_file
from raysvq.tables import ROW_GROUP, database

_MERGED = "merged"  # metadata of a file: names of those it was made of
_ORDERED = "from entries order by camera, image_id"


@dataclass(frozen=True)
class DateFiles:
    """The files of a date."""

    day: date | None
    alone: tuple[str, ...]  # URIs of whole files whose rows no other file has
    superseded: tuple[
        tuple[str, datetime | None], ...
    ]  # URIs of the others, and when the new one was written


def crowded_dates(out: str) -> list[date | None]:
    """Dates with more than one file.

    Raises:
        StorageError: the store does not answer.
    """
    counts: dict[str, int] = {}
    for info in list_objects(join(out, FOLDER), must_exist=False):
        name = info.uri.split("/")[-2]
        counts[name] = counts.get(name, 0) + 1
    return list(_dates(name for name, files in counts.items() if files > 1))


def look_at_date(out: str, day: date | None) -> DateFiles:
    """Which files of a date are to be merged, and which have been.

    Raises:
        DataError: a later version of raysvq wrote one.
        StorageError: the store does not answer.
    """
    whole: list[str] = []
    superseded: dict[str, datetime | None] = {}
    with TemporaryDirectory() as name:
        for info in entry_files(out, day):
            file = read_entries(info, Path(name))
            if file is None:
                continue
            whole.append(info.uri)
            merged = (file.schema_arrow.metadata or {}).get(_MERGED.encode(), b"[]")
            superseded |= {join(date_folder(out, day), each): info.mtime for each in json.loads(merged)}
            file.close()
    alone = tuple(uri for uri in whole if uri not in superseded)
    return DateFiles(day, alone, tuple((uri, superseded[uri]) for uri in whole if uri in superseded))


def merge_date(out: str, day: date | None) -> str:
    """Write one file with the rows of all whole ones of a date, which stay; returns its URI.

    Raises:
        DataError: a later version of raysvq wrote one.
        StorageError: the store does not answer, or may not be written.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        found = spool_entries(out, [day], folder / "entries.parquet")
        path = folder / "merged.parquet"
        schema = entries_schema(**{_MERGED: json.dumps([uri.rpartition("/")[2] for uri in found.files])})
        with database(folder, entries=[found.path]) as connection:
            reader = connection.sql(_ORDERED).to_arrow_reader(ROW_GROUP)
            with pq.ParquetWriter(path, schema, compression="zstd") as writer:
                for batch in reader:
                    table = pa.Table.from_batches([batch]).select(ENTRIES.names)
                    writer.write_table(table.cast(ENTRIES).cast(schema))
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        uri = join(date_folder(out, day), entries_name(digest))
        put_file(path, uri)
        return uri


def _dates(names: Iterator[str]) -> Iterator[date | None]:
    for name in names:
        text = name.removeprefix("date=")
        if text == WITHOUT_DATE:
            yield None
        else:
            try:
                yield date.fromisoformat(text)
            except ValueError:  # no folder of the ledger
                continue
