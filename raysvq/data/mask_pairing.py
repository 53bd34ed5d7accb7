"""Pair masks with images: by name in a tree, by name and content in a folder of images."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath

import duckdb

from raysvq.data.manifest import Row, chunks
from raysvq.data.mask_check import READERS
from raysvq.errors import DataError
from raysvq.imaging.decode import DecodeError, image_size
from raysvq.imaging.mask_file import mask_size
from raysvq.imaging.masks import decode_mask
from raysvq.schema import UNKNOWN
from raysvq.storage import is_folder, read_bytes

# Endings of a mask's name after the name of its image, in small letters or capitals.
SUFFIXES = ("_mask", "-mask", ".mask", "_masks", "_gt", "-gt", "_label", "-label", "_labels", "_seg", "-seg")

_TRIED = 32  # files of a kind that are read first; where none of them is a mask, the others are not read
_ENDS = f"({'|'.join(map(re.escape, SUFFIXES))})$"
_FOLDERS = r"/((masks?|labels?|gts?|seg)(_?(images?|png))?|ground_?truths?|segmentations?|annotations?)/"

# Files that may be masks by their names: with the ending of a mask; with the name of another file but its
# extension, where images have labels; in a folder called like one of masks.
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


def image_stem(mask_stem: str) -> str:
    """The name of a mask's image, both without extension: `000_mask`, `000_GT`, `000` -> `000`."""
    lower = mask_stem.lower()
    longest = max((len(end) for end in SUFFIXES if lower.endswith(end)), default=0)
    return mask_stem[: len(mask_stem) - longest]


class Masks:
    """The masks of a tree, each taken by the image that it belongs to."""

    def __init__(self, uris: Iterable[str], folder: str) -> None:
        """Start with no mask taken.

        Args:
            uris: of the masks.
            folder: ground_truth/, below which masks lie as their images lie below train/ or test/.
        """
        self._left: dict[str, None] = {}  # masks without an image so far, in order
        self._named: defaultdict[str, list[str]] = defaultdict(
            list
        )  # image's path without extension -> masks
        self._taken: dict[str, str] = {}  # mask -> image
        self._several: set[str] = set()  # images whose masks lie in a folder with the image's name
        self._folder = folder
        for uri in uris:
            self._left[uri] = None
            stem = self._below(uri)
            for name in {stem, image_stem(stem)}:
                self._named[name].append(uri)
        self._folders = {str(PurePosixPath(self._below(uri)).parent) for uri in self._left}

    def take(self, stem: str, image: str, normal: bool) -> str | None:
        """The mask of an image, None where it has none.

        Args:
            stem: path of the image below train/ or test/, without extension.
            image: URI of the image.
            normal: whether its label is normal; normal images may share an empty mask.

        Raises:
            DataError: there are two masks, or another image has taken this one.
        """
        stem = _normal_form(stem)
        if stem in self._folders:
            self._several.add(stem)
        found = self._named.get(stem, [])
        if len(found) > 1:
            raise DataError(f"two masks for {image}: {found[0]} and {found[1]}; expected one")
        if not found:
            return None
        mask = found[0]
        if not normal and (other := self._taken.setdefault(mask, image)) != image:
            raise DataError(
                f"one mask for two images: {other} and {image}; rename one, or take it out if it is a mask"
            )
        self._left.pop(mask, None)
        return mask

    def require_none_left(self, test: str) -> None:
        """Check that every mask was taken; the error expects its image below the folder `test`.

        Raises:
            DataError: a mask was not taken.
        """
        if not self._left:
            return
        mask, number = next(iter(self._left)), len(self._left)
        stem = self._below(mask)
        expected = image_stem(stem)
        parent = str(PurePosixPath(stem).parent)
        if parent in self._several:
            hint = f"; masks of one image, {test}/{parent}.*, are to be one file"
        elif expected == stem:
            hint = f"; a mask has its image's name, or one of {' '.join(SUFFIXES)} behind it"
        else:
            hint = ""
        raise DataError(
            f"mask without image: {mask} expects an image {test}/{expected}.*"
            + (f" ({number} such masks)" if number > 1 else "")
            + hint
        )

    def _below(self, uri: str) -> str:
        return _normal_form(uri.removeprefix(f"{self._folder}/").removesuffix(PurePosixPath(uri).suffix))


@dataclass(frozen=True)
class _Candidate:
    """A file that may be a mask, by its name."""

    kind: str  # the part of its name that says so
    telling: bool  # whether a file of this kind is a mask even if it is all black
    uri: str
    label: str
    image: str | None  # URI of the image that it lies beside


def masks_among_images(connection: duckdb.DuckDBPyConnection, source: str) -> tuple[str, ...]:
    """URIs of masks among the images of a plain folder, such as `Part0_label.bmp` beside `Part0.jpg`.

    Candidates are found by name; those that decode as masks count.

    Args:
        connection: has the rows as the view `spooled`.
        source: the URI of the folder or listing.

    Raises:
        DataError: masks lie among images that have labels, or a listing names them as images.
    """
    folder = source if is_folder(source) else None
    values = {"ends": _ENDS, "folder": folder, "folders": _FOLDERS, "unknown": UNKNOWN}
    cursor = connection.execute(_QUERY, values)
    rows = itertools.chain.from_iterable(iter(lambda: cursor.fetchmany(_TRIED), []))
    named = itertools.groupby((_Candidate(*row) for row in rows), key=lambda found: found.kind)
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
    """The rows, but for those with these URIs."""
    left_out = frozenset(uris)
    return (row for row in rows if row["uri"] not in left_out)


def _of_kind(named: Iterator[_Candidate], pool: ThreadPoolExecutor) -> Iterator[_Candidate]:
    """The candidates that are masks: photographs may have such names, too."""
    for number, some in enumerate(chunks(named, _TRIED)):
        shares = zip(some, pool.map(_share, some), strict=True)
        masks = [(found, share) for found, share in shares if share is not None]
        if number == 0 and not any(found.telling or 0 < share < 1 for found, share in masks):
            return
        yield from (found for found, _ in masks)


def _share(found: _Candidate) -> float | None:
    """The share of the image that a file marks; None where it is no mask of it."""
    try:
        content = read_bytes(found.uri)
        if found.image is not None and mask_size(content) != image_size(read_bytes(found.image)):
            return None
        return float(decode_mask(content).mean())
    except (DecodeError, OSError):
        return None


def _normal_form(name: str) -> str:
    """One spelling of accented letters: macOS stores another one than it is given."""
    return unicodedata.normalize("NFC", name)
