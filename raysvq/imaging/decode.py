"""Bytes -> pixels, at the depth they were stored in.

simplejpeg for 8-bit JPEG, OpenCV for whatever is deeper than Pillow reads, Pillow for everything else;
`benchmarks/decode.py` compares them. Alpha is dropped, palettes are expanded, CMYK becomes RGB,
EXIF rotation is applied; of an animation or a multi-page file the first frame counts.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, UnidentifiedImageError

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

# The pixel budget below is ours to enforce, before decoding and with a reason.
Image.MAX_IMAGE_PIXELS = None

# Pillow knows more; some of them start other programs.
FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF", "PPM", "JPEG2000")

REASONS = {
    "not_found": "no file at this URI",
    "access_denied": "the store refused to hand the file out",
    "unreadable": "the file could not be read in full",
    "changed": "the file's size is another than when it was indexed",
    "crashed": "the decoder crashed or hung on it",
    "empty": "the file has no bytes",
    "not_an_image": "no known image format",
    "corrupt": "the format is known, but the data is cut off or damaged",
    "too_large": "more pixels than scoring.max_pixels, or than scoring.image_memory_mib or memory holds",
    "unsupported": "a pixel type raysvq does not read, such as 32-bit float",
    "not_finite": "the model gives it a score or a map that is not a finite number",
}

_GREY = ("1", "L", "LA", "La")


class DecodeError(Exception):
    """An image cannot be used. `reason` is a key of REASONS, `detail` says what was found."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type[DecodeError], tuple[str, str]]:
        return DecodeError, (self.reason, self.detail)


def decode_image(content: bytes, max_pixels: int) -> Pixels:
    """Decode an image file.

    Args:
        content: the whole file.
        max_pixels: refuse images with more pixels, before decoding them.

    Returns:
        (H, W) or (H, W, 3) RGB; uint8, or uint16 where the file has more than 8 bits.

    Raises:
        DecodeError: with a reason code, for anything that is not a whole, readable image.
    """
    return decode_pixels(content, open_header(content, max_pixels))


def open_header(content: bytes, max_pixels: int) -> Image.Image:
    """What a file says of its pixels, without them. Raises DecodeError, as `decode_image` does."""
    header = _open(content)
    width, height = header.size[:2]
    if width * height > max_pixels:
        raise DecodeError("too_large", f"{width} x {height} pixels, scoring.max_pixels allows {max_pixels}")
    return header


def decode_pixels(content: bytes, header: Image.Image) -> Pixels:
    """`decode_image`, where the header has been opened already."""
    turned = exif_orientation(header)
    with rejecting(header.format):
        return cast(Pixels, np.ascontiguousarray(_upright(_decode(content, header), turned)))


def pixel_layout(content: bytes, header: Image.Image) -> tuple[int, int]:
    """(channels, bytes of a channel) of the pixels that `decode_pixels` gives. Raises DecodeError."""
    with rejecting(header.format):
        deep_grey = header.mode == "I" or header.mode.startswith("I;16")
        grey = deep_grey or header.mode in _GREY
        return 1 if grey else 3, 2 if deep_grey or _is_deep(content, header) else 1


def exif_orientation(header: Image.Image) -> int:
    """EXIF 2.32, tag 0x0112: 1 is upright. Of a PNG only what stands before the pixels is read.

    Decoders turn a TIFF upright themselves, and Pillow's header gives its size upright: 1.

    Raises:
        DecodeError: the EXIF data is damaged.
    """
    if header.format == "TIFF" or (header.format == "PNG" and "exif" not in header.info):
        return 1
    with rejecting(header.format):
        return int(header.getexif().get(0x0112, 1))


def image_size(content: bytes) -> tuple[int, int]:
    """(height, width) in pixels from the header alone, after EXIF rotation. Raises DecodeError."""
    header = _open(content)
    width, height = header.size[:2]
    return (width, height) if exif_orientation(header) in (5, 6, 7, 8) else (height, width)


def _open(content: bytes) -> Image.Image:
    if not content:
        raise DecodeError("empty", "0 bytes")
    with rejecting("header"):
        try:
            return Image.open(io.BytesIO(content), formats=FORMATS)
        except UnidentifiedImageError:
            raise _unidentified(content) from None


def _unidentified(content: bytes) -> DecodeError:
    """Pillow says the same of a text and of a TIFF without its directory, which stands at the end."""
    for name in FORMATS:
        starts_like = Image.OPEN[name][1]
        if starts_like and starts_like(content[:16]):
            return DecodeError("corrupt", f"{name}: damaged or cut off in its header")
    return DecodeError("not_an_image", f"starts with {content[:8]!r}")


@contextmanager
def rejecting(kind: str | None) -> Iterator[None]:
    """Whatever a decoder raises says that the image cannot be used; a job must not end of it."""
    try:
        yield
    except DecodeError:
        raise
    except MemoryError:
        raise DecodeError("too_large", f"{kind}: not enough memory") from None
    except Exception as error:  # noqa: BLE001
        raise DecodeError("corrupt", f"{kind}: {_first_line(error)}") from None


def _decode(content: bytes, header: Image.Image) -> Pixels:
    if header.format == "JPEG" and header.mode in ("L", "RGB"):
        grey = header.mode == "L"
        decoded = simplejpeg.decode_jpeg(content, colorspace="GRAY" if grey else "RGB")
        return np.asarray(decoded[..., 0] if grey else decoded)
    if header.format == "PNG":
        header.verify()  # the checksum of every chunk but the last
        require_png_end(content)
        return _with_opencv(content) if _deep_colour_png(content) else _with_pillow(_open(content))
    _require_all_pixels(content, header)
    if _deep_colour_tiff(header):
        header.verify()  # OpenCV would fill up silently what is cut short
        return _with_opencv(content)
    if _deep_netpbm(header) or _deep_jpeg2000(content, header):
        header.load()  # fails where the file is cut short; its pixels have lost their depth
        return _with_opencv(content)
    return _with_pillow(header)


def _require_all_pixels(content: bytes, header: Image.Image) -> None:
    """Decoders fill up silently where a strip or tile is not in the file."""
    if header.format == "TIFF":
        reach = max((right * bottom for _, (_, _, right, bottom), *_ in header.tile), default=0)  # type: ignore[attr-defined]
        if reach < header.size[0] * header.size[1]:
            raise DecodeError("corrupt", "TIFF: strips or tiles are missing")
    # ISO 15444-1, annex A.4.4: no other two bytes of a codestream are equal to its end marker.
    if header.format == "JPEG2000" and content.find(b"\xff\xd9", _codestream(content)) < 0:
        raise DecodeError("corrupt", "JPEG2000: cut off before its end marker")


def require_png_end(content: bytes) -> None:
    """Raises DecodeError where the last chunk of a PNG is cut off."""
    end = content.rfind(b"IEND")
    if end < 0 or len(content) < end + 8:
        raise DecodeError("corrupt", "PNG: cut off in its last chunk")


def _is_deep(content: bytes, header: Image.Image) -> bool:
    """Whether a channel has more bits than Pillow's mode says."""
    return (
        (header.format == "PNG" and _deep_colour_png(content))
        or _deep_colour_tiff(header)
        or _deep_netpbm(header)
        or _deep_jpeg2000(content, header)
    )


def _deep_colour_png(content: bytes) -> bool:
    """PNG specification, section 11.2.1: bit depth and colour type stand in bytes 24 and 25."""
    return content[24] == 16 and content[25] in (2, 4, 6)


def _deep_colour_tiff(header: Image.Image) -> bool:
    if header.format != "TIFF":
        return False
    bits = header.tag_v2.get(258, (8,))  # type: ignore[attr-defined]  # BitsPerSample
    return max(bits) == 16 and len(bits) >= 3


def _deep_netpbm(header: Image.Image) -> bool:
    if header.format != "PPM":
        return False
    # Holds the largest value, where that is not a byte's.
    layout = header.tile[0].args  # type: ignore[attr-defined]
    return header.mode == "I" or (isinstance(layout, tuple) and layout[1] > 255)


def _deep_jpeg2000(content: bytes, header: Image.Image) -> bool:
    """ISO 15444-1, annex A.5.1: the bits of the first component stand in the codestream's SIZ segment."""
    if header.format != "JPEG2000":
        return False
    return (content[_codestream(content) + 42] & 0x7F) + 1 > 8


def _codestream(content: bytes) -> int:
    return content.index(b"\xff\x4f\xff\x51")


def _with_opencv(content: bytes) -> Pixels:
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise DecodeError("corrupt", "the decoder gave up")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise DecodeError("unsupported", f"pixels of type {pixels.dtype}")
    if pixels.ndim == 3:
        pixels = pixels[..., 0] if pixels.shape[2] == 2 else pixels[..., 2::-1]
    return cast(Pixels, pixels)


def _with_pillow(header: Image.Image) -> Pixels:
    header.seek(0)
    header.load()
    if header.mode in _GREY:
        return np.asarray(header.convert("L"))
    if header.mode.startswith("I;16"):
        return np.asarray(header).astype(np.uint16)
    if header.mode in ("I", "F"):
        raise DecodeError("unsupported", f"{header.format} with 32-bit pixels (mode {header.mode})")
    return np.asarray(header if header.mode == "RGB" else header.convert("RGB"))


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    if orientation in (5, 6, 7, 8):
        pixels = np.swapaxes(pixels, 0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
