"""BMP, GIF and WebP, through Pillow: always 8 bits. Palettes are expanded, alpha is dropped."""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image

from raysvq.imaging.exif import exif_orientation, upright
from raysvq.imaging.header import Header, Pixels
from raysvq.imaging.rejection import DecodeError

_GREY = ("1", "L", "LA")


def read_header(content: bytes) -> Header:
    """Raises DecodeError where the file is of a kind that is not read; OSError where it is damaged."""
    image = _open(content)
    kind = str(image.format)
    turned = exif_orientation(image.info.get("exif", b""))
    grey = image.mode in _GREY
    return Header(kind, *image.size, 1 if grey else 3, 255, turned, whole=f"{kind} of mode {image.mode}")


def decode(content: bytes, header: Header) -> Pixels:
    """Raises OSError or ValueError where the file is cut off or damaged."""
    image = _open(content)
    return upright(np.asarray(image.convert("L" if header.channels == 1 else "RGB")), header.orientation)


def _open(content: bytes) -> Image.Image:
    if content.startswith(b"RIFF"):
        content = _with_true_size(content)
    try:
        return Image.open(io.BytesIO(content), formats=["BMP", "GIF", "WEBP"])
    except OSError as error:
        if str(error).startswith("Unsupported BMP"):
            raise DecodeError("unsupported", str(error)) from None
        raise


def _with_true_size(content: bytes) -> bytes:
    """A WebP file whose outermost header counts the whole chunks that follow; some writers miscount."""
    end = 12
    while end + 8 <= len(content):
        (length,) = struct.unpack_from("<I", content, end + 4)
        if end + 8 + length > len(content):
            break
        end += 8 + length + length % 2
    return content[:4] + struct.pack("<I", end - 8) + content[8:end].ljust(end - 8, b"\0")
