"""Masks that lie among the images, as some tools leave them: `Part0_label.bmp` beside `Part0.jpg`."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import duckdb

from raysvq.data.manifest import Row, chunks
from raysvq.data.masks.checks import READERS
from raysvq.data.masks.pairing import SUFFIXES
from raysvq.errors import DataError
from raysvq.imaging.decode import DecodeError, image_size
from raysvq.imaging.mask_file import mask_size
from raysvq.imaging.masks import decode_mask
from raysvq.schema import UNKNOWN
from raysvq.storage import is_folder, read_bytes

_TRIED = 32  # files of a kind; where none of them is a mask, the others are not read
_ENDS = f"({'|'.join(map(re.escape, SUFFIXES))})$"
_FOLDERS = r"/((masks?|labels?|gts?|seg)(_?(images?|png))?|ground_?truths?|segmentations?|annotations?)/"

# By name: with a mask's ending; among labelled images, of the same name as another file; in a folder named
# like one of masks.
_QUERY = """
with named as (
    select uri, label, regexp_replace(uri, '\\.[^./]*$', '') as stem,
        lower(regexp_extract(uri, '\\.[^./]*$')) as ending
    from spooled
)
select lower(regexp_extract(mask.stem, $ends, 0, 'i')), true, mask.uri, mask.label, image.uri
from named as mask join named as image
    on image.stem = regexp_replace(mask.stem, $ends, '', 'i') and regexp_matches(mask.stem, $ends, 'i')
union all
select mask.ending, false, mask.uri, mask.label, image.uri
from named as mask join named as image on image.stem = mask.stem and image.uri <> mask.uri
where mask.label <> $unknown and mask.stem in (select stem from named group by stem having count(*) > 1)
union all
select lower(regexp_extract(substr(uri, length($folder) + 1), $folders, 0, 'i')), true, uri, label, null
from named
where $folder is not null and regexp_matches(substr(uri, length($folder) + 1), $folders, 'i')
order by all
"""


@dataclass(frozen=True)
class _Named:
    """A file that may be a mask, by its name."""

    kind: str  # what of its name says so
    telling: bool  # whether that alone makes one of an image that is all black
    uri: str
    label: str
    image: str | None  # that it lies beside


def masks_beside(connection: duckdb.DuckDBPyConnection, source: str) -> tuple[str, ...]:
    """URIs of masks among the images of a plain folder: by name, and by what the files hold.

    Args:
        connection: has the rows as the view `spooled`.

    Raises:
        DataError: there are some among images that have labels, or in a listing.
    """
    folder = source if is_folder(source) else None
    values = {"ends": _ENDS, "folder": folder, "folders": _FOLDERS, "unknown": UNKNOWN}
    cursor = connection.execute(_QUERY, values)
    rows = itertools.chain.from_iterable(iter(lambda: cursor.fetchmany(_TRIED), []))
    named = itertools.groupby((_Named(*row) for row in rows), key=lambda found: found.kind)
    with ThreadPoolExecutor(READERS) as pool:
        masks = [mask for _, kind in named for mask in _of_kind(kind, pool)]
    for mask in masks:
        if mask.label != UNKNOWN or folder is None:
            raise DataError(
                f"{mask.uri} is a mask{f' beside its image {mask.image}' if mask.image else ''}, and stands"
                f" among the images ({len(masks)} such masks); expected masks in ground_truth/<defect>/ of a"
                " tree, or in column mask_uri of a listing"
            )
    return tuple(dict.fromkeys(mask.uri for mask in masks))


def without(rows: Iterable[Row], uris: Iterable[str]) -> Iterator[Row]:
    """The rows of other images."""
    left_out = frozenset(uris)
    return (row for row in rows if row["uri"] not in left_out)


def _of_kind(named: Iterator[_Named], pool: ThreadPoolExecutor) -> Iterator[_Named]:
    """Those that are masks; photographs may be named so too."""
    for number, some in enumerate(chunks(named, _TRIED)):
        shares = zip(some, pool.map(_share, some), strict=True)
        masks = [(found, share) for found, share in shares if share is not None]
        if number == 0 and not any(found.telling or 0 < share < 1 for found, share in masks):
            return
        yield from (found for found, _ in masks)


def _share(found: _Named) -> float | None:
    """What a file marks of the image that it lies beside; None where it is no mask of it."""
    try:
        content = read_bytes(found.uri)
        if found.image is not None and mask_size(content) != image_size(read_bytes(found.image)):
            return None
        return float(decode_mask(content).mean())
    except (DecodeError, OSError):
        return None
