"""Image files written by hand, of kinds that no encoder at hand writes."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from PIL import Image

Array = np.ndarray[Any, Any]
Tag = tuple[int, Sequence[int]]  # type, values
_SIZES = {1: "B", 3: "H", 4: "I", 6: "b", 7: "B", 8: "h", 16: "Q"}
BYTE, SHORT, LONG, UNDEFINED = 1, 3, 4, 7


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Through Pillow."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def packed(samples: Array, bits: int, order: str = "<") -> bytes:
    """(H, ...) -> rows of samples of so many bits; those that fill no bytes run on within a row."""
    if bits % 8 == 0:
        return samples.astype(f"{order}u{bits // 8}").tobytes()
    rows = samples.reshape(len(samples), -1, 1).astype(np.uint64)
    ones = rows >> np.arange(bits - 1, -1, -1, dtype=np.uint64) & np.uint64(1)
    return np.packbits(ones.astype(np.uint8).reshape(len(samples), -1), axis=1).tobytes()


def directory(order: str, tags: Mapping[int, Tag], big: bool = False) -> bytes:
    """A TIFF header and its first directory, at its place, with what does not fit behind it."""
    count, offset, room = ("Q", "Q", 8) if big else ("H", "I", 4)
    mark = b"II" if order == "<" else b"MM"
    head = struct.pack(order + "HHHQ", 43, 8, 0, 16) if big else struct.pack(order + "HI", 42, 8)
    entries, behind = struct.pack(order + count, len(tags)), b""
    place = 2 + len(head) + len(entries) + (20 if big else 12) * len(tags) + room
    for tag, (kind, values) in sorted(tags.items()):
        data = struct.pack(f"{order}{len(values)}{_SIZES[kind]}", *values)
        if len(data) > room:
            at, data = place + len(behind), data + b"\0" * (len(data) % 2)
            behind += data
            data = struct.pack(order + offset, at)
        entries += struct.pack(order + "HH" + offset, tag, kind, len(values)) + data.ljust(room, b"\0")
    return mark + head + entries + bytes(room) + behind


def tiff(
    samples: Array,
    bits: int,
    photometric: int | None = None,
    *,
    order: str = "<",
    big: bool = False,
    deflated: bool = False,
    tags: Mapping[int, Tag] | None = None,
) -> bytes:
    """One strip of (H, W[, C]) samples; `tags` are added, or put in place of those that belong there."""
    height, width = samples.shape[:2]
    channels = 1 if samples.ndim == 2 else samples.shape[2]
    data = packed(samples, bits, order)
    data = zlib.compress(data) if deflated else data
    known: dict[int, Tag] = {
        256: (LONG, [width]),
        257: (LONG, [height]),
        258: (SHORT, [bits] * channels),
        259: (SHORT, [8 if deflated else 1]),
        262: (SHORT, [(1 if channels < 3 else 2) if photometric is None else photometric]),
        273: (LONG, [0]),
        277: (SHORT, [channels]),
        278: (LONG, [height]),
        279: (LONG, [len(data)]),
    } | dict(tags or {})
    known[273] = (LONG, [len(directory(order, known, big))])
    return directory(order, known, big) + data


def chunk(kind: bytes, data: bytes, sound: bool = True) -> bytes:
    """Of a PNG; its checksum is wrong where it is not `sound`."""
    checksum = zlib.crc32(kind + data) ^ (not sound)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def png(samples: Array, bits: int, colour: int, before: bytes = b"", after: bytes = b"") -> bytes:
    """(H, W[, C]) samples, with more chunks before and after the pixels."""
    height, width = samples.shape[:2]
    rows = packed(samples, bits, ">")
    length = len(rows) // height
    filtered = b"".join(b"\0" + rows[at : at + length] for at in range(0, len(rows), length))
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + before + chunk(b"IDAT", zlib.compress(filtered)) + after
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def jpeg2000(samples: Array, bits: int, bare: bool = False, signed: bool = False) -> bytes:
    """(H, W[, 3]), lossless: written at 16 bits, around the same middle, and then said to have fewer."""
    moved = (samples.astype(np.int64) + 2**15 - 2 ** (bits - 1)).astype(np.uint16)
    lossless = (cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000)
    content = bytearray(cv2.imencode(".jp2", moved[..., ::-1] if moved.ndim == 3 else moved, lossless)[1])
    start, depth = content.index(b"\xff\x4f\xff\x51"), bits - 1 + 0x80 * signed
    (count,) = struct.unpack_from(">H", content, start + 40)
    for component in range(count):
        content[start + 42 + 3 * component] = depth
    content[content.index(b"ihdr") + 14] = depth
    return bytes(content[start:] if bare else content)


def bmp(samples: Array, bits: int, masks: Sequence[int] = (), palette: bytes = b"") -> bytes:
    """(H, W) samples of 8, 16 or 32 bits; with masks, as bit fields."""
    height, width = samples.shape
    rows = [row.astype(f"<u{bits // 8}").tobytes() for row in samples[::-1]]
    data = b"".join(row.ljust(-(-len(row) // 4) * 4, b"\0") for row in rows)
    fields = b"".join(struct.pack("<I", mask) for mask in masks)
    start = 54 + len(fields) + len(palette)
    info = (40, width, height, 1, bits, 3 if masks else 0, len(data), 0, 0, len(palette) // 4, 0)
    head = b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + struct.pack("<IiiHHIIiiII", *info)
    return head + fields + palette + data


def segment(marker: int, data: bytes) -> bytes:
    """Of a JPEG."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def exif(kind: int, values: Sequence[int], order: str = "<") -> bytes:
    """EXIF data that holds an orientation of this type, and nothing else."""
    return b"Exif\0\0" + directory(order, {0x0112: (kind, values)})
