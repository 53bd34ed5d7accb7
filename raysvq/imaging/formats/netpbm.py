"""PBM, PGM, PPM and PAM, as text or binary (netpbm.sourceforge.net/doc): any full scale up to 65535.

No library handles every full scale: OpenCV and libvips leave samples as they are,
Pillow brings colour to 8 bits.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt

from raysvq.imaging.header import Header, Pixels, to_full_scale
from raysvq.imaging.rejection import DecodeError

_NUMBER = re.compile(rb"(?:\s|#[^\n\r]*[\n\r])*(\d{1,10})")
_FIELD = re.compile(rb"(?m)^\s*(WIDTH|HEIGHT|DEPTH|MAXVAL)\s+(\d{1,10})\s*$")
_COMMENT = re.compile(rb"#[^\n\r]*")
_PAM_END = b"\nENDHDR\n"


def read_header(content: bytes) -> Header:
    """Raises DecodeError where the file is damaged in its header, or holds floats."""
    if content[:2] in (b"Pf", b"PF"):
        raise DecodeError("unsupported", "PPM: PFM, which holds floats")
    (width, height, channels, full), _ = _layout(content)
    return Header("PPM", width, height, 1 if channels < 3 else 3, full, whole="PPM")


def decode(content: bytes, header: Header) -> Pixels:
    """Raises DecodeError where the file is cut off, or a sample is larger than the file's full scale."""
    (width, height, channels, full), at = _layout(content)
    magic, count = content[:2], width * height * channels
    if magic == b"P4":
        rows = _binary(content, at, height * -(-width // 8), np.dtype(np.uint8)).reshape(height, -1)
        samples = np.unpackbits(rows, axis=1, count=width)
    elif magic in (b"P1", b"P2", b"P3"):
        samples = _text(content[at:], count, bits=magic == b"P1")
    else:
        samples = _binary(content, at, count, np.dtype(np.uint8 if full < 256 else ">u2"))
    pixels = to_full_scale(samples.reshape(height, width, channels), full)
    if magic in (b"P1", b"P4"):
        pixels = np.uint8(255) - pixels  # 1 is black
    return pixels[..., 0] if channels < 3 else pixels[..., :3]


def _layout(content: bytes) -> tuple[tuple[int, int, int, int], int]:
    """(width, height, channels, full scale), and where the samples start."""
    magic = content[:2]
    if magic == b"P7":
        end = content.find(_PAM_END)
        fields = {name: int(value) for name, value in _FIELD.findall(content[: max(end, 0)])}
        layout = tuple(fields.get(name, 0) for name in (b"WIDTH", b"HEIGHT", b"DEPTH", b"MAXVAL"))
        at = end + len(_PAM_END)
    else:
        numbers, at = [], 2
        for _ in range(2 if magic in (b"P1", b"P4") else 3):
            found = _NUMBER.match(content, at)
            if not found:
                raise DecodeError("corrupt", "PPM: damaged or cut off in its header")
            numbers.append(int(found[1]))
            at = found.end()
        layout = (*numbers[:2], 3 if magic in (b"P3", b"P6") else 1, *(numbers[2:] or [1]))
        at += 1  # one white space
    width, height, channels, full = layout
    if not width or not height or not 1 <= channels <= 4 or not 1 <= full <= 65535:
        raise DecodeError("corrupt", "PPM: damaged in its header")
    return (width, height, channels, full), at


def _binary(content: bytes, at: int, count: int, kind: np.dtype[Any]) -> npt.NDArray[Any]:
    size = count * kind.itemsize
    if content[at - 1 : at + 1] == b"\r\n" and len(content) == at + 1 + size:
        at += 1  # a line's end as Windows writes it
    if len(content) < at + size:
        raise DecodeError("corrupt", "PPM: cut off in its pixels")
    return np.frombuffer(content, kind, count, at).astype(kind.newbyteorder("="), copy=False)


def _text(text: bytes, count: int, bits: bool) -> npt.NDArray[Any]:
    plain = _COMMENT.sub(b" ", text)
    if bits:  # need no space between them
        samples = np.frombuffer(b"".join(plain.split()), np.uint8, count).astype(np.int64) - ord("0")
    else:
        samples = np.array(plain.split(maxsplit=count)[:count]).astype(np.int64)
    if len(samples) < count or samples.min(initial=0) < 0 or samples.max(initial=0) > 65535:
        raise DecodeError("corrupt", "PPM: cut off or damaged in its pixels")
    return samples.astype(np.uint16)
