"""JPEG 2000 (ISO/IEC 15444-1), as a file or a bare codestream: Pillow up to 8 bits, OpenCV beyond."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from raysvq.imaging.header import Header, Pixels, to_full_scale
from raysvq.imaging.rejection import DecodeError

_START, _END = b"\xff\x4f\xff\x51", b"\xff\xd9"
_GREY = ("1", "L", "LA", "I;16")
_PLAIN = (*_GREY, "RGB", "RGBA")


@dataclass(frozen=True)
class _Codestream:
    """The SIZ segment (annex A.5.1)."""

    start: int  # offset in the file
    width: int
    height: int
    depths: tuple[int, ...]  # bits per component
    signed: bool
    subsampled: bool


def read_header(content: bytes) -> Header:
    """Raises DecodeError where the file is damaged in its header, or of a kind that is not read."""
    stream = _codestream(content)
    image = _open(content)
    mode = image.mode
    if image.size != (stream.width, stream.height):
        raise DecodeError("corrupt", "JPEG2000: its headers tell of different sizes")
    bits = stream.depths[0]
    problem = None
    if stream.signed:
        problem = "signed samples"
    elif len({*stream.depths}) > 1 or bits > 16:
        problem = f"samples of {' and '.join(map(str, sorted({*stream.depths})))} bits"
    elif bits != 8 and (mode not in _PLAIN or stream.subsampled or len(stream.depths) == 2):
        problem = f"{len(stream.depths)} components of {bits} bits, mode {mode}"
    if problem:
        raise DecodeError("unsupported", f"JPEG2000 with {problem}")
    grey = mode in _GREY
    return Header("JPEG2000", stream.width, stream.height, 1 if grey else 3, 2**bits - 1, whole="JPEG2000")


def decode(content: bytes, header: Header) -> Pixels:
    """Raises DecodeError where the file is cut off or damaged."""
    # Annex A.4.4: no other two bytes of a codestream are equal to its end marker.
    if content.find(_END, _codestream(content).start) < 0:
        raise DecodeError("corrupt", "JPEG2000: cut off before its end marker")
    image = _open(content)
    image.load()  # fails where the file is cut short; of more than 8 bits it loses some
    if header.full > 255:
        return to_full_scale(_with_opencv(content), header.full)
    pixels = np.asarray(image.convert("L" if header.channels == 1 else "RGB"))
    if header.full < 255:  # Pillow moved samples to the top of the byte
        pixels = pixels >> (8 - header.full.bit_length())
    return to_full_scale(pixels, header.full)


def _open(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content), formats=["JPEG2000"])


def _codestream(content: bytes) -> _Codestream:
    start = content.find(_START)
    if start < 0 or len(content) < start + 42:
        raise DecodeError("corrupt", "JPEG2000: damaged or cut off in its header")
    right, bottom, left, top = struct.unpack_from(">4I", content, start + 8)
    (count,) = struct.unpack_from(">H", content, start + 40)
    if not 1 <= count <= 4:
        raise DecodeError("unsupported", f"JPEG2000 of {count} components")
    components = list(struct.iter_unpack("3B", content[start + 42 : start + 42 + 3 * count]))
    return _Codestream(
        start,
        right - left,
        bottom - top,
        tuple((depth & 0x7F) + 1 for depth, _, _ in components),
        signed=any(depth & 0x80 for depth, _, _ in components),
        subsampled=any((across, down) != (1, 1) for _, across, down in components),
    )


def _with_opencv(content: bytes) -> npt.NDArray[Any]:
    samples = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if samples is None or samples.dtype != np.uint16:
        raise DecodeError("corrupt", "JPEG2000: the decoder gave up")
    return np.asarray(samples[..., 2::-1] if samples.ndim == 3 else samples)
