"""Every mask of a set, read whole before anything learns or is measured by it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np

from raysvq.data.manifest import Row, chunks
from raysvq.data.masks.summary import MaskLook, MaskTally
from raysvq.errors import DataError
from raysvq.imaging.decode import DecodeError, open_header
from raysvq.imaging.mask_file import mask_size
from raysvq.imaging.masks import decode_mask
from raysvq.schema import ANOMALOUS, NORMAL
from raysvq.storage import read_bytes

READERS = 16
_ANY_SIZE = 2**40
_LARGE_PIXELS = 2**24
_LARGE = threading.Lock()  # large masks are decoded one at a time, whole


@dataclass(frozen=True)
class _File:
    """An image as far as its mask is concerned."""

    content: bytes
    size: tuple[int, int]  # (height, width), upright
    orientation: int  # EXIF's


def checked(rows: Iterable[Row], tally: MaskTally) -> Iterator[Row]:
    """Read the mask of every row that has one, a few files at once; the tally counts what they mark.

    The mask of a normal image, which marks nothing, is left aside.

    Raises:
        DataError: a mask is missing, unreadable, of another size, the image itself, marks nothing of an
            anomalous image, or something of a normal one.
    """
    with ThreadPoolExecutor(READERS) as pool:
        for chunk in chunks(rows, 256):
            looks = pool.map(look, [row for row in chunk if row["mask_uri"]])
            for row in chunk:
                if row["mask_uri"] and row["label"] == NORMAL:
                    next(looks)
                    tally.of_normal += 1
                    row["mask_uri"] = None
                elif row["mask_uri"]:
                    tally.add(row["mask_uri"], next(looks))
                elif row["label"] == ANOMALOUS:
                    tally.unmasked += 1
                yield row


def look(row: Row) -> MaskLook:
    """Read the mask of one row. Raises DataError, as `checked` does."""
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
    return MaskLook(
        share=float(marks.mean()),
        marks=hashlib.blake2b(np.packbits(marks).tobytes(), digest_size=16).digest(),
        turned=turned,
    )


def _image(uri: str) -> _File | None:
    """None where scoring will reject the image with its reason."""
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
    except DecodeError:  # of a type that images may not have; those carry none
        of_mask = 1
    square = image.size[0] == image.size[1]
    return image.orientation != of_mask and (square or max(image.orientation, of_mask) < 5)


def _other_size(mask: str, size: tuple[int, int], image: str, expected: tuple[int, int]) -> str:
    turned = "; was the image turned by its EXIF orientation, or the mask?" if size == expected[::-1] else ""
    return (
        f"mask of another size: {mask} is {size[1]} x {size[0]} pixels,"
        f" its image {image} {expected[1]} x {expected[0]}{turned}"
    )
