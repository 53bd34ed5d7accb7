"""TIFF (TIFF 6.0, BigTIFF), through libvips; samples of 10, 12 and 14 bits through OpenCV.

Compressions that libvips is built without are left to Pillow. What MinSampleValue and MaxSampleValue
say is of the picture's own values, and "not to be used to affect the visual appearance" (section 8).
"""

from __future__ import annotations

import io
import struct
from enum import IntEnum
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from raysvq.imaging.bands import Bands
from raysvq.imaging.exif import Tags, find_directory, orientation, read_tags, upright
from raysvq.imaging.header import Header, Pixels, to_full_scale
from raysvq.imaging.rejection import DecodeError

_LARGEST_BLOCK = 1024  # maximum rows of a strip or tile for reading in bands
_UNSIGNED = (1, 4)  # SampleFormat; 4 is "undefined"
_LIBVIPS_BITS, _PACKED_BITS = (1, 2, 4, 8, 16), (10, 12, 14)
_SHORT = 3  # type of a tag
_NUMBERS = (1, 3, 4, 7, 16)  # types of the tags that pixels need
_PRIVATE = 65535
# Beside those below: order of bits, fax options, tables of JPEG, YCbCr, what else a pixel holds.
_NEEDED = {*range(256, 263), 266, 273, *range(277, 280), 284, 292, 293, 317, *range(320, 326)}
_NEEDED |= {332, 338, 339, 347, *range(529, 533)}
_OLD_JPEG, _JPEG = 6, 7
_LIBVIPS_COMPRESSIONS = (1, 2, 3, 4, 5, 7, 8, 32773, 32946, 50001)
_PILLOW_COMPRESSIONS = {34925: "LZMA", 50000: "Zstandard"}
_PILLOW_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "RGBX", "CMYK", "I;16", "I;16B")


class _Tag(IntEnum):
    """TIFF 6.0, sections 3 to 22."""

    WIDTH = 256
    HEIGHT = 257
    BITS = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    SAMPLES = 277
    ROWS_PER_STRIP = 278
    PLANAR_CONFIGURATION = 284
    PREDICTOR = 317
    COLOR_MAP = 320
    TILE_LENGTH = 323
    SAMPLE_FORMAT = 339


class _Photometric(IntEnum):
    """What samples mean."""

    WHITE_IS_ZERO = 0
    BLACK_IS_ZERO = 1
    RGB = 2
    PALETTE = 3
    CMYK = 5
    YCBCR = 6


_GREY = (_Photometric.WHITE_IS_ZERO, _Photometric.BLACK_IS_ZERO)


def read_header(content: bytes) -> Header:
    """Raises DecodeError where the file is damaged in its directory, or of a kind that is not read."""
    tags = read_tags(content)
    width, height = _first(tags, _Tag.WIDTH, 0), _first(tags, _Tag.HEIGHT, 0)
    if not width or not height or _Tag.PHOTOMETRIC not in tags:
        raise DecodeError("corrupt", "TIFF: damaged or cut off in its directory")
    _require_readable(tags)
    _require_palette(tags)
    bits = _first(tags, _Tag.BITS, 1)
    turned = orientation(tags)
    return Header(
        "TIFF",
        width,
        height,
        channels=1 if _first(tags, _Tag.PHOTOMETRIC) in _GREY else 3,
        full=255 if bits <= 8 else 65535 if bits == 16 else 2**bits - 1,
        orientation=turned,
        whole=_why_whole(tags, height, turned),
    )


def open_bands(content: bytes, header: Header) -> Bands:
    """Raises DecodeError where the file is cut off or damaged."""
    return Bands(content, header, lambda: _with_needed_tags(content))


def decode(content: bytes, header: Header) -> Pixels:
    """Raises DecodeError where the file is cut off or damaged, or of a kind that is not read."""
    tags = read_tags(content)
    if _first(tags, _Tag.BITS, 1) in _PACKED_BITS:
        return _with_opencv(content, header, tags)
    if _first(tags, _Tag.COMPRESSION, 1) in _PILLOW_COMPRESSIONS or _is_tiled_planes(tags):
        return _with_pillow(content, header, tags)
    if _is_plain_ycbcr(tags):
        return np.asarray(_decoded_by_opencv(content, header, np.uint8)[..., ::-1])
    bands = open_bands(content, header)
    if _first(tags, _Tag.PHOTOMETRIC) == _Photometric.CMYK:
        inks = Image.fromarray(bands.read_samples(header.height), "CMYK")
        return upright(np.asarray(inks.convert("RGB")), header.orientation)
    return upright(bands.read(header.height), header.orientation)


def _require_readable(tags: Tags) -> None:
    bits, formats = (tags[tag].values if tag in tags else (1,) for tag in (_Tag.BITS, _Tag.SAMPLE_FORMAT))
    photometric, compression = _first(tags, _Tag.PHOTOMETRIC), _first(tags, _Tag.COMPRESSION, 1)
    samples = _first(tags, _Tag.SAMPLES, 1)
    problem = None
    if not {*formats} <= {*_UNSIGNED}:
        problem = f"samples of format {formats[0]}"
    elif len({*bits}) > 1 or bits[0] not in (*_LIBVIPS_BITS, *_PACKED_BITS):
        problem = f"samples of {' and '.join(map(str, sorted({*bits})))} bits"
    elif photometric not in {*_Photometric}:
        problem = f"photometric interpretation {photometric}"
    elif compression not in (*_LIBVIPS_COMPRESSIONS, *_PILLOW_COMPRESSIONS):
        problem = "old-style JPEG" if compression == _OLD_JPEG else f"compression {compression}"
    elif photometric == _Photometric.YCBCR and (bits[0], samples) != (8, 3):
        problem = f"YCbCr of {samples} samples of {bits[0]} bits"
    elif photometric == _Photometric.CMYK and (bits[0], samples) != (8, 4):
        problem = f"{samples} inks of {bits[0]} bits"
    elif bits[0] in _PACKED_BITS and (photometric > _Photometric.RGB or samples not in (1, 3)):
        problem = f"{samples} samples of {bits[0]} bits, photometric interpretation {photometric}"
    elif compression == _JPEG and bits[0] != 8:
        problem = f"JPEG of {bits[0]} bits"
    elif bits[0] in _PACKED_BITS and _first(tags, _Tag.PLANAR_CONFIGURATION, 1) != 1:
        problem = f"separate planes of {bits[0]} bits"
    elif bits[0] in _PACKED_BITS and _first(tags, _Tag.PREDICTOR, 1) != 1:
        problem = f"a predictor for {bits[0]} bits"
    elif bits[0] < 8 and samples > 1:
        problem = f"{samples} samples of {bits[0]} bits"
    if problem:
        raise DecodeError("unsupported", f"TIFF with {problem}")


def _require_palette(tags: Tags) -> None:
    """libtiff takes indices without a palette for grey."""
    if _first(tags, _Tag.PHOTOMETRIC) == _Photometric.PALETTE:
        colours = tags.get(_Tag.COLOR_MAP)
        count = 3 * 2 ** _first(tags, _Tag.BITS, 1)
        if colours is None or (colours.kind, colours.count) != (_SHORT, count):
            raise DecodeError("corrupt", "TIFF: its palette is damaged or missing")


def _why_whole(tags: Tags, height: int, turned: int) -> str | None:
    compression, bits = _first(tags, _Tag.COMPRESSION, 1), _first(tags, _Tag.BITS, 1)
    if _first(tags, _Tag.PHOTOMETRIC) == _Photometric.CMYK:
        return "TIFF in CMYK"
    if _is_plain_ycbcr(tags):
        return "TIFF in YCbCr"
    if bits in _PACKED_BITS:
        return f"TIFF of {bits} bits"
    if compression in _PILLOW_COMPRESSIONS:
        return f"TIFF compressed by {_PILLOW_COMPRESSIONS[compression]}"
    if _first(tags, _Tag.PLANAR_CONFIGURATION, 1) != 1:
        return "TIFF of separate planes"
    tile = _first(tags, _Tag.TILE_LENGTH, 0)
    block = tile or min(_first(tags, _Tag.ROWS_PER_STRIP, height), height)
    # Uncompressed strips are read row by row.
    if block > _LARGEST_BLOCK and (tile or compression != 1):
        return f"TIFF in blocks of {block} rows"
    return f"TIFF of EXIF orientation {turned}" if turned > 1 else None


def _with_opencv(content: bytes, header: Header, tags: Tags) -> Pixels:
    """It turns images upright, and moves samples to the top of 16 bits, with white as the file has it."""
    samples = _decoded_by_opencv(content, header, np.uint16) >> np.uint16(16 - _first(tags, _Tag.BITS))
    pixels = to_full_scale(samples[..., ::-1] if samples.ndim == 3 else samples, header.full)
    white_is_zero = _first(tags, _Tag.PHOTOMETRIC) == _Photometric.WHITE_IS_ZERO
    return np.uint16(65535) - pixels if white_is_zero else pixels


def _decoded_by_opencv(content: bytes, header: Header, kind: type[np.integer[Any]]) -> npt.NDArray[Any]:
    found = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if found is None or found.dtype != kind or found.shape[:2] != header.size:
        raise DecodeError("corrupt", f"{header.whole}: the decoder gave up")
    return np.asarray(found)


def _is_plain_ycbcr(tags: Tags) -> bool:
    """libvips converts YCbCr in JPEG strips alone."""
    return _first(tags, _Tag.PHOTOMETRIC) == _Photometric.YCBCR and _first(tags, _Tag.COMPRESSION, 1) != _JPEG


def _is_tiled_planes(tags: Tags) -> bool:
    """libvips reads separate planes in strips alone."""
    planes = _first(tags, _Tag.PLANAR_CONFIGURATION, 1) != 1 and _first(tags, _Tag.SAMPLES, 1) > 1
    return planes and _Tag.TILE_LENGTH in tags


def _with_pillow(content: bytes, header: Header, tags: Tags) -> Pixels:
    """It turns images upright."""
    try:
        image = Image.open(io.BytesIO(content), formats=["TIFF"])
    except UnidentifiedImageError:  # such as BigTIFF of the other byte order
        raise DecodeError("unsupported", f"{header.whole}: not known to the decoder") from None
    deep = image.mode.startswith("I;16")
    white_is_zero = _first(tags, _Tag.PHOTOMETRIC) == _Photometric.WHITE_IS_ZERO
    if (
        image.mode not in _PILLOW_MODES
        or (_first(tags, _Tag.BITS, 1) > 8) != deep
        or (deep and white_is_zero)
    ):
        bits = _first(tags, _Tag.BITS, 1)
        raise DecodeError("unsupported", f"{header.whole}, of {bits} bits and mode {image.mode}")
    image.load()
    if deep:
        return np.asarray(image).astype(np.uint16)
    return np.asarray(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"))


def _with_needed_tags(content: bytes) -> bytes:
    """The file with tags in place of those that its pixels do not need, which libtiff may trip over."""
    found = find_directory(content)
    if found is None:
        return content
    changed = bytearray(content)
    nothing = struct.pack(found.order + ("HHQQ" if found.big else "HHII"), _PRIVATE, 1, 1, 0)
    for at in found.entries:
        tag, kind = struct.unpack_from(found.order + "HH", content, at)
        if tag not in _NEEDED or kind not in _NUMBERS:
            changed[at : at + len(nothing)] = nothing
    end = found.entries.stop
    changed[end : end + (8 if found.big else 4)] = bytes(8 if found.big else 4)  # no other directory
    return bytes(changed)


def _first(tags: Tags, tag: _Tag, missing: int = -1) -> int:
    return tags[tag].values[0] if tag in tags else missing
