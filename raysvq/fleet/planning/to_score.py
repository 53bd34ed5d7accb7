"""The rows that each camera has to score, as `raysvq.scoring` takes them: a local file per camera."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raysvq.errors import DataError, RaysvqError
from raysvq.fleet.planning.joining import NEW, RETRY
from raysvq.results import Snapshot, read_snapshot
from raysvq.results.done import find_done
from raysvq.scoring.pending import NO_VALUE, SCHEMA, Pending, replaced_files
from raysvq.tables import ROW_GROUP, database

LOOKED_UP_AT_ONCE = 4  # cameras with images whose committed rows are replaced

_WANTED = "copy (select image_id, uri from pending where rescored) to $path (format parquet)"
_ORDERED = "select * from work order by camera, date, uri"
# An image that was committed has no row any more where its retention has ended.
_RESCORED = """
select p.* replace (d.image_id is not null as rescored) from pending p left join done d
on d.image_id = p.image_id order by p.folder, p.uri
"""


@dataclass(frozen=True)
class Target:
    """Where the rows of a camera are to be committed."""

    scores: str  # its score directory
    version: int  # of its newest commit
    listed: int  # images in its window


def write_pending(
    work: Path,
    targets: Mapping[str, Target],
    group_by: Callable[[str], str | None],
    folder: Path,
    moved: bool,
) -> dict[str, Pending | RaysvqError]:
    """Write what is to be scored, camera by camera; memory does not grow with the images.

    Args:
        work: what `raysvq.fleet.planning.joining` found to be scored.
        targets: the cameras to write; rows of others are passed over.
        group_by: camera -> what its model decides by.
        folder: a local one.
        moved: images that seem new may have committed rows, too.

    Returns:
        The rows of each camera, or why there are none.
    """
    place = folder / "pending"
    place.mkdir(exist_ok=True)
    found: dict[str, Pending | RaysvqError] = {}
    with database(folder, work=[work]) as connection:
        reader = connection.sql(_ORDERED).to_arrow_reader(ROW_GROUP)
        for name, batches in _by_camera(reader):
            if name not in targets:
                for _ in batches:
                    pass
                continue
            path = place / f"{len(found):06d}.parquet"
            try:
                found[name] = _write(path, name, batches, targets[name], group_by, moved)
            except RaysvqError as error:
                found[name] = error
                for _ in batches:
                    pass
    again = [name for name, each in found.items() if isinstance(each, Pending) and each.rescored]
    with ThreadPoolExecutor(LOOKED_UP_AT_ONCE) as pool:
        looked_up = pool.map(lambda name: _with_committed(found[name], targets[name]), again)
        found |= zip(again, looked_up, strict=True)
    return found


def _by_camera(reader: pa.RecordBatchReader) -> Iterator[tuple[str, Iterator[pa.RecordBatch]]]:
    """The rows of each camera; they come in order. Each camera's are to be read before the next one's."""
    pieces = _pieces(reader)
    waiting = next(pieces, None)
    while waiting is not None:
        name = waiting[0]

        def batches(name: str = name) -> Iterator[pa.RecordBatch]:
            nonlocal waiting
            while waiting is not None and waiting[0] == name:
                batch = waiting[1]
                waiting = next(pieces, None)
                yield batch

        yield name, batches()


def _pieces(reader: pa.RecordBatchReader) -> Iterator[tuple[str, pa.RecordBatch]]:
    for batch in reader:
        encoded = batch["camera"].dictionary_encode()
        numbers = encoded.indices.to_numpy()
        starts = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), batch.num_rows]
        for start, end in pairwise(starts):
            if end > start:
                yield encoded.dictionary[int(numbers[start])].as_py(), batch.slice(start, end - start)


def _write(
    path: Path,
    name: str,
    batches: Iterator[pa.RecordBatch],
    target: Target,
    group_by: Callable[[str], str | None],
    moved: bool,
) -> Pending:
    key, any_of = group_by(name), moved and target.version > 0
    totals: Counter[str] = Counter()
    with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
        for batch in batches:
            rows = _rows(batch, key, any_of)
            totals["images"] += rows.num_rows
            totals["size_bytes"] += pc.sum(rows["size_bytes"]).as_py()
            totals["rescored"] += pc.sum(rows["rescored"]).as_py()
            totals["retried"] += pc.sum(pc.equal(batch["why"], RETRY)).as_py()
            totals["grouped"] += rows.num_rows - rows["decision_group"].null_count
            writer.write_table(rows)
    if key is not None and not totals.pop("grouped"):
        raise DataError(
            f"setting `decision.group_by`: no image of camera {name} has {key!r}; expected a field of the"
            " template of its images"
        )
    return Pending(
        path=path,
        images=totals["images"],
        size_bytes=totals["size_bytes"],
        rescored=totals["rescored"],
        done=target.listed - totals["images"],
        retried=totals["retried"],
        version=target.version,
    )


def _rows(batch: pa.RecordBatch, key: str | None, any_of: bool) -> pa.Table:
    """Rows of SCHEMA; all that are not new, or any of them, are taken to have committed rows."""
    count = batch.num_rows
    groups = (
        [None] * count if key is None else [dict(meta or ()).get(key) for meta in batch["meta"].to_pylist()]
    )
    days = pc.fill_null(pc.strftime(batch["date"], format="%Y-%m-%d"), NO_VALUE)
    more = {
        "keeps_map": pa.array([False] * count),
        "decision_group": pa.array(groups, pa.string()),
        "rescored": pc.or_(pc.not_equal(batch["why"], NEW), any_of),
        "folder": pc.binary_join_element_wise(pa.scalar("date"), days, "="),
    }
    columns = [more[field.name] if field.name in more else batch[field.name] for field in SCHEMA]
    return pa.Table.from_arrays(
        [column.cast(field.type) for column, field in zip(columns, SCHEMA, strict=True)], schema=SCHEMA
    )


def _with_committed(pending: Pending | RaysvqError, target: Target) -> Pending | RaysvqError:
    """With the files that hold the committed rows which are to be replaced."""
    if isinstance(pending, RaysvqError):
        return pending
    try:
        snapshot = read_snapshot(target.scores)
        with tempfile.TemporaryDirectory(dir=pending.path.parent) as name:
            return _look_up(snapshot, pending, Path(name))
    except RaysvqError as error:
        return error


def _look_up(snapshot: Snapshot, pending: Pending, folder: Path) -> Pending:
    wanted, rows = folder / "wanted.parquet", folder / "rows.parquet"
    with database(folder, pending=[pending.path]) as connection:
        connection.execute(_WANTED, {"path": str(wanted)})
    done = find_done(snapshot, [wanted], folder)
    with database(folder, pending=[pending.path], done=[done]) as connection:
        rescored = 0
        reader = connection.sql(_RESCORED).to_arrow_reader(ROW_GROUP)
        with pq.ParquetWriter(rows, SCHEMA, compression="zstd") as writer:
            for batch in reader:
                rescored += pc.sum(batch["rescored"]).as_py()
                writer.write_table(pa.Table.from_batches([batch]).cast(SCHEMA))
    rows.replace(pending.path)
    return replace(pending, rescored=rescored, replaces=replaced_files(snapshot, pending.path, folder))
