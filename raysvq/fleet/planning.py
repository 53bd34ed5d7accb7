"""What a night has to do: what was listed against what the ledger knows, all cameras at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import pyarrow as pa

from raysvq.fleet.cameras import Camera
from raysvq.fleet.listing import Listing
from raysvq.scoring.pending import Pending


@dataclass(frozen=True)
class CameraPlan:
    """What one camera has to do."""

    camera: Camera
    listed: int = 0  # images in its window
    new: int = 0
    replaced: int = 0  # known, and another file now, or back after it was gone
    deleted: int = 0  # known, and gone
    retried: int = 0  # rejected before for reasons outside the image
    last_image: datetime | None = None  # when the newest of the window was taken, or written
    version: int = 0  # up to which all commits of the camera are in the ledger, as far as it was looked at
    pending: Pending | None = None  # what is to be scored; None: nothing, or not possible
    failure: str | None = None  # why something is not listed or planned; what is pending can be scored


@dataclass(frozen=True)
class NightPlan:
    """What all cameras have to do."""

    cameras: Mapping[str, CameraPlan]  # by name
    deleted: Path  # local Parquet file: rows of ENTRIES that say which images are gone

    def deletions(self) -> Iterator[pa.Table]:
        """Rows for `append_entries`."""
        raise NotImplementedError


def plan_night(
    out: str,
    listing: Listing,
    since: Callable[[str], date],
    until: date,
    known: Mapping[str, int],
    group_by: Callable[[Camera], str | None],
    folder: Path,
) -> NightPlan:
    """Compare what was listed with the ledger, and write what is to be scored, camera by camera.

    Where a camera's commits are ahead of the ledger, as after a kill, it is caught up first. Memory does not
    grow with the images, nor with the history: entries of other dates are not looked at.

    Args:
        out: the fleet's folder.
        since: first day that was listed of a camera, by its name.
        until: last day that was listed.
        known: camera -> version of its scores up to which all entries were written, as its last nights say.
        group_by: what the model of a camera decides by, see raysvq.data.decision_group. Asked only of cameras
            with something to score; a RaysvqError that it raises is that camera's failure.
        folder: a local one, for the rows to be scored.

    Raises:
        DataError: two cameras claim one image, or a later version of raysvq wrote the ledger.
        StorageError: the ledger cannot be read or written.
    """
    raise NotImplementedError
