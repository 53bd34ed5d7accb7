"""What is left to score: the manifest less what is committed, as ranges of rows.

The rows left are written once, in a fixed order, to a file beside the results; a work unit is a
range of them. The same manifest, model, settings and commits leave the same rows, so a run that is
started again finds its own units.
"""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from raysvq.data.manifest import ROW_GROUP, Row, Tally, stream, tally
from raysvq.errors import DataError, SettingsError
from raysvq.results import SCHEMAS, find_commits, open_committed
from raysvq.schema import MANIFEST, REJECTS, SOURCE_FIELDS
from raysvq.settings import ScoringSettings
from raysvq.storage import filesystem, patiently

PENDING = "pending.parquet"  # below a run's work folder
RETRIED = ("not_found", "access_denied", "unreadable", "changed", "crashed")  # reasons outside the image
MEMORY = "192MiB"  # of DuckDB; the rest goes to disk
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"

_COLUMNS = [*(field.name for field in SOURCE_FIELDS), "label", "split"]
_SCHEMA = pa.schema(
    [
        *(MANIFEST.field(name) for name in _COLUMNS),
        pa.field("rescored", pa.bool_()),  # has committed rows, which this run replaces
        pa.field("folder", pa.string()),  # partition, such as site=north/date=2026-05-04
    ]
)
_DONE = ["image_id", "uri", "size_bytes", "etag", "mtime", "model_digest", "settings_digest"]

_OTHERWISE_DONE = """
select any_value(m.uri), count(*) from manifest m join done d on d.image_id = m.image_id
where d.model_digest <> ? or d.settings_digest <> ?
"""
_LEFT = """
select {columns}, d.image_id is not null as rescored, {parts} as parts
from manifest m left join done d on d.image_id = m.image_id
where d.image_id is null or d.size_bytes <> m.size_bytes
or case when d.etag = m.etag then false
   when d.etag is distinct from m.etag or (d.mtime is null) <> (m.mtime is null) then true
   else coalesce(abs(epoch_us(d.mtime) - epoch_us(m.mtime)) > 1, false) end -- see storage.versions.ROUNDING
or d.reason in {retried}
order by parts, m.uri
"""


@dataclass(frozen=True)
class Pending:
    """The rows of a manifest that this run scores."""

    path: Path  # a local Parquet file
    rows: Tally
    size_bytes: int  # of their images
    rescored: int  # rows among them that replace committed ones
    done: int  # rows of the manifest that are committed already and stay

    def rescored_ids(self) -> pa.Array:
        """Image ids whose committed rows this run replaces."""
        if not self.rescored:
            return pa.array([], pa.string())
        table = ds.dataset(self.path).to_table(columns=["image_id"], filter=ds.field("rescored"))
        return table["image_id"].combine_chunks()


def find_pending(
    manifest: ds.Dataset, out: str, digests: Row, scoring: ScoringSettings, folder: Path
) -> Pending:
    """Write the rows of a manifest that are not yet scored into `out` to a local folder.

    Those are the rows without a committed one, those whose image has another size or ETag than its
    committed row says, or without ETags another time, and with `scoring.retry_rejected` those that the
    store did not hand out. Memory does not grow with the manifest: what does not fit goes to the folder.

    Args:
        digests: of this run's model and settings, as in its rows.

    Raises:
        DataError: images were scored into `out` by another model, with other settings or in other
            partitions.
        SettingsError: `scoring.partition_by` names what no image has.
    """
    _require_usable(scoring.partition_by)
    path = folder / PENDING
    totals = _Totals(scoring.partition_by)
    patiently(out, lambda: _spool(manifest, _columns(scoring.partition_by), folder / "manifest.parquet"))
    patiently(out, lambda: _spool_done(out, scoring.partition_by, folder))
    with duckdb.connect() as connection:
        for setting in (f"temp_directory = '{folder}/spill'", f"memory_limit = '{MEMORY}'", "threads = 1"):
            connection.execute(f"set {setting}")
        connection.execute("set preserve_insertion_order = false")
        for name in ("manifest", "done"):
            connection.execute(
                f"create view {name} as from read_parquet('{folder}/{name}*', union_by_name = true)"
            )
        _require_same(connection, out, digests)
        left = connection.sql(_left_query(scoring)).to_arrow_reader(ROW_GROUP)
        with pq.ParquetWriter(path, _SCHEMA, compression="zstd") as writer:
            for batch in left:
                writer.write_batch(totals.count(batch))
    totals.require_parts()
    rows = tally(ds.dataset(path))
    return Pending(path, rows, totals.size_bytes, totals.rescored, manifest.count_rows() - rows.count)


class PendingRows:
    """Reads ranges of a Parquet file's rows, one row group in memory at a time."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._file = patiently(uri, self._open)
        groups = range(self._file.num_row_groups)
        self._ends = list(itertools.accumulate(self._file.metadata.row_group(n).num_rows for n in groups))
        self._group = -1
        self._table: pa.Table = None

    def _open(self) -> pq.ParquetFile:
        fs, path = filesystem(self._uri)
        return pq.ParquetFile(path, filesystem=fs, pre_buffer=False)

    def read(self, start: int, count: int) -> list[Row]:
        """Rows `start` to `start + count`, fewer at the end of the file."""
        rows: list[Row] = []
        while len(rows) < count and start < self._ends[-1]:
            group = bisect.bisect_right(self._ends, start)
            if group != self._group:
                self._table = patiently(self._uri, partial(self._file.read_row_group, group))
                self._group = group
            before = self._ends[group - 1] if group else 0
            part = self._table.slice(start - before, count - len(rows)).to_pylist()
            rows += part
            start += len(part)
        return rows


class _Totals:
    """Sums over the rows left, as they pass; turns partition values into folders."""

    def __init__(self, partition_by: Sequence[str]) -> None:
        self.size_bytes = 0
        self.rescored = 0
        self.rows = 0
        self.partition_by = partition_by
        self.seen: set[str] = set()  # partition keys that some image has

    def count(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        rows = pa.table(batch.drop_columns(["parts"]))
        self.rows += rows.num_rows
        self.size_bytes += int(rows["size_bytes"].to_numpy().sum())
        self.rescored += rows["rescored"].to_numpy().sum()
        folders = pa.array([self._folder(values) for values in batch["parts"].to_pylist()], pa.string())
        return rows.append_column("folder", folders).cast(_SCHEMA).combine_chunks().to_batches()[0]

    def _folder(self, values: list[str | None]) -> str:
        pairs = list(zip(self.partition_by, values, strict=True))
        self.seen.update(name for name, value in pairs if value is not None)
        texts = [(name, NO_VALUE if value is None else quote(value, safe="")) for name, value in pairs]
        return "/".join(f"{name}={text}" for name, text in texts)

    def require_parts(self) -> None:
        missing = [name for name in self.partition_by if name not in self.seen]
        if self.rows and missing:
            raise SettingsError(
                f"setting `scoring.partition_by`: no image of the manifest has {', '.join(missing)};"
                " expected `date` (of captured_at), label, split, group, defect_type or a metadata column"
            )


def _require_usable(partition_by: Sequence[str]) -> None:
    """Raise SettingsError where a partition's name is not one of a folder, or is a column of the results."""
    taken = {name for schema in SCHEMAS.values() for name in schema.names}
    for name in partition_by:
        if name in taken or not re.fullmatch(r"[\w.-]+", name) or partition_by.count(name) > 1:
            raise SettingsError(
                f"setting `scoring.partition_by`: {name!r} cannot name folders; expected each once, of"
                " letters, digits, `_`, `.` and `-`, and no column of the results"
            )


def _columns(partition_by: Sequence[str]) -> list[str]:
    return [*_COLUMNS, *(["group", "defect_type", "captured_at", "meta"] if partition_by else [])]


def _spool(rows: ds.Dataset, columns: list[str], path: Path) -> None:
    """Copy some columns to a local file: DuckDB sorts a file in less memory than a stream."""
    schema = pa.schema([rows.schema.field(name) for name in columns])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in stream(rows, columns):
            writer.write_batch(pa.RecordBatch.from_arrays([batch[name] for name in columns], schema=schema))


def _left_query(scoring: ScoringSettings) -> str:
    columns = ", ".join(f"m.{name}" for name in _COLUMNS)
    parts = "[" + ", ".join(_part(name) for name in scoring.partition_by) + "]::varchar[]"
    retried = RETRIED if scoring.retry_rejected else ("",)
    return _LEFT.format(
        columns=columns, parts=parts, retried="(" + ", ".join(f"'{code}'" for code in retried) + ")"
    )


def _part(name: str) -> str:
    """SQL for the value that a row has for a partition key."""
    if name == "date":
        return "strftime(m.captured_at at time zone 'UTC', '%Y-%m-%d')"
    if name in ("label", "split", "group", "defect_type"):
        return f'm."{name}"'
    return "list_extract(map_extract(m.meta, '{}'), 1)".format(name.replace("'", "''"))


def _spool_done(out: str, partition_by: tuple[str, ...], folder: Path) -> None:
    """All committed rows, scored and rejected, as local files."""
    commits = find_commits(out)
    nothing = pa.schema([*(REJECTS.field(name) for name in _DONE), REJECTS.field("reason")]).empty_table()
    pq.write_table(nothing, folder / "done-nothing.parquet")
    if not commits:
        return
    before = tuple(commits[-1]["partition_by"])
    if before != partition_by:
        raise DataError(
            f"{out} is partitioned by {_listed(before)}, setting `scoring.partition_by` says"
            f" {_listed(partition_by)}; choose another folder"
        )
    _spool(open_committed(out, commits, "scores"), _DONE, folder / "done-scores.parquet")
    _spool(open_committed(out, commits, "rejects"), [*_DONE, "reason"], folder / "done-rejects.parquet")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "nothing"


def _require_same(connection: duckdb.DuckDBPyConnection, out: str, digests: Row) -> None:
    same = [digests["model_digest"], digests["settings_digest"]]
    ((uri, images),) = connection.execute(_OTHERWISE_DONE, same).fetchall()
    if images:
        raise DataError(
            f"{images} images were scored into {out} before by another model or with other settings, such as"
            f" {uri}; choose another folder"
        )
