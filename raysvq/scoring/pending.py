"""What is left to score: the manifest less what is committed, as ranges of rows.

The rows left are written once, in a fixed order, to a file; a work unit is a range of them.
"""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from raysvq.data.decision_group import group_columns, group_sql, no_group
from raysvq.data.manifest import Row, require_distinct
from raysvq.errors import DataError, SettingsError
from raysvq.results import SCHEMAS, Snapshot, read_snapshot
from raysvq.results.done import find_done
from raysvq.schema import MANIFEST, SOURCE_FIELDS, TEST, UNKNOWN
from raysvq.settings import ScoringSettings
from raysvq.storage import filesystem, patiently
from raysvq.tables import ROW_GROUP, database, spool_columns

if TYPE_CHECKING:
    import duckdb
    import pyarrow.dataset as ds

PENDING = "pending.parquet"  # below a run's work folder
RETRIED = ("not_found", "access_denied", "unreadable", "changed", "crashed")
OUTSIDE = (*RETRIED, "not_finite")  # reasons that say nothing of the image: store, keys, machine, model
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"

_SOURCE = [field.name for field in SOURCE_FIELDS]
SCHEMA = pa.schema(
    [
        *(MANIFEST.field(name) for name in _SOURCE),
        pa.field("keeps_map", pa.bool_()),
        pa.field("decision_group", pa.string()),
        pa.field("rescored", pa.bool_()),  # has committed rows, which this run replaces
        pa.field("folder", pa.string()),  # partition, such as site=north/date=2026-05-04
    ]
)

_UNUSUAL = (
    "select any_value(uri), count(*) from manifest where not regexp_full_match(image_id, '[0-9a-f]{32}')"
)
_OTHERWISE_DONE = """
select any_value(m.uri), count(*) from manifest m join done d on d.image_id = m.image_id
where d.model_digest <> ? or d.settings_digest <> ?
"""
_LEFT = """
select {columns}, {keeps_map} as keeps_map, {group} as decision_group, d.image_id is not null as rescored,
{parts} as parts, coalesce(d.reason in {outside}, false) as retried
from manifest m left join done d on d.image_id = m.image_id
where d.image_id is null or {differs} or d.reason in {retried}
order by parts, m.uri
"""
_REPLACED = """
select distinct unnest([d.file, d.maps_file]) as name from done d semi join (from pending where rescored)
using (image_id)
"""
_KEEPS_MAP = {"all": "true", "none": "false", "labelled": f"m.label <> '{UNKNOWN}' and m.split = '{TEST}'"}


@dataclass(frozen=True)
class Pending:
    """The rows of a manifest that this run scores."""

    path: Path  # a local Parquet file
    images: int
    size_bytes: int  # of their images
    rescored: int  # rows among them that replace committed ones
    done: int  # rows of the manifest that are committed already and stay
    retried: int = 0  # rows among the rescored that were rejected for reasons outside the image
    replaces: tuple[str, ...] = ()  # names of the files with the committed rows that this run replaces
    version: int = 0  # of what is committed

    @property
    def image_bytes(self) -> float:
        """Mean size of an image's file."""
        return self.size_bytes / max(self.images, 1)

    def rescored_ids(self) -> pa.Array:
        """Image ids whose committed rows this run replaces."""
        if not self.rescored:
            return pa.array([], pa.string())
        import pyarrow.dataset as ds  # brings pandas where that is installed, and workers need it not

        table = ds.dataset(self.path).to_table(columns=["image_id"], filter=ds.field("rescored"))
        return table["image_id"].combine_chunks()


def find_pending(
    manifest: ds.Dataset,
    out: str,
    digests: Row,
    scoring: ScoringSettings,
    folder: Path,
    also: Sequence[Path] = (),
    mend: bool = False,
    group_by: str | None = None,
) -> Pending:
    """Write the rows of a manifest that are not yet scored to a local folder.

    Those are the rows without a committed one, those whose image has another size or ETag than its
    committed row says, or without ETags another time, and with `scoring.retry_rejected` those that the
    store did not hand out. Memory does not grow with the manifest: what does not fit goes to the folder.

    Args:
        out: the score directory.
        digests: of this run's model and settings, as in its rows.
        also: local files with the columns `image_id` and `uri` of other images that `done_path` is to tell
            about.
        mend: put what is lost of the id index back.
        group_by: what the model decides by, `group` or a key of `meta`.

    Raises:
        DataError: an image stands in the manifest twice, or images were scored before by another
            model, with other settings or in other partitions; or no image has what the model decides by.
        SettingsError: `scoring.partition_by` names what no image of the manifest has, for the first run.
    """
    snapshot = read_snapshot(out)
    _require_usable(scoring.partition_by)
    _require_partitions(snapshot, scoring.partition_by)
    path = folder / PENDING
    totals = _Totals(scoring.partition_by)
    columns = _columns(scoring.partition_by, group_by)
    patiently(out, lambda: spool_columns(manifest, columns, manifest_path(folder)))
    with database(folder, manifest=[manifest_path(folder)]) as connection:
        require_distinct(connection)
        _require_ids(connection)
        _require_groups(connection, group_by)
        if not snapshot.commits:  # else earlier images had them
            _require_parts(connection, scoring.partition_by)
    find_done(snapshot, [manifest_path(folder), *also], folder, mend)
    with database(folder, manifest=[manifest_path(folder)], done=[done_path(folder)]) as connection:
        _require_same(connection, out, digests)
        left = connection.sql(_left_query(scoring, group_by)).to_arrow_reader(ROW_GROUP)
        with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
            for batch in left:
                writer.write_batch(totals.count(batch))
    return Pending(
        path=path,
        images=totals.images,
        size_bytes=totals.size_bytes,
        rescored=totals.rescored,
        done=manifest.count_rows() - totals.images,
        retried=totals.retried,
        replaces=replaced_files(snapshot, path, folder) if totals.rescored else (),
        version=snapshot.version,
    )


def look_up_done(pending: Pending, out: str, folder: Path, also: Sequence[Path]) -> Pending:
    """Pending rows that another index has found, with what the id index says of their images.

    Args:
        folder: a local one; `done_path` there then tells about the images of `pending` and `also`.
        also: as in `find_pending`.

    Raises:
        DataError: another run has committed since the rows were found.
    """
    snapshot = read_snapshot(out)
    if snapshot.version != pending.version:
        raise DataError(
            f"{out}: another run has committed version {snapshot.version} since this one read version"
            f" {pending.version}; start it again"
        )
    find_done(snapshot, [pending.path, *also], folder, mend=True)
    return replace(pending, replaces=replaced_files(snapshot, pending.path, folder))


def replaced_files(snapshot: Snapshot, pending: Path, folder: Path) -> tuple[str, ...]:
    """Names of the files with the committed rows of rescored images."""
    with database(folder, pending=[pending], done=[done_path(folder)]) as connection:
        names = {name for (name,) in connection.execute(_REPLACED).fetchall() if name}
    return tuple(sorted(name for name in map(snapshot.current_name, names) if name))


def manifest_path(folder: Path) -> Path:
    """Where `find_pending` leaves the manifest."""
    return folder / "manifest.parquet"


def done_path(folder: Path) -> Path:
    """Where `find_pending` leaves the committed rows of the manifest's images."""
    return folder / "done.parquet"


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
        self.images = 0
        self.size_bytes = 0
        self.rescored = 0
        self.retried = 0
        self.partition_by = partition_by

    def count(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        rows = pa.table(batch.drop_columns(["parts", "retried"]))
        self.retried += int(batch["retried"].to_numpy(zero_copy_only=False).sum())
        self.images += batch.num_rows
        self.size_bytes += int(rows["size_bytes"].to_numpy().sum())
        self.rescored += int(rows["rescored"].to_numpy().sum())
        folders = pa.array([self._folder(values) for values in batch["parts"].to_pylist()], pa.string())
        return rows.append_column("folder", folders).cast(SCHEMA).combine_chunks().to_batches()[0]

    def _folder(self, values: list[str | None]) -> str:
        texts = [NO_VALUE if value is None else quote(value, safe="") for value in values]
        return "/".join(f"{name}={text}" for name, text in zip(self.partition_by, texts, strict=True))


def _require_usable(partition_by: Sequence[str]) -> None:
    """Raise SettingsError where a partition's name is not one of a folder, or is a column of the results."""
    taken = {name for schema in SCHEMAS.values() for name in schema.names}
    for name in partition_by:
        if name in taken or not re.fullmatch(r"[\w.-]+", name) or partition_by.count(name) > 1:
            raise SettingsError(
                f"setting `scoring.partition_by`: {name!r} cannot name folders; expected each once, of"
                " letters, digits, `_`, `.` and `-`, and no column of the results"
            )


def _require_parts(connection: duckdb.DuckDBPyConnection, partition_by: Sequence[str]) -> None:
    """Raise SettingsError where no row of the manifest has a value for a partition key."""
    if not partition_by:
        return
    counts = ", ".join(f"count({_part(name)})" for name in partition_by)
    ((rows, *valued),) = connection.execute(f"select count(*), {counts} from manifest m").fetchall()
    missing = [name for name, images in zip(partition_by, valued, strict=True) if not images]
    if rows and missing:
        raise SettingsError(
            f"setting `scoring.partition_by`: no image of the manifest has {', '.join(missing)};"
            " expected `date` (of captured_at), label, split, group, defect_type or a metadata column"
        )


def _require_groups(connection: duckdb.DuckDBPyConnection, group_by: str | None) -> None:
    """Raise DataError where no row of the manifest has a value of what the model decides by."""
    if group_by is None:
        return
    query = f"select count(*), count({group_sql(group_by)}) from manifest m"
    ((rows, grouped),) = connection.execute(query).fetchall()
    if rows and not grouped:
        raise no_group(group_by)


def _columns(partition_by: Sequence[str], group_by: str | None) -> list[str]:
    more = ["group", "defect_type", "captured_at", "meta"] if partition_by else group_columns(group_by)
    return [*_SOURCE, "label", "split", *more]


def _left_query(scoring: ScoringSettings, group_by: str | None) -> str:
    columns = ", ".join(f"m.{name}" for name in _SOURCE)
    parts = "[" + ", ".join(_part(name) for name in scoring.partition_by) + "]::varchar[]"
    outside = _sql_list(RETRIED)
    return _LEFT.format(
        columns=columns,
        differs=differs("d", "m"),
        keeps_map=_KEEPS_MAP[scoring.maps],
        group=group_sql(group_by),
        parts=parts,
        outside=outside,
        retried=outside if scoring.retry_rejected else _sql_list([""]),
    )


def _sql_list(texts: Sequence[str]) -> str:
    return "(" + ", ".join(f"'{text}'" for text in texts) + ")"


def differs(a: str, b: str) -> str:
    """SQL for whether two rows of an image are of different versions of its file: by ETag, else by time.

    As raysvq.storage.objects, which also says why a microsecond is no difference.
    """
    return (
        f"({a}.size_bytes <> {b}.size_bytes or case when {a}.etag = {b}.etag then false"
        f" when {a}.etag is distinct from {b}.etag or ({a}.mtime is null) <> ({b}.mtime is null) then true"
        f" else coalesce(abs(epoch_us({a}.mtime) - epoch_us({b}.mtime)) > 1, false) end)"
    )


def _part(name: str) -> str:
    """SQL for the value that a row has for a partition key."""
    if name == "date":
        return "strftime(m.captured_at at time zone 'UTC', '%Y-%m-%d')"
    if name in ("label", "split", "defect_type"):
        return f'm."{name}"'
    return group_sql(name)


def _require_partitions(snapshot: Snapshot, partition_by: tuple[str, ...]) -> None:
    """Raise DataError where results have other partitions already."""
    if snapshot.commits and snapshot.partition_by != partition_by:
        raise DataError(
            f"{snapshot.scores} is partitioned by {_listed(snapshot.partition_by)}, setting"
            f" `scoring.partition_by` says {_listed(partition_by)}; choose another folder"
        )


def _require_ids(connection: duckdb.DuckDBPyConnection) -> None:
    """Raise DataError where an image id of the manifest is none."""
    ((uri, images),) = connection.execute(_UNUSUAL).fetchall()
    if images:
        raise DataError(
            f"the image_id of {images} rows of the manifest, such as that of {uri}, is not of 32 hexadecimal"
            " digits in lower case; expected as `raysvq index` writes them"
        )


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
