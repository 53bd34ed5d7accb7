"""Bytes -> pixels, at the depth and with the polarity that the file states.

Eight bits stay eight, other depths fill 8 or 16. Alpha is dropped, palettes are expanded, CMYK becomes
RGB, EXIF rotation is applied; of an animation or a multi-page file the first frame counts. The formats
are in `raysvq.imaging.formats`; `benchmarks/decode.py` compares decoders.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
from PIL import Image

from raysvq.imaging.bands import Bands
from raysvq.imaging.formats import bmp_gif_webp, jpeg, jpeg2000, netpbm, png, tiff
from raysvq.imaging.header import Header, Pixels
from raysvq.imaging.rejection import REASONS, DecodeError, rejecting

__all__ = [
    "FIRST_BYTES",
    "FORMATS",
    "REASONS",
    "DecodeError",
    "Pixels",
    "decode_image",
    "decode_pixels",
    "image_size",
    "looks_like_an_image",
    "open_bands",
    "open_header",
]

FIRST_BYTES = 18  # bytes of a file by which its format is recognised

# `max_pixels` replaces Pillow's own limit: it applies before decoding, with a reason.
Image.MAX_IMAGE_PIXELS = None


@dataclass(frozen=True)
class _Format:
    """How a file format is recognised and read."""

    starts: re.Pattern[bytes]
    read_header: Callable[[bytes], Header]
    decode: Callable[[bytes, Header], Pixels]
    open_bands: Callable[[bytes, Header], Bands] | None = None


FORMATS = {
    "JPEG": _Format(re.compile(rb"\xff\xd8"), jpeg.read_header, jpeg.decode, jpeg.open_bands),
    "PNG": _Format(re.compile(rb"\x89PNG\r\n\x1a\n"), png.read_header, png.decode, png.open_bands),
    "TIFF": _Format(re.compile(rb"II[*+]\0|MM\0[*+]"), tiff.read_header, tiff.decode, tiff.open_bands),
    # Two letters are ambiguous, so the size of the header that follows, 12 to 124 bytes, is checked too.
    "BMP": _Format(
        re.compile(rb"BM.{12}[\x0c-\x7c]\0\0\0", re.DOTALL), bmp_gif_webp.read_header, bmp_gif_webp.decode
    ),
    "GIF": _Format(re.compile(rb"GIF8[79]a"), bmp_gif_webp.read_header, bmp_gif_webp.decode),
    "WEBP": _Format(re.compile(rb"RIFF....WEBP", re.DOTALL), bmp_gif_webp.read_header, bmp_gif_webp.decode),
    "PPM": _Format(re.compile(rb"P[1-7fF][\s#]"), netpbm.read_header, netpbm.decode),
    "JPEG2000": _Format(
        re.compile(rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51"), jpeg2000.read_header, jpeg2000.decode
    ),
}


def decode_image(content: bytes, max_pixels: int) -> Pixels:
    """Decode an image file.

    Args:
        content: the whole file.
        max_pixels: refuse images with more pixels, before decoding them.

    Returns:
        (H, W) or (H, W, 3) RGB; uint8, or uint16 where the file has more than 8 bits, over the full scale.

    Raises:
        DecodeError: with a reason code, for anything that is not a whole, readable image.
    """
    return decode_pixels(content, open_header(content, max_pixels))


def open_header(content: bytes, max_pixels: int) -> Header:
    """The header of an image file. Raises DecodeError, as `decode_image` does."""
    header = _read_header(content)
    if header.width * header.height > max_pixels:
        raise DecodeError(
            "too_large", f"{header.width} x {header.height} pixels, scoring.max_pixels allows {max_pixels}"
        )
    return header


def decode_pixels(content: bytes, header: Header) -> Pixels:
    """`decode_image` with a header that was opened before."""
    with rejecting(header.kind):
        return cast(Pixels, np.ascontiguousarray(FORMATS[header.kind].decode(content, header)))


def open_bands(content: bytes, header: Header) -> Bands:
    """The pixels of `decode_pixels`, a band of rows after another, where `header.whole` is None.

    Raises:
        DecodeError: the file is cut off or damaged; of most kinds that shows only as bands are read.
    """
    opened = FORMATS[header.kind].open_bands
    assert opened is not None
    with rejecting(header.kind):
        return opened(content, header)


def image_size(content: bytes) -> tuple[int, int]:
    """(height, width) in pixels from the header alone, after EXIF rotation. Raises DecodeError."""
    return _read_header(content).size


def looks_like_an_image(start: bytes) -> bool:
    """Whether a file's first `FIRST_BYTES` are those of a format that is decoded."""
    return any(known.starts.match(start) for known in FORMATS.values())


def _read_header(content: bytes) -> Header:
    if not content:
        raise DecodeError("empty", "0 bytes")
    for kind, known in FORMATS.items():
        if known.starts.match(content):
            with rejecting(kind):
                return known.read_header(content)
    raise DecodeError("not_an_image", f"starts with {content[:8]!r}")
