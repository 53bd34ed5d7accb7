"""What is left to score: the manifest less what is committed, as ranges of rows.

The rows left are written once, in a fixed order, to a file beside the results; a work unit is a
range of them. The same manifest, model, settings and commits leave the same rows, so a run that is
started again finds its own units.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from raysvq.data.manifest import ROW_GROUP, Row, Tally, tally
from raysvq.errors import DataError, SettingsError
from raysvq.results import find_commits, open_results
from raysvq.schema import MANIFEST, SCORES, SOURCE_FIELDS
from raysvq.settings import ScoringSettings
from raysvq.storage import filesystem

PENDING = "pending.parquet"  # below a run's work folder
RETRIED = ("not_found", "access_denied", "unreadable", "changed", "crashed")  # reasons outside the image
MEMORY = "128MiB"  # of DuckDB; the rest goes to disk
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
where d.image_id is null or d.size_bytes <> m.size_bytes or d.etag is distinct from m.etag
or d.mtime is distinct from m.mtime or d.reason in {retried}
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
    manifest: ds.Dataset, out: str, origin: Row, scoring: ScoringSettings, folder: Path
) -> Pending:
    """Write the rows of a manifest that are not yet scored into `out` to a local folder.

    Those are the rows without a committed one, those whose image has another size, ETag or time than
    its committed row says, and with `scoring.retry_rejected` those that the store did not hand out.
    Memory does not grow with the manifest: DuckDB spills what does not fit into the folder.

    Args:
        origin: provenance columns of this run.

    Raises:
        DataError: images were scored into `out` by another model, with other settings or in other
            partitions.
        SettingsError: `scoring.partition_by` names what no image has.
    """
    path = folder / PENDING
    totals = _Totals(scoring.partition_by)
    with duckdb.connect() as connection:
        connection.execute(f"set temp_directory = '{folder}/spill'")
        connection.execute(f"set memory_limit = '{MEMORY}'")
        if _register_done(connection, out, scoring.partition_by):
            connection.register("manifest", _scan(manifest, ()))
            _require_same(connection, out, origin)
        connection.register("manifest", _scan(manifest, scoring.partition_by))
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
        fs, path = filesystem(uri)
        self._file = pq.ParquetFile(path, filesystem=fs)
        groups = range(self._file.num_row_groups)
        self._ends = list(itertools.accumulate(self._file.metadata.row_group(n).num_rows for n in groups))
        self._group = -1
        self._table: pa.Table = None

    def read(self, start: int, count: int) -> list[Row]:
        """Rows `start` to `start + count`, fewer at the end of the file."""
        rows: list[Row] = []
        while len(rows) < count and start < self._ends[-1]:
            group = bisect.bisect_right(self._ends, start)
            if group != self._group:
                self._table, self._group = self._file.read_row_group(group), group
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


def _scan(manifest: ds.Dataset, partition_by: Sequence[str]) -> pa.RecordBatchReader:
    """One pass over the columns needed, a few batches in memory."""
    columns = [*_COLUMNS]
    if partition_by:
        columns += ["group", "defect_type", "captured_at", "meta"]
    return manifest.scanner(
        columns=columns, batch_size=ROW_GROUP, batch_readahead=2, fragment_readahead=1
    ).to_reader()


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


def _register_done(connection: duckdb.DuckDBPyConnection, out: str, partition_by: tuple[str, ...]) -> bool:
    """A view `done` of all committed rows, scored and rejected; returns whether a run has finished."""
    commits = find_commits(out)
    if not commits:
        schema = pa.schema([*(SCORES.field(name) for name in _DONE), pa.field("reason", pa.string())])
        connection.register("done", schema.empty_table())
        return False
    before = tuple(commits[-1]["partition_by"])
    if before != partition_by:
        raise DataError(
            f"{out} is partitioned by {_listed(before)}, setting `scoring.partition_by` says"
            f" {_listed(partition_by)}; choose another folder"
        )
    for kind in ("scores", "rejects"):
        connection.register(kind, open_results(out, kind))
    columns = ", ".join(_DONE)
    connection.execute(
        f"create view done as select {columns}, null as reason from scores"
        f" union all select {columns}, reason from rejects"
    )
    return True


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "nothing"


def _require_same(connection: duckdb.DuckDBPyConnection, out: str, origin: Row) -> None:
    digests = [origin["model_digest"], origin["settings_digest"]]
    ((uri, images),) = connection.execute(_OTHERWISE_DONE, digests).fetchall()
    if images:
        raise DataError(
            f"{images} images were scored into {out} before by another model or with other settings, such as"
            f" {uri}; choose another folder"
        )
