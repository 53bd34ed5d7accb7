"""Read and check every mask of a set, before training and evaluation rely on them."""

from __future__ import annotations

import hashlib
import statistics
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field

import numpy as np

from raysvq.data.manifest import Row, chunks
from raysvq.errors import DataError
from raysvq.imaging.decode import DecodeError, open_header
from raysvq.imaging.mask_file import mask_size
from raysvq.imaging.masks import decode_mask
from raysvq.schema import ANOMALOUS, NORMAL
from raysvq.storage import read_bytes

OVER_HALF = "mark more than half of their image (are they inverted? Black, or 0, is no defect)"
EVERYTHING = "mark all of their image"
SHARED = "have the same marks as the mask of another image"
TURNED = "are not turned by an EXIF orientation as their image is"

READERS = 16  # files that are read at the same time
_ANY_SIZE = 2**40  # pixels: no limit
_LARGE_PIXELS = 2**24
_LARGE = threading.Lock()  # large masks are decoded one at a time, to bound memory


@dataclass(frozen=True)
class MaskContent:
    """What one mask marks."""

    share: float  # marked pixels / all pixels, 0 to 1
    digest: bytes  # of which pixels are marked
    turned: bool  # its EXIF orientation is not its image's, and the size does not say which is right


@dataclass
class MaskSummary:
    """What the masks of an image set mark, counted as they are read."""

    shares: list[float] = field(default_factory=list)  # marked, 0 to 1, of images that may have a defect
    implausible: dict[str, tuple[int, str]] = field(default_factory=dict)  # what is wrong -> how many, one
    of_normal: int = 0  # masks of normal images, which mark nothing
    unmasked: int = 0  # anomalous images without a mask
    among_images: tuple[str, ...] = ()  # URIs of masks among the images of a folder
    _uses: Counter[bytes] = field(default_factory=Counter)  # digest of marks -> images

    def add(self, mask: str, content: MaskContent) -> None:
        """Count the mask of an image that may have a defect."""
        self.shares.append(content.share)
        self._uses[content.digest] += 1
        kinds = {
            OVER_HALF: 0.5 < content.share < 1,
            EVERYTHING: content.share == 1,
            SHARED: self._uses[content.digest] > 1,
            TURNED: content.turned,
        }
        for kind in (kind for kind, found in kinds.items() if found):
            count, example = self.implausible.get(kind, (0, mask))
            self.implausible[kind] = count + 1, example

    def lines(self) -> list[str]:
        """The summary as lines of text; none where there is nothing to say."""
        lines = []
        if self.shares:
            smallest, median, largest = (of(self.shares) for of in (min, statistics.median, max))
            lines.append(
                f"masks: {len(self.shares)}, marking {_percent(smallest)} to {_percent(largest)} of their"
                f" images, median {_percent(median)}"
            )
        for what, (count, example) in self.implausible.items():
            lines.append(f"warning: {count} of {len(self.shares)} masks {what}, such as {example}")
        if self.of_normal:
            lines.append(f"masks of normal images, which mark nothing, left aside: {self.of_normal}")
        if self.unmasked:
            lines.append(f"anomalous images without a mask: {self.unmasked}; they count as whole images")
        if self.among_images:
            found = self.among_images
            lines.append(f"masks among the images, left out: {len(found)}, such as {found[0]}")
        return lines


@dataclass(frozen=True)
class _File:
    """What the check of a mask needs of its image."""

    content: bytes
    size: tuple[int, int]  # (height, width), upright
    orientation: int  # of EXIF, 1 to 8


def check_masks(rows: Iterable[Row], summary: MaskSummary) -> Iterator[Row]:
    """Yield the rows after reading the mask of every row that has one; the summary counts what they mark.

    The row of a normal image loses its mask, which marks nothing.

    Raises:
        DataError: a mask is missing, unreadable, of another size or the image itself; it marks nothing on an
            anomalous image, or something on a normal one.
    """
    with ThreadPoolExecutor(READERS) as pool:
        for chunk in chunks(rows, 256):
            contents = pool.map(check_mask, [row for row in chunk if row["mask_uri"]])
            for row in chunk:
                if row["mask_uri"] and row["label"] == NORMAL:
                    next(contents)
                    summary.of_normal += 1
                    row["mask_uri"] = None
                elif row["mask_uri"]:
                    summary.add(row["mask_uri"], next(contents))
                elif row["label"] == ANOMALOUS:
                    summary.unmasked += 1
                yield row


def check_mask(row: Row) -> MaskContent:
    """Read the mask of one row. Raises DataError, as `check_masks` does."""
    mask, image = row["mask_uri"], row["uri"]
    if mask == image:
        raise DataError(f"{image} is listed as its own mask")
    of_image = _image(image)
    try:
        content = read_bytes(mask)
        size = mask_size(content)
        if of_image and size != of_image.size:
            raise DataError(_other_size(mask, size, image, of_image.size))
        with _LARGE if size[0] * size[1] > _LARGE_PIXELS else nullcontext():
            marks = decode_mask(content)
        turned = of_image is not None and _turned_apart(of_image, content)
    except (DecodeError, OSError) as error:
        raise DataError(f"mask {mask} of {image} cannot be read: {error}") from None
    if of_image and content == of_image.content and not marks.all():
        raise DataError(f"mask {mask} is a copy of its image {image}")
    if row["label"] == NORMAL and marks.any():
        raise DataError(f"{image} is labelled normal, but has the mask {mask}, which marks a defect")
    if row["label"] == ANOMALOUS and not marks.any():
        raise DataError(
            f"mask {mask} of {image} marks nothing; expected the defect of an anomalous image, or no mask"
        )
    return MaskContent(
        share=float(marks.mean()),
        digest=hashlib.blake2b(np.packbits(marks).tobytes(), digest_size=16).digest(),
        turned=turned,
    )


def _image(uri: str) -> _File | None:
    """None where the image cannot be decoded: scoring will reject it with a reason."""
    try:
        content = read_bytes(uri)
        header = open_header(content, _ANY_SIZE)
        return _File(content, header.size, header.orientation)
    except (DecodeError, OSError):
        return None


def _turned_apart(image: _File, mask: bytes) -> bool:
    """Whether image and mask carry different EXIF orientations, and would fit either way."""
    try:
        of_mask = open_header(mask, _ANY_SIZE).orientation
    except DecodeError:  # masks may have formats that images may not; those have no EXIF
        of_mask = 1
    square = image.size[0] == image.size[1]
    return image.orientation != of_mask and (square or max(image.orientation, of_mask) < 5)


def _other_size(mask: str, size: tuple[int, int], image: str, expected: tuple[int, int]) -> str:
    turned = "; was the image turned by its EXIF orientation, or the mask?" if size == expected[::-1] else ""
    return (
        f"mask of another size: {mask} is {size[1]} x {size[0]} pixels,"
        f" its image {image} {expected[1]} x {expected[0]}{turned}"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
