"""JPEG (ITU-T T.81) of 8 bits, through simplejpeg; in bands through libvips.

A decoder's complaint rejects the image, unless it is of bytes that belong to nothing. Those are taken
out, and what is left must decode without a complaint.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from raysvq.imaging.bands import Bands
from raysvq.imaging.exif import exif_orientation, upright
from raysvq.imaging.header import Header, Pixels
from raysvq.imaging.rejection import DecodeError

_SPACES = {1: "GRAY", 3: "RGB", 4: "CMYK"}
_SOI, _EOI, _SOS, _APP0, _APP1, _APP14 = b"\xff\xd8", 0xD9, 0xDA, 0xE0, 0xE1, 0xEE
_SCAN = 0  # pseudo marker of the entropy-coded data behind a scan's header
_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
_READ = {0xC0: "baseline", 0xC1: "extended", 0xC2: "progressive", 0xC9: "arithmetic", 0xCA: "arithmetic"}
_NEEDED = {*range(0xC0, 0xE0), _APP14}
_MARKER = re.compile(rb"\xff[\xc0-\xc7\xc9-\xcf\xd9-\xef\xf7\xfe]")
_AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
# Zeros between the last whole byte of a scan, or of a part of one, and the marker that ends it.
_PADDING = re.compile(rb"(?:(?<=[^\xff\x00])|(?<=\xff\x00))\x00+(?=\xff+[\xd0-\xd7]|\Z)", re.DOTALL)
_UNREAD = re.compile(r"(\d+) extraneous bytes before marker 0x([0-9a-f]{2})")
_ROUNDS = 2  # a decoder that reads ahead complains of some bytes only when the others are gone
_MAX_UNREAD = 16  # bytes at a scan's end; damage usually leaves more


def read_header(content: bytes) -> Header:
    """Raises DecodeError where the file is damaged in its header, or of a kind that is not read."""
    turned = 1
    for marker, start, end in _segments(content):
        segment = content[start + 4 : end]
        if marker == _APP1 and segment.startswith(b"Exif\0\0") and turned == 1:
            turned = exif_orientation(segment)
        if marker in _FRAMES and len(segment) >= 6:
            return _header(marker, segment, turned)
        if marker == _SOS:
            break
    raise DecodeError("corrupt", "JPEG: damaged or cut off in its header")


def decode(content: bytes, header: Header) -> Pixels:
    """Raises DecodeError where the file is cut off or damaged."""
    space = _space(content)
    try:
        _, samples = _read(content, space, 1)
    except ValueError:
        if space == "CMYK" or _is_known_to_simplejpeg(content):
            raise
        return upright(open_bands(content, header).read(header.height), header.orientation)
    if samples.shape[:2] != (header.height, header.width):
        raise DecodeError("corrupt", "JPEG: its headers tell of different sizes")
    if samples.shape[2] == 4:  # inverted, as Adobe writes it, and all others do
        samples = np.asarray(Image.fromarray(255 - samples, "CMYK").convert("RGB"))
    pixels = samples[..., 0] if header.channels == 1 else samples
    return upright(pixels, header.orientation)


def open_bands(content: bytes, header: Header) -> Bands:
    """The whole file is read once before, at an eighth of its size. Raises DecodeError, as `decode` does."""
    try:
        sound, _ = _read(content, _space(content), 8)
    except ValueError:
        if _is_known_to_simplejpeg(content):
            raise
        sound = _needed(content)
    return Bands(sound, header, lambda: _needed(sound))


def _header(marker: int, frame: bytes, turned: int) -> Header:
    bits, components = frame[0], frame[5]
    height, width = int.from_bytes(frame[1:3]), int.from_bytes(frame[3:5])
    if marker not in _READ or bits != 8:
        raise DecodeError("unsupported", f"JPEG of {bits} bits, process SOF{marker & 15}")
    if components not in _SPACES:
        raise DecodeError("unsupported", f"JPEG of {components} components")
    if not height or not width:
        raise DecodeError("unsupported", f"JPEG that states a size of {width} x {height} pixels")
    whole = f"JPEG of EXIF orientation {turned}" if turned > 1 else None
    if components == 4:
        whole = "JPEG in CMYK"
    if _READ[marker] != "baseline" and marker != 0xC1:
        whole = f"{_READ[marker]} JPEG"
    return Header("JPEG", width, height, 1 if components == 1 else 3, 255, turned, whole)


def _space(content: bytes) -> str:
    frame = next(start for marker, start, _ in _segments(content) if marker in _FRAMES)
    return _SPACES[content[frame + 9]]


def _read(content: bytes, space: str, shrink: int) -> tuple[bytes, npt.NDArray[Any]]:
    """The file as it decodes without a complaint, and its samples. Raises ValueError with the complaint."""
    failure = None
    for sound in _mended(content):
        try:
            return sound, _strictly(sound, space, shrink)
        except ValueError as error:
            failure = error
    assert failure is not None
    tries = [(sound, str(failure))]
    for _ in range(_ROUNDS):
        cuts = [cut for tried, complaint in tries for cut in _without_unread_bytes(tried, complaint)]
        tries = []
        for cut in cuts:
            try:
                return cut, _strictly(cut, space, shrink)
            except ValueError as error:
                tries.append((cut, str(error)))
    raise failure


def _mended(content: bytes) -> Iterator[bytes]:
    yield content
    yield _needed(content)
    yield _needed(content, padding=False)


def _strictly(content: bytes, space: str, shrink: int) -> npt.NDArray[Any]:
    return np.asarray(
        simplejpeg.decode_jpeg(content, space, min_height=1, min_width=1, min_factor=shrink)
        if shrink > 1
        else simplejpeg.decode_jpeg(content, space)
    )


def _is_known_to_simplejpeg(content: bytes) -> bool:
    """It refuses chroma sampled in unusual ways, which libvips, as strict on damage, reads."""
    try:
        simplejpeg.decode_jpeg_header(_needed(content))
    except ValueError:
        return False
    return True


def _needed(content: bytes, padding: bool = True) -> bytes:
    """Only the segments that the pixels need, with or without zeros at the end of scans or parts of them."""
    parts = [_SOI]
    for marker, start, end in _segments(content):
        part = content[start:end]
        if marker == _SCAN:
            parts.append(part if padding else _PADDING.sub(b"", part))
        elif marker == _APP0 and part[4:9] == b"JFIF\0" and len(part) >= 18:
            parts.append(part[:9] + b"\1\1" + part[11:])  # revisions that do not exist are complained of
        elif marker in _NEEDED:
            parts.append(part)
    return b"".join(parts)


def _without_unread_bytes(content: bytes, complaint: str) -> Iterator[bytes]:
    """The file without the bytes at a scan's end that a decoder complains of, for each scan they may be of.

    Many bytes that differ are no padding: they are what a decoder that lost its way in a scan left unread.
    """
    found = _UNREAD.search(complaint)
    if not found:
        return
    count, marker = int(found[1]), int(found[2], 16)
    for kind, _, end in _segments(content):
        unread = content[end - count : end]
        padding = count <= _MAX_UNREAD or len(set(unread)) == 1
        if kind == _SCAN and padding and content[end + 1 : end + 2] == bytes([marker]):
            yield content[: end - count] + content[end:]


def _segments(content: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, start, end) of each segment and scan up to the end marker; stray bytes lie between them."""
    at = len(_SOI)
    while found := _MARKER.search(content, at):
        start, marker = found.start(), content[found.start() + 1]
        if marker == _EOI:
            yield marker, start, start + 2
            return
        at = start + 2 + max(2, int.from_bytes(content[start + 2 : start + 4]))
        yield marker, start, at
        if marker == _SOS:
            after = _AFTER_SCAN.search(content, at)
            end = after.start() if after else len(content)
            yield _SCAN, at, end
            at = end
