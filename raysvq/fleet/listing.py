"""What lies under the templates of a fleet: images by camera and date.

Only the dates of a window are listed, never the history.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pyarrow as pa

from raysvq.data.sources.folder_scan import Skips
from raysvq.fleet.cameras import Camera
from raysvq.fleet.settings import Fleet
from raysvq.schema import SOURCE_FIELDS, TIMESTAMP

LISTED = pa.schema(
    [
        pa.field("camera", pa.string(), nullable=False),
        pa.field("date", pa.date32()),  # of the folder or name; null where the template has none
        *SOURCE_FIELDS,
        pa.field("captured_at", TIMESTAMP),  # null where the template has no time of the day
        pa.field("meta", pa.map_(pa.string(), pa.string())),  # the camera's fields
    ]
)


@dataclass(frozen=True)
class Listing:
    """What was found.

    A camera in `cameras` without a failure was listed in full: an image of its window that is known and not
    in the table is gone. Of a camera with a failure some images may be in the table. Of a camera that is not
    in `cameras` nothing is known.
    """

    path: Path  # local Parquet file of LISTED rows, in no order
    cameras: Mapping[str, Camera]
    images: Mapping[str, int]  # camera -> rows
    failures: Mapping[str, str]  # camera's name, or prefix whose cameras are not known -> why
    skips: Skips  # what is there and no image


def list_fleet(
    fleet: Fleet, since: Callable[[str], date], until: date, folder: Path, only: Sequence[str] = ()
) -> Listing:
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
    raise NotImplementedError
