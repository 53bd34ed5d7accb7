"""All cameras' images of a night in one join: what was listed with what the ledger knows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa

from raysvq.ledger.records import DELETED
from raysvq.schema import SOURCE_FIELDS
from raysvq.scoring.pending import RETRIED, differs
from raysvq.tables import database

NEW, REPLACED, RETRY = "new", "replaced", "retried"  # why an image is to be scored

_SOURCE = ", ".join(f"l.{field.name}" for field in SOURCE_FIELDS)
_OUTSIDE = ", ".join(f"'{reason}'" for reason in RETRIED)
# Few columns are joined, and the others fetched for what differs alone.
_DIFFERENCES = f"""
create temp table differences as
select coalesce(l.camera, e.camera) as camera, coalesce(l.image_id, e.image_id) as image_id, case
    when l.image_id is null then '{DELETED}'
    when e.image_id is null then '{NEW}'
    when e.outcome = '{DELETED}' or {differs("e", "l")} then '{REPLACED}'
    else '{RETRY}' end as why
from listed l full join entries e on e.image_id = l.image_id and e.camera = l.camera
where l.image_id is null or e.image_id is null or e.outcome in ('{DELETED}', {_OUTSIDE})
or {differs("e", "l")}
"""
_WORK = f"""
copy (
    select l.camera, l.date, {_SOURCE}, l.meta, d.why from listed l semi join cameras using (camera)
    join differences d on d.image_id = l.image_id and d.camera = l.camera
) to $path (format parquet, compression zstd)
"""
_DELETED = f"""
copy (
    select e.* replace (
        '{DELETED}' as outcome, null::boolean as is_anomalous,
        greatest($now, e.committed_at + interval 1 microsecond) as committed_at
    )
    from entries e join cameras c on c.camera = e.camera and c.whole
    and (e.date is null or e.date between c.since and $until)
    join differences d on d.image_id = e.image_id and d.camera = e.camera and d.why = '{DELETED}'
    where e.outcome <> '{DELETED}'
) to $path (format parquet, compression zstd)
"""
_LISTED = """
select camera, count(*) as listed, max(coalesce(captured_at, mtime)) as last_image from listed group by camera
"""
_DATES = "select distinct camera, date from listed"


@dataclass(frozen=True)
class Listed:
    """What was listed, in numbers."""

    images: dict[str, int]  # by camera
    last: dict[str, datetime | None]  # camera -> when its newest image was taken or written
    dates: list[tuple[str, date | None]]  # each camera with each date that it has images of


@dataclass(frozen=True)
class Joined:
    """What differs between the listing and the ledger."""

    work: Path  # local Parquet file: camera, date, columns of an image, meta, why
    deleted: Path  # local Parquet file of rows of ENTRIES
    counts: dict[str, dict[str, int]]  # camera -> images by NEW, REPLACED, RETRY and DELETED

    def cameras(self) -> list[str]:
        """Those with something to score."""
        return sorted(name for name, counts in self.counts.items() if counts.keys() - {DELETED})


def join_listing(
    listed: Path, entries: Path, cameras: pa.Table, until: date, folder: Path, now: datetime | None = None
) -> Joined:
    """Write what is to be scored, and what is gone, to local files; memory does not grow with the images.

    Args:
        listed: rows of raysvq.fleet.listing.listing.LISTED.
        entries: rows of ENTRIES, one of each camera and image.
        cameras: a row of each: `camera`, `since` (first day listed), `whole` (listed without failure).
    """
    work, deleted = folder / "work.parquet", folder / "deleted.parquet"
    with database(folder, listed=[listed], entries=[entries]) as connection:
        connection.register("cameras", cameras)
        connection.execute(_DIFFERENCES)
        connection.execute(_WORK, {"path": str(work)})
        gone = {"path": str(deleted), "now": now or datetime.now(UTC), "until": until}
        connection.execute(_DELETED, gone)
    counts: dict[str, dict[str, int]] = {}
    with database(folder, work=[work], deleted=[deleted]) as connection:
        found = connection.execute(
            f"select camera, why, count(*) from work group by all union all"
            f" select camera, '{DELETED}', count(*) from deleted group by all"
        )
        for camera, why, images in found.fetchall():
            counts.setdefault(camera, {})[why] = images
    return Joined(work, deleted, counts)


def look_at(listed: Path, folder: Path) -> Listed:
    """Count what was listed."""
    with database(folder, listed=[listed]) as connection:
        rows = connection.sql(_LISTED).to_arrow_table().to_pylist()
        dates = connection.execute(_DATES).fetchall()
    return Listed(
        images={row["camera"]: row["listed"] for row in rows},
        last={row["camera"]: row["last_image"] for row in rows},
        dates=dates,
    )
