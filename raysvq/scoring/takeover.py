"""What interrupted runs have finished of this run's images.

A finished unit is taken over where all of its images are still to be scored, none has changed, and all that
its rows depend on is as it is now. It does not matter in which run, in what units, or over which manifest
the images were scored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raysvq.scoring.pending import PENDING, SCHEMA, Pending, differs, done_path
from raysvq.scoring.work import (
    RejectBudget,
    Run,
    UnitReport,
    outside,
    read_receipt,
    read_run,
    work_folders,
)
from raysvq.storage import filesystem, join, patiently
from raysvq.tables import ROW_GROUP, database, stream, with_columns

if TYPE_CHECKING:
    import duckdb

_READERS = 16  # receipts read at once

# Why finished images are scored again, for people.
OTHERWISE = "of another model, precision or version, or with other settings"
CHANGED = "changed since, or in units with such"
REFUSED = "rejected for reasons outside them"

_COLUMNS = ["image_id", "uri", "size_bytes", "etag", "mtime", "keeps_map", "decision_group", "folder"]
_UNITS = f"""
select b.unit, count(l.image_id) as left_over, bool_and(l.image_id is not null and not {differs("l", "b")}
and l.keeps_map = b.keeps_map and l.folder = b.folder
and l.decision_group is not distinct from b.decision_group) as unchanged,
coalesce(max(d.version), 0) as committed
from before b left join pending l on l.image_id = b.image_id left join done d on d.image_id = b.image_id
group by b.unit order by b.unit
"""
_TWICE = """
select distinct b.unit from before b join (
    select image_id, min(unit) as first from before semi join chosen using (unit)
    group by image_id having count(*) > 1
) d on d.image_id = b.image_id where b.unit <> d.first
"""
_REST = """
select l.* from pending l anti join (select image_id from before semi join chosen using (unit)) b
on b.image_id = l.image_id order by l.folder, l.uri
"""
_USEFUL = """
select unit from before group by unit
having not bool_or(image_id in (select image_id from pending) or image_id in (select image_id from done))
"""


@dataclass(frozen=True)
class InterruptedRun:
    """What one run left; its units are numbered over all runs."""

    folder: str
    run: Run | None  # None where no other run can take over its units
    units: dict[int, UnitReport]  # by number over all runs; those whose receipts are whole
    cut_off: int = 0  # receipts that are not


@dataclass(frozen=True)
class Leftovers:
    """What all runs left that are not committed."""

    runs: list[InterruptedRun]
    folder: Path  # a local one, with their images, beside the files of `find_pending`

    @property
    def paths(self) -> list[Path]:
        """Local files: the unit and the image of every row that has a receipt."""
        return sorted(self.folder.glob("before-*.parquet"))


@dataclass(frozen=True)
class Takeover:
    """Finished units that count for this run, and what is left to do."""

    rest: Pending
    images: int = 0  # taken over
    reports: list[UnitReport] = field(default_factory=list)
    run_ids: frozenset[str] = frozenset()  # of the runs that scored them
    rescored: Counter[str] = field(default_factory=Counter)  # finished, but scored again: images by reason
    cut_off: int = 0  # receipts that stand for nothing

    def lines(self) -> Iterator[str]:
        """For people; none where nothing was left."""
        if self.images:
            yield f"took over {self.images} images of interrupted runs"
        for why, images in self.rescored.items():
            yield f"not taken over from interrupted runs: {images} images {why}"
        if self.cut_off:
            yield f"not taken over from interrupted runs: what {self.cut_off} receipts said that were cut off"


def find_leftovers(out: str, folder: Path) -> Leftovers:
    """Look up what interrupted runs finished, and spool which images those were."""
    runs, first = [], 0
    for place, rows in work_folders(out).items():
        run = read_run(place)
        reports = _read_reports(place, rows) if run else []
        runs.append(
            InterruptedRun(place, run, dict(enumerate(reports, start=first)), len(rows) - len(reports))
        )
        first += len(reports)
        if reports:
            path = folder / f"before-{place.rpartition('/')[2]}.parquet"
            patiently(out, partial(_spool, runs[-1], path))
    return Leftovers(runs, folder)


def take_over(leftovers: Leftovers, this: Run, pending: Pending, budget: RejectBudget) -> Takeover:
    """Choose the finished units that count for this run, none with an image of another.

    Units with rejections for reasons outside their images are scored again where the run may not have that
    many: the store may answer by now.
    """
    cut_off = sum(left.cut_off for left in leftovers.runs if left.run)
    if not leftovers.paths:
        return Takeover(pending, cut_off=cut_off)
    owners = {unit: left for left in leftovers.runs for unit in left.units}
    rescored: Counter[str] = Counter()
    views = {"pending": [pending.path], "before": leftovers.paths, "done": [done_path(leftovers.folder)]}
    with database(leftovers.folder, **views) as connection:
        found = connection.execute(_UNITS).fetchall()
        images = {unit: count for unit, count, _, _ in found}
        same = {unit for unit in images if (run := owners[unit].run) and run.depends_on == this.depends_on}
        # A commit since the unit's run began holds some of its images: the unit may be in it, or out of date.
        older = {unit for unit, *_, last in found if (run := owners[unit].run) and last > run.version}
        chosen = [unit for unit, _, unchanged, _ in found if unchanged and unit in same - older]
        rescored[OTHERWISE] = sum(images[unit] for unit in images.keys() - same)
        rescored[CHANGED] = sum(images[unit] for unit in same.difference(chosen, older))
        reports = {unit: owners[unit].units[unit] for unit in chosen}
        refused = _refused(reports, owners, this, budget)
        rescored[REFUSED] = sum(images[unit] for unit in refused)
        taken = reports.keys() - refused
        taken -= {unit for (unit,) in _about(connection, _TWICE, taken).fetchall()}
        rescored += Counter()  # drops reasons without images
        if not taken:
            return Takeover(pending, rescored=rescored, cut_off=cut_off)
        rest = _rest(_about(connection, _REST, taken), pending, leftovers.folder / "rest.parquet")
    return Takeover(
        rest,
        pending.images - rest.images,
        [reports[unit] for unit in sorted(taken)],
        frozenset(run.run_id for unit in taken if (run := owners[unit].run)),
        rescored,
        cut_off,
    )


def finished_folders(leftovers: Leftovers, pending: Path) -> list[str]:
    """Work folders that no run has a use for once all images of this one are committed.

    Args:
        pending: its rows; other images of its manifest are done.
    """
    useful: set[int] = set()
    if leftovers.paths:
        folder = leftovers.folder
        views = {"before": leftovers.paths, "pending": [pending], "done": [done_path(folder)]}
        with database(folder, **views) as connection:
            useful = {unit for (unit,) in connection.execute(_USEFUL).fetchall()}
    return [left.folder for left in leftovers.runs if useful.isdisjoint(left.units)]


def _spool(left: InterruptedRun, path: Path) -> None:
    """Write the images of a run's finished units to a local file."""
    import pyarrow.dataset as ds  # brings pandas where that is installed, and workers need it not

    fs, name = filesystem(join(left.folder, PENDING))
    rows = ds.dataset(name, filesystem=fs, format="parquet")
    numbers = np.array(list(left.units))
    starts = np.array([report.first for report in left.units.values()])
    ends = starts + [report.done for report in left.units.values()]
    sources = pa.schema([SCHEMA.field(column) for column in _COLUMNS])
    schema = sources.insert(0, pa.field("unit", pa.int64()))
    start = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in stream(rows, _COLUMNS):
            at = np.arange(start, start + batch.num_rows)
            start += batch.num_rows
            places = np.searchsorted(starts, at, side="right") - 1  # -1: before the first
            table = pa.Table.from_batches([with_columns(batch, sources)])
            table = table.add_column(0, "unit", pa.array(numbers[places]))
            writer.write_table(table.filter(pa.array((places >= 0) & (at < ends[places]))).cast(schema))


def _read_reports(folder: str, rows: list[int]) -> list[UnitReport]:
    """Receipts of a run, but those that were cut off."""
    with ThreadPoolExecutor(_READERS) as pool:
        return [report for report in pool.map(partial(read_receipt, folder), rows) if report]


def _refused(
    reports: dict[int, UnitReport], owners: dict[int, InterruptedRun], this: Run, budget: RejectBudget
) -> set[int]:
    """Units with rejections that this run is to try again."""
    with_such = {unit for unit, report in reports.items() if outside(report.reasons)}
    total: Counter[str] = Counter()
    for unit in with_such:
        total.update(reports[unit].reasons)
    if not budget.allows(total):
        return with_such
    if not this.retry_rejected:
        return set()
    return {unit for unit in with_such if not ((run := owners[unit].run) and run.retry_rejected)}


def _about(connection: duckdb.DuckDBPyConnection, query: str, units: set[int]) -> duckdb.DuckDBPyRelation:
    connection.register("chosen", pa.table({"unit": pa.array(sorted(units), pa.int64())}))
    return connection.sql(query)


def _rest(result: duckdb.DuckDBPyRelation, pending: Pending, path: Path) -> Pending:
    reader: pa.RecordBatchReader = result.to_arrow_reader(ROW_GROUP)
    schema = pq.read_schema(pending.path)
    images = size = rescored = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in reader:
            rows = pa.Table.from_batches([batch]).cast(schema)
            images += rows.num_rows
            size += int(rows["size_bytes"].to_numpy().sum())
            rescored += int(rows["rescored"].to_numpy().sum())
            writer.write_table(rows)
    return replace(pending, path=path, images=images, size_bytes=size, rescored=rescored)
