"""PNG (ISO/IEC 15948), through libvips.

Samples of less than 8 bits fill their range, alpha is dropped, palettes are expanded. A chunk that is not
needed for the pixels may be damaged.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from raysvq.imaging.bands import Bands
from raysvq.imaging.exif import exif_orientation, upright
from raysvq.imaging.header import Header, Pixels
from raysvq.imaging.rejection import DecodeError

_SIGNATURE = 8  # bytes
_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")


def read_header(content: bytes) -> Header:
    """Raises DecodeError or struct.error where the file is damaged in its header."""
    _, kind, width, height, bits, colour, _, _, interlaced = struct.unpack_from(">I4sIIBBBBB", content, 8)
    if kind == b"CgBI":
        raise DecodeError("unsupported", "PNG of Apple's own kind, with a chunk CgBI")
    if kind != b"IHDR" or not width or not height:
        raise DecodeError("corrupt", "PNG: damaged in its header")
    turned = _orientation(content)
    return Header(
        "PNG",
        width,
        height,
        channels=1 if colour in (0, 4) else 3,
        full=65535 if bits == 16 else 255,
        orientation=turned,
        whole="interlaced PNG" if interlaced else f"PNG of EXIF orientation {turned}" if turned > 1 else None,
    )


def open_bands(content: bytes, header: Header) -> Bands:
    """Raises DecodeError where the file is cut off, damaged, or says that its pixels mean something else."""
    ended = False
    for kind, start, length in _chunks(content):
        if kind == b"IEND":
            ended = start + length + 4 <= len(content)
        elif not kind[0] & 0x20 and kind not in _CRITICAL and _is_sound(content, start, length):
            raise DecodeError("unsupported", f"PNG with a critical chunk {kind.decode('latin-1')}")
    if not ended:
        raise DecodeError("corrupt", "PNG: cut off in its last chunk")
    return Bands(content, header)


def decode(content: bytes, header: Header) -> Pixels:
    """See `open_bands`."""
    return upright(open_bands(content, header).read(header.height), header.orientation)


def _orientation(content: bytes) -> int:
    for kind, start, length in _chunks(content):
        if kind == b"eXIf" and _is_sound(content, start, length):
            return exif_orientation(content[start : start + length])
    return 1


def _chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(type, where its data starts, length) of each chunk up to the end chunk."""
    at = _SIGNATURE
    while at + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        yield kind, at + 8, length
        if kind == b"IEND":
            return
        at += 12 + length


def _is_sound(content: bytes, start: int, length: int) -> bool:
    found = content[start + length : start + length + 4]
    return found == struct.pack(">I", zlib.crc32(content[start - 4 : start + length]))
