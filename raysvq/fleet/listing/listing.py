"""What lies under the templates of a fleet: images by camera and date.

Only the dates of a window are listed, never the history.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raysvq.data.sources.folder_scan import Skips
from raysvq.errors import RaysvqError
from raysvq.fleet.listing.roster import Roster, Since
from raysvq.fleet.listing.walk import Found, walk
from raysvq.fleet.settings.cameras import Camera
from raysvq.fleet.settings.fleet import Entry, Fleet
from raysvq.schema import SOURCE_FIELDS, TIMESTAMP
from raysvq.storage import exists, image_id
from raysvq.tables import ROW_GROUP, database

LISTED = pa.schema(
    [
        pa.field("camera", pa.string(), nullable=False),
        pa.field("date", pa.date32()),  # of the folder or name; null where the template has none
        *SOURCE_FIELDS,
        pa.field("captured_at", TIMESTAMP),  # null where the template has no time of the day
        pa.field("meta", pa.map_(pa.string(), pa.string())),  # the camera's fields
    ]
)

_TWICE = """
with twice as (select hash(image_id) as key from listed group by key having count(*) > 1)
select names, count(*), any_value(uri) from (
    select list_sort(list(distinct camera)) as names, any_value(uri) as uri
    from listed where hash(image_id) in (from twice) group by image_id having count(*) > 1
) group by names
"""


@dataclass(frozen=True)
class Listing:
    """What was found.

    Each image is in the table once. A camera in `cameras` without a failure was listed in full: an image of
    its window that is known and not in the table is gone. Of a camera with a failure some images may be in
    the table. Of a camera that is not in `cameras` nothing is known.
    """

    path: Path  # local Parquet file of LISTED rows, in no order
    cameras: Mapping[str, Camera]
    images: Mapping[str, int]  # camera -> rows
    failures: Mapping[str, str]  # camera's name, or prefix whose cameras are not known -> why
    skips: Skips  # what is there and no image


def named(what: str, why: str) -> str:
    """A failure as a sentence that names its camera or prefix once."""
    return why if why.startswith(what) else f"{what}: {why}"


def list_fleet(fleet: Fleet, since: Since, until: date, folder: Path, only: Sequence[str] = ()) -> Listing:
    """List the images of all cameras, many prefixes at once, in memory that does not grow with their number.

    Args:
        since: first day to list for a camera's name. It is asked of "", too, where the days stand before the
            cameras in a template: of the first day for any.
        until: last day to list.
        folder: a local folder for the table.
        only: patterns of camera names; none: all.

    Raises:
        StorageError: the local folder may not be written. What cannot be listed is a failure.
    """
    roster = Roster(fleet, since, until, only)
    path, skips = folder / "listed.parquet", Skips()
    with _Spool(path) as spool:
        for part in walk(fleet.entries, roster):
            for left in part.left_out:
                if left.cause:
                    skips.add(left.uri, left.cause)
                else:
                    skips.add_file(left.uri)
            spool.add(part.images)
    roster.settle()
    _fail_disputed(roster, path)
    if roster.disputed:
        spool.leave_out(roster.disputed)
    for entry in fleet.entries:
        _fail_absent(roster, entry, spool.images)
    images = {name: spool.images[name] for name in roster.cameras}
    return Listing(path, roster.cameras, images, roster.failures, skips)


class _Spool:
    """Fills a local file with LISTED rows, a row group in memory."""

    def __init__(self, path: Path) -> None:
        self.images: Counter[str] = Counter()  # by camera
        self._path = path
        self._writer = pq.ParquetWriter(path, LISTED, compression="zstd")
        self._waiting: list[pa.RecordBatch] = []

    def __enter__(self) -> _Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._writer.close()

    def add(self, images: Sequence[Found]) -> None:
        if not images:
            return
        self.images.update(image.camera for image in images)
        self._waiting.append(_batch(images))
        if sum(batch.num_rows for batch in self._waiting) >= ROW_GROUP:
            self._flush()

    def leave_out(self, cameras: Collection[str]) -> None:
        """Write the file once more without the rows of some cameras."""
        whole = self._path.rename(self._path.with_suffix(".whole"))
        with pq.ParquetWriter(self._path, LISTED, compression="zstd") as writer:
            for batch in pq.ParquetFile(whole).iter_batches(ROW_GROUP):
                kept = pc.invert(pc.is_in(batch["camera"], pa.array(cameras, pa.string())))
                writer.write_batch(batch.filter(kept))
        whole.unlink()
        for name in cameras:
            self.images[name] = 0

    def _flush(self) -> None:
        self._writer.write_table(pa.Table.from_batches(self._waiting, schema=LISTED))
        self._waiting.clear()


def _batch(images: Sequence[Found]) -> pa.RecordBatch:
    columns = [
        [image.camera for image in images],
        [image.date for image in images],
        [image_id(image.info.uri) for image in images],
        [image.info.uri for image in images],
        [image.info.size_bytes for image in images],
        [image.info.etag for image in images],
        [image.info.mtime for image in images],
        [image.captured_at for image in images],
        [list(image.fields.items()) for image in images],
    ]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, LISTED, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=LISTED)


def _fail_disputed(roster: Roster, path: Path) -> None:
    """Cameras that claim the same images fail, and the others go on."""
    if len(roster.fleet.entries) < 2:  # a template finds an image once
        return
    with database(path.parent, listed=[path]) as connection:
        claims = connection.execute(_TWICE).fetchall()
    for names, images, uri in claims:
        places = " and ".join(f"camera {name!r} (line {roster.entries[name].line})" for name in names)
        why = f"{roster.fleet.file}: {places} claim the same {images:,} image(s), such as {uri}"
        roster.failures |= dict.fromkeys(names, f"{why}; expected each image in one entry")
        roster.disputed.update(names)


def _fail_absent(roster: Roster, entry: Entry, images: Mapping[str, int]) -> None:
    """An entry that found nothing fails where its folder is not there, or nothing in it is a camera's."""
    if entry.camera and entry.camera not in roster.cameras:  # not asked for
        return
    names = [name for name, owner in roster.entries.items() if owner is entry]
    root = entry.template.root
    if any(images[name] or name in roster.failures for name in names) or root in roster.failures:
        return
    what = entry.camera or root
    try:
        if not exists(root):
            roster.failures[what] = f"{root}: no such file, folder or bucket"
        elif not names and not roster.disputed and not entry.template.dates_first:
            roster.failures[what] = f"{root}: no folder or image in it fits {entry.template.text}"
    except RaysvqError as error:
        roster.failures[what] = str(error)
