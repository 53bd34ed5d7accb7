"""Mask files as Pillow opens them: it reads pixel types that images may not have."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from raysvq.imaging.decode import FORMATS, DecodeError, image_size
from raysvq.imaging.exif import exif_orientation

_LOSSY_TIFF = ("jpeg", "tiff_jpeg", "webp")
_REDUCED = 1  # TIFF 6.0, NewSubfileType: a smaller version of another page


def mask_size(content: bytes) -> tuple[int, int]:
    """(height, width) in pixels from the header alone, after EXIF rotation. Raises DecodeError."""
    image = open_mask(content)
    return image.size if orientation(image) in (5, 6, 7, 8) else image.size[::-1]


def orientation(image: Image.Image) -> int:
    """EXIF orientation of Pillow's pixels, which are upright already in a TIFF."""
    return 1 if image.format == "TIFF" else exif_orientation(image.info.get("exif", b""))


def open_mask(content: bytes) -> Image.Image:
    """Open a file with Pillow, without reading its pixels. Raises DecodeError."""
    try:
        return Image.open(io.BytesIO(content), formats=tuple(FORMATS))
    except (UnidentifiedImageError, SyntaxError, ValueError, OSError) as error:
        doubles = _doubles(content)
        if doubles is not None:
            return Image.fromarray(doubles)
        image_size(content)  # raises with a better reason
        why = "of a kind that masks may not have" if isinstance(error, UnidentifiedImageError) else error
        raise DecodeError("unsupported", f"not read as a mask: {why}") from None


def _doubles(content: bytes) -> npt.NDArray[np.float32] | None:
    """The pixels of a TIFF of 64-bit floats, None of any other file."""
    if content[:4] not in (b"II*\0", b"MM\0*"):
        return None
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.float64 or pixels.ndim != 2:
        return None
    return pixels.astype(np.float32)


def load_mask(content: bytes) -> Image.Image:
    """Open a file with Pillow, and read its pixels as stored."""
    image = open_mask(content)
    image.load()
    return image


def require_one_page(content: bytes) -> None:
    """Raises DecodeError where a file has several pages or frames that are not alike."""
    image = open_mask(content)
    pages = getattr(image, "n_frames", 1)
    if pages == 1:
        return
    first = _page(image)
    for number in range(1, pages):
        image.seek(number)
        if image.format == "TIFF" and image.tag_v2.get(254, 0) & _REDUCED:  # type: ignore[attr-defined]
            continue
        if not np.array_equal(_page(image), first):
            raise DecodeError(
                "unsupported", f"no mask: {pages} pages or frames, and they differ; expected one"
            )


def _page(image: Image.Image) -> npt.NDArray[Any]:
    return np.asarray(image if image.format == "TIFF" else image.convert("RGBA")).copy()


def is_lossy(content: bytes, header: Image.Image) -> bool:
    """Whether compression may have changed levels."""
    if header.format == "WEBP":
        return b"VP8L" not in content  # the chunk of lossless pixels
    if header.format == "JPEG2000":
        # ISO 15444-1, annex A.6.1: the last byte of marker COD says 0 for the irreversible transformation.
        start = content.index(b"\xff\x52", content.index(b"\xff\x4f\xff\x51"))
        return content[start + 13] == 0
    return header.format in ("JPEG", "MPO") or header.info.get("compression") in _LOSSY_TIFF
