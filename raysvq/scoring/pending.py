"""What is left to score: the manifest less what is committed, as ranges of rows.

The rows left are written once, sorted by URI, to a file beside the results; a work unit is a range
of them. The same manifest, model, settings and commits leave the same rows, so a run that is started
again finds its own units.
"""

from __future__ import annotations

import bisect
import itertools
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from raysvq.data.manifest import ROW_GROUP, Row, Tally, tally
from raysvq.errors import DataError
from raysvq.results import find_commits, open_results
from raysvq.schema import MANIFEST, SCORES, SOURCE_FIELDS
from raysvq.storage import filesystem

PENDING = "pending.parquet"  # below a run's work folder
COLUMNS = [*(field.name for field in SOURCE_FIELDS), "label", "split"]
_SCHEMA = pa.schema([MANIFEST.field(name) for name in COLUMNS])
_DONE = ["image_id", "uri", "size_bytes", "etag", "mtime", "model_digest", "settings_digest"]

_OTHERWISE_DONE = """
select m.uri, d.model_digest = ? and d.settings_digest = ? as same_model, count(*) over () as images
from manifest m join done d on d.image_id = m.image_id
where d.model_digest <> ? or d.settings_digest <> ? or d.size_bytes <> m.size_bytes
or d.etag is distinct from m.etag or d.mtime is distinct from m.mtime
limit 1
"""
_LEFT = f"""
select {", ".join(COLUMNS)} from manifest
where image_id not in (select image_id from done)
order by uri
"""


@dataclass(frozen=True)
class Pending:
    """The rows of a manifest that no commit covers."""

    path: Path  # a local Parquet file
    rows: Tally
    done: int  # rows that are committed already


def find_pending(manifest: ds.Dataset, out: str, origin: Row, folder: Path) -> Pending:
    """Write the rows of a manifest that no commit in `out` covers into a local folder.

    Memory does not grow with the manifest: DuckDB spills what does not fit into the folder.

    Args:
        origin: provenance columns of this run.

    Raises:
        DataError: images were scored into `out` by another model or with other settings, or have
            changed since.
    """
    path = folder / PENDING
    with duckdb.connect() as connection:
        connection.execute(f"set temp_directory = '{folder}/spill'")
        connection.register("manifest", manifest)
        _register_done(connection, out)
        _require_same(connection, out, origin)
        left = connection.sql(_LEFT).to_arrow_reader(ROW_GROUP)
        with pq.ParquetWriter(path, _SCHEMA, compression="zstd") as writer:
            for batch in left:
                writer.write_batch(batch.cast(_SCHEMA))
    rows = tally(ds.dataset(path))
    return Pending(path, rows, manifest.count_rows() - rows.count)


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


def _register_done(connection: duckdb.DuckDBPyConnection, out: str) -> None:
    """A view `done` of all committed rows, scored and rejected."""
    if not find_commits(out):
        connection.register("done", pa.schema([SCORES.field(name) for name in _DONE]).empty_table())
        return
    for kind in ("scores", "rejects"):
        connection.register(kind, open_results(out, kind))
    columns = ", ".join(_DONE)
    connection.execute(
        f"create view done as select {columns} from scores union all select {columns} from rejects"
    )


def _require_same(connection: duckdb.DuckDBPyConnection, out: str, origin: Row) -> None:
    digests = [origin["model_digest"], origin["settings_digest"]]
    found = connection.execute(_OTHERWISE_DONE, digests * 2).fetchone()
    if found is None:
        return
    uri, same_model, images = found
    why = "have changed since" if same_model else "by another model or with other settings"
    raise DataError(
        f"{images} images were scored into {out} before, and {why}, such as {uri}; choose another folder"
    )
