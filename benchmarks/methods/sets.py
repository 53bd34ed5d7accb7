"""The image sets, and which of their images show one thing: a place, a part, a photograph.

Images that belong together are one `group` of the manifest, so that no draw has one of them learnt from and
another tested. A listing names groups itself. Of the shared image trees the file names tell.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from raysvq.data.manifest import Row
from raysvq.data.mask_check import MaskSummary, check_masks
from raysvq.data.sources import rows_of
from raysvq.storage import canonical, image_id

SETS = [
    "mvtec_bottle",
    "magnetic_tile",
    "bsd_pitting",
    "kolektor_sdd",
    "crack_forest",
    "cookies",
    "mvtec_leather_256",
]
DATA = Path(os.environ.get("RAYSVQ_DATA", Path(__file__).parents[3] / "shared" / "data"))

_SURFACES = 8  # images of one commutator, numbered in a row


def _matched(pattern: str) -> Callable[[str], str | None]:
    """The first bracket of a pattern, where a file's name begins like it."""
    compiled = re.compile(pattern)

    def find(stem: str) -> str | None:
        found = compiled.match(stem)
        return found[1] if found else None

    return find


GROUPS: dict[str, Callable[[str], str | None]] = {  # set -> file name without suffix -> group
    "bsd_pitting": _matched(r"\d+_\d+_(\d+_\d+)_crop"),  # position and angle on the spindle
    "kolektor_sdd": lambda stem: f"part {int(stem) // _SURFACES}",
    "crack_forest": _matched(r"(\d+)"),  # the photograph that a crop is of
    "mvtec_leather_256": _matched(r"((?:train|test)\d+)_y"),  # the full image that a tile is of
}


def source_of(data: Path, name: str) -> str:
    """What `raysvq index` takes for a set: its folder, an image tree, or the `listing.csv` in it."""
    listing = data / name / "listing.csv"
    return canonical(str(listing if listing.exists() else data / name))


def root_of(data: Path, name: str) -> str:
    """What the URIs of a set start with."""
    return canonical(str(data / name)).rstrip("/") + "/"


def read_set(data: Path, name: str) -> list[Row]:
    """Manifest rows of a set, masks checked, with its groups, and the splits that the source gives.

    Ids are those of paths below the set's folder, so that a copy elsewhere is learnt from in the same order.

    Raises:
        DataError, StorageError: the set cannot be read, or a mask does not fit its image.
    """
    named = GROUPS.get(name, lambda stem: None)
    root = root_of(data, name)
    return [
        row
        | {
            "group": row["group"] or named(PurePosixPath(row["uri"]).stem),
            "image_id": image_id(f"{name}/{row['uri'].removeprefix(root)}"),
        }
        for row in check_masks(rows_of(source_of(data, name)), MaskSummary())
    ]
