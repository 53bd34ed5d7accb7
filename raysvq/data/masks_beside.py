"""Masks that lie among the images, as some tools leave them: `Part0_label.bmp` beside `Part0.jpg`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb

from raysvq.data.manifest import Row
from raysvq.data.mask_checks import READERS
from raysvq.data.pairing import SUFFIXES
from raysvq.errors import DataError
from raysvq.imaging.decode import DecodeError, image_size
from raysvq.imaging.masks import decode_mask, mask_size
from raysvq.schema import UNKNOWN
from raysvq.storage import is_folder, read_bytes

_ENDS = f"({'|'.join(map(re.escape, SUFFIXES))})$"
_FOLDERS = r"/(masks?|ground_?truths?|gt)/"

_QUERY = """
with named as (
    select uri, label, regexp_replace(uri, '\\.[^./]*$', '') as stem
    from read_parquet($path, hive_partitioning = false)
)
select mask.uri, mask.label, image.uri
from named as mask join named as image
    on image.stem = regexp_replace(mask.stem, $ends, '', 'i') and regexp_matches(mask.stem, $ends, 'i')
union all
select uri, label, null from named
where $folder is not null and regexp_matches(substr(uri, length($folder) + 1), $folders, 'i')
order by 1
"""

_Found = tuple[str, str, str | None]  # what may be a mask, its label, the image that it lies beside


def masks_beside(spooled: Path, source: str) -> tuple[str, ...]:
    """URIs of masks among the images of a plain folder: by name, and by what the files hold.

    Raises:
        DataError: there are some among images that have labels, or in a listing.
    """
    folder = source if is_folder(source) else None
    values = {"path": str(spooled), "ends": _ENDS, "folder": folder, "folders": _FOLDERS}
    named: list[_Found] = duckdb.execute(_QUERY, values).fetchall()
    with ThreadPoolExecutor(READERS) as pool:
        masks = [found for found, is_mask in zip(named, pool.map(_is_mask, named), strict=True) if is_mask]
    for mask, label, image in masks:
        if label != UNKNOWN or folder is None:
            raise DataError(
                f"{mask} is a mask{f' beside its image {image}' if image else ''}, and stands among the"
                f" images ({len(masks)} such masks); expected masks in ground_truth/<defect>/ of a tree, or"
                " in column mask_uri of a listing"
            )
    return tuple(dict.fromkeys(mask for mask, _, _ in masks))


def without(rows: Iterable[Row], uris: Iterable[str]) -> Iterator[Row]:
    """The rows of other images."""
    left_out = frozenset(uris)
    return (row for row in rows if row["uri"] not in left_out)


def _is_mask(found: _Found) -> bool:
    mask, _, image = found
    try:
        content = read_bytes(mask)
        if image is not None and mask_size(content) != image_size(read_bytes(image)):
            return False
        decode_mask(content)
    except (DecodeError, OSError):
        return False
    return True
