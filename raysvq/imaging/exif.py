"""TIFF directories, as in TIFF files and EXIF data, and the orientation in them.

Damage here never makes an image unreadable: a damaged entry is left out.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from raysvq.imaging.header import Pixels


@dataclass(frozen=True)
class Entry:
    """The integers of a tag."""

    kind: int  # TIFF 6.0, section 2
    count: int
    values: tuple[int, ...]  # at most _MAX_VALUES


Tags = dict[int, Entry]

ORIENTATION = 0x0112
_HEADERS = {b"II*\0": "<", b"MM\0*": ">", b"II+\0": "<", b"MM\0+": ">"}
_BIG = (b"II+\0", b"MM\0+")
# TIFF 6.0, section 2: whole numbers by type; 7, UNDEFINED, holds bytes.
_NUMBERS = {1: "B", 3: "H", 4: "I", 6: "b", 7: "B", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
_MAX_VALUES = 16  # values read per tag


@dataclass(frozen=True)
class Directory:
    """Location of the entries of the first directory."""

    order: str  # byte order for `struct`
    big: bool  # BigTIFF
    entries: range  # offsets of the entries


def find_directory(content: bytes) -> Directory | None:
    """Find the first directory of a classic or BigTIFF file. Entries that are cut off are left out."""
    order, big = _HEADERS.get(content[:4]), content[:4] in _BIG
    if order is None:
        return None
    try:
        (start,) = struct.unpack_from(order + ("Q" if big else "I"), content, 8 if big else 4)
        (count,) = struct.unpack_from(order + ("Q" if big else "H"), content, start)
    except struct.error:
        return None
    first, length = (start + 8, 20) if big else (start + 2, 12)
    return Directory(order, big, range(first, min(first + count * length, len(content) - length + 1), length))


def read_tags(content: bytes) -> Tags:
    """The tags of the first directory that hold whole numbers; {} without a directory."""
    found = find_directory(content)
    tags: Tags = {}
    if found is None:
        return tags
    for at in found.entries:
        tag, kind = struct.unpack_from(found.order + "HH", content, at)
        entry = _entry(content, at, found.order, kind, found.big)
        if entry and tag not in tags:
            tags[tag] = entry
    return tags


def _entry(content: bytes, at: int, order: str, kind: int, big: bool) -> Entry | None:
    """The entry at offset `at`; None where it cannot be read, or holds no integers."""
    number = _NUMBERS.get(kind)
    if number is None:
        return None
    offset, inline = ("Q", 8) if big else ("I", 4)
    (count,) = struct.unpack_from(order + offset, content, at + 4)
    place = at + 4 + inline
    if count * struct.calcsize(order + number) > inline:
        (place,) = struct.unpack_from(order + offset, content, place)
    try:
        values = struct.unpack_from(f"{order}{min(count, _MAX_VALUES)}{number}", content, place)
    except struct.error:
        return None
    return Entry(kind, count, values) if values else None


def orientation(tags: Tags) -> int:
    """EXIF 2.32, tag 0x0112: 1 is upright, and so is what states no valid one.

    Any type of whole number counts: some cameras write a byte, or two.
    """
    entry = tags.get(ORIENTATION)
    value = next((value for value in entry.values if value), 1) if entry else 1
    return value if 1 <= value <= 8 else 1


def exif_orientation(exif: bytes) -> int:
    """`orientation` of EXIF data, with or without the name in front that JPEG wants."""
    return orientation(read_tags(exif.removeprefix(b"Exif\0\0")))


def upright(pixels: Pixels, turned: int) -> Pixels:
    """Turn (H, W[, C]) pixels upright."""
    if turned in (5, 6, 7, 8):
        pixels = np.swapaxes(pixels, 0, 1)
    if turned in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if turned in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels
