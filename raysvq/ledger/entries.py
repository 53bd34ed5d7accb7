"""Entries: which version of each image is known, in files that are only ever added.

A file is named after its content. So writing rows again does nothing, and one that was cut off shows it: it
is passed over, and its rows are taken from the commits once more. Of an image's rows the one of the highest
(version, committed_at) counts, whoever wrote it and when.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raysvq import log
from raysvq.ledger.records import ENTRIES, FORMAT, require_format
from raysvq.storage import ObjectInfo, fetch_file, join, list_objects, patiently, read_bytes, write_bytes
from raysvq.tables import ROW_GROUP, database, with_columns

FOLDER = "ledger/entries"  # below the fleet's
WITHOUT_DATE = "none"  # names the folder of images without a date

READERS = 16  # files read, or folders listed, at once
SMALL = 4 * 2**20  # bytes of a file that is read in one request

_NAME = re.compile(r"([0-9a-f]{32})\.parquet")
# Few images have a second row: only those are sorted. Rows of one version and time are the same, or are put
# in an order that does not depend on who wrote them.
_TWICE = "select hash(camera, image_id) as key from entries group by key having count(*) > 1"
_NEWEST = f"""
with twice as ({_TWICE})
select * from entries where hash(camera, image_id) not in (from twice)
union all by name
select * exclude (place) from (
    select *, row_number() over (
        partition by camera, image_id
        order by version desc, committed_at desc, outcome, size_bytes, etag, mtime, run_id, model_digest,
        settings_digest, decisions_digest, is_anomalous
    ) as place from entries where hash(camera, image_id) in (from twice)
) where place = 1
"""
_VERSIONS = "select camera, max(version) from entries group by camera"


@dataclass(frozen=True)
class Entries:
    """The newest rows of some dates, in a local file with the columns of ENTRIES."""

    path: Path
    rows: int
    versions: Mapping[str, int]  # camera -> the newest version that some of its rows are of
    damaged: frozenset[date | None] = frozenset()  # dates with a file that was cut off
    files: tuple[str, ...] = ()  # URIs of those that were read


def date_folder(out: str, day: date | None) -> str:
    """Where the entries of a date are."""
    return join(out, FOLDER, f"date={WITHOUT_DATE if day is None else day.isoformat()}")


def append_entries(out: str, table: pa.Table) -> None:
    """Add rows of ENTRIES, a file for each date. Adding rows again, or some of them, changes nothing.

    Args:
        out: the fleet's folder.

    Raises:
        StorageError: it may not be written.
    """
    table = table.select(ENTRIES.names).cast(ENTRIES)
    days: list[date | None] = table["date"].unique().to_pylist()
    with ThreadPoolExecutor(READERS) as pool:
        for _ in pool.map(lambda day: _append(out, day, _of_date(table, day)), days):
            pass


def spool_entries(
    out: str,
    dates: Iterable[date | None],
    path: Path,
    cameras: Callable[[date | None], Collection[str]] | None = None,
) -> Entries:
    """Write the newest row of each image of some dates to a local file; no other date is looked at.

    Memory does not grow with the rows: what does not fit goes to the file's folder. A file that was cut off
    is passed over with a warning.

    Args:
        cameras: those whose rows of a date are wanted; None: all.

    Raises:
        DataError: a later version of raysvq wrote a file.
        StorageError: the store does not answer.
    """
    days = sorted(set(dates), key=lambda day: (day is not None, day))
    with TemporaryDirectory(dir=path.parent) as name:
        try:
            return _spool(out, days, Path(name), path, cameras)
        except FileNotFoundError:  # merged after it was listed: its rows are in another file by now
            return _spool(out, days, Path(name), path, cameras)


def entry_files(out: str, day: date | None) -> list[ObjectInfo]:
    """The files of a date; what has another kind of name is none.

    Raises:
        StorageError: the store does not answer.
    """
    found = list_objects(date_folder(out, day), must_exist=False)
    return [info for info in found if _NAME.fullmatch(info.uri.rpartition("/")[2])]


def read_entries(info: ObjectInfo, folder: Path) -> pq.ParquetFile | None:
    """Open a copy of a file; None, with a warning, where it is not what its name says.

    Args:
        folder: a local one, for a large file.

    Raises:
        DataError: a later version of raysvq wrote it.
        FileNotFoundError: it is gone.
        StorageError: the store does not answer.
    """
    name = info.uri.rpartition("/")[2]
    source: pa.BufferReader | Path
    if info.size_bytes <= SMALL:
        content = read_bytes(info.uri)
        digest, source = hashlib.sha256(content).hexdigest(), pa.BufferReader(content)
    else:
        source = folder / name
        digest = patiently(info.uri, partial(fetch_file, info.uri, source))
    if not digest.startswith(name.partition(".")[0]):
        log.warning(f"{info.uri} was cut off, or damaged: its digest is not its name; its rows are not read")
        return None
    file = pq.ParquetFile(source)
    require_format(_format(file), info.uri)
    return file


def entries_schema(**metadata: str) -> pa.Schema:
    """Of a file."""
    return ENTRIES.with_metadata({"format": str(FORMAT), **metadata})


def entries_name(sha256: str) -> str:
    """Of the file with that digest."""
    return f"{sha256[:32]}.parquet"


def _append(out: str, day: date | None, table: pa.Table) -> None:
    ordered = table.sort_by([(name, "ascending") for name in ("camera", "image_id", "version")])
    buffer = io.BytesIO()
    pq.write_table(ordered.cast(entries_schema()), buffer, compression="zstd")
    content = buffer.getvalue()
    name = entries_name(hashlib.sha256(content).hexdigest())
    write_bytes(join(date_folder(out, day), name), content)


def _of_date(table: pa.Table, day: date | None) -> pa.Table:
    dates = table["date"]
    return table.filter(pc.is_null(dates) if day is None else pc.equal(dates, pa.scalar(day, pa.date32())))


def _spool(
    out: str,
    days: list[date | None],
    folder: Path,
    path: Path,
    cameras: Callable[[date | None], Collection[str]] | None,
) -> Entries:
    raw = folder / "raw.parquet"
    damaged: set[date | None] = set()
    read: list[str] = []
    with pq.ParquetWriter(raw, ENTRIES) as writer, ThreadPoolExecutor(READERS) as pool:
        waiting = _Waiting(writer.write_table)
        for day, uri, file in _files(pool, out, days, folder):
            if file is None:
                damaged.add(day)
                continue
            read.append(uri)
            chosen = None if cameras is None else pa.array(cameras(day), pa.string())
            for batch in file.iter_batches(ROW_GROUP):
                rows = batch if chosen is None else batch.filter(pc.is_in(batch["camera"], chosen))
                waiting.add(with_columns(rows, ENTRIES))
            file.close()
        waiting.flush()
    with database(folder, entries=[raw]) as connection:
        versions = dict(connection.execute(_VERSIONS).fetchall())
        if connection.execute(f"{_TWICE} limit 1").fetchall():
            reader = connection.sql(_NEWEST).to_arrow_reader(ROW_GROUP)
            with pq.ParquetWriter(path, ENTRIES) as writer:
                for batch in reader:
                    table = pa.Table.from_batches([batch]).select(ENTRIES.names)
                    writer.write_table(table.cast(ENTRIES))
        else:
            raw.replace(path)
    rows = pq.read_metadata(path).num_rows
    return Entries(path, rows, versions, frozenset(damaged), tuple(read))


def _files(
    pool: ThreadPoolExecutor, out: str, days: list[date | None], folder: Path
) -> Iterator[tuple[date | None, str, pq.ParquetFile | None]]:
    listed = pool.map(lambda day: [(day, info) for info in entry_files(out, day)], days)
    infos = (each for some in listed for each in some)
    while some := list(islice(infos, READERS)):
        for (day, info), file in zip(
            some, pool.map(lambda each: read_entries(each[1], folder), some), strict=True
        ):
            yield day, info.uri, file


class _Waiting:
    """Rows of many small files, written together."""

    def __init__(self, write: Callable[[pa.Table], None]) -> None:
        self._write = write
        self._batches: list[pa.RecordBatch] = []
        self._rows = 0

    def add(self, batch: pa.RecordBatch) -> None:
        self._batches.append(batch.cast(ENTRIES))
        self._rows += batch.num_rows
        if self._rows >= ROW_GROUP:
            self.flush()

    def flush(self) -> None:
        if self._batches:
            self._write(pa.Table.from_batches(self._batches).combine_chunks())
        self._batches, self._rows = [], 0


def _format(file: pq.ParquetFile) -> int | str | None:
    found = (file.schema_arrow.metadata or {}).get(b"format", b"").decode()
    return int(found) if found.isdecimal() else found or None
