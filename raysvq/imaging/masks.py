"""A mask file -> which pixels are defect. The index, training and evaluation all read masks by it.

The meaning may stand in grey levels, in a colour on black, in alpha, or in the numbers of a palette;
docs/own-data.md lists what becomes of each.
"""

from __future__ import annotations

import io

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from raysvq.imaging.decode import FORMATS, DecodeError, Pixels, decode_image, image_size
from raysvq.imaging.exif import exif_orientation, upright
from raysvq.imaging.mask_levels import MOST_BETWEEN, Levels, Marks, between, marked
from raysvq.imaging.rejection import rejecting

_ANY_SIZE = 2**40  # pixels; readers compare a mask's size with its image's before they decode it
_LOSSY_TIFF = ("jpeg", "tiff_jpeg", "webp")
_NEARLY_BLACK = 1 / 8  # of the scale, after a lossy compression
_PAINTS = 64  # colours; a painted mask has fewer, even where an export has rounded them
_REDUCED = 1  # TIFF 6.0, NewSubfileType: a smaller version of another page

Rgb = npt.NDArray[np.uint8]


def decode_mask(content: bytes) -> Marks:
    """Decode a defect mask.

    Returns:
        (H, W), upright; True where the mask marks a defect.

    Raises:
        DecodeError: the file cannot be read whole, or what it marks cannot be told.
    """
    image = _open(content)
    with rejecting(str(image.format)):
        _require_one_page(content)
        lossy = _is_lossy(content, image)
        return np.ascontiguousarray(marked(_levels(content, image, lossy), lossy))


def mask_size(content: bytes) -> tuple[int, int]:
    """(height, width) in pixels from the header alone, after EXIF rotation. Raises DecodeError."""
    image = _open(content)
    return image.size if _orientation(image) in (5, 6, 7, 8) else image.size[::-1]


def _orientation(image: Image.Image) -> int:
    """By EXIF, of pixels as Pillow gives them: it turns a TIFF upright by itself."""
    return 1 if image.format == "TIFF" else exif_orientation(image.info.get("exif", b""))


def _levels(content: bytes, image: Image.Image, lossy: bool) -> Levels:
    """(H, W), upright, of whatever carries the meaning."""
    if image.format is None:  # 64-bit floats, read already
        return np.asarray(image)
    try:
        pixels = decode_image(content, _ANY_SIZE)  # whole, or an error
    except DecodeError as error:
        if error.reason == "unsupported" and image.mode in ("L", "I", "F"):  # of signed integers, or 32 bits
            return np.asarray(_loaded(content))
        raise
    if image.has_transparency_data:
        rgba = np.asarray(_loaded(content).convert("RGBA"))
        if rgba[..., 3].min() < rgba[..., 3].max():
            return upright(_painted(rgba, lossy), _orientation(image))
    if image.mode in ("P", "PA"):
        return upright(_numbers(_loaded(content)), _orientation(image))
    return _brightness(pixels, lossy)


def _open(content: bytes) -> Image.Image:
    """What Pillow says of a file, its pixels not yet read; it reads types that images may not have."""
    try:
        return Image.open(io.BytesIO(content), formats=tuple(FORMATS))
    except (UnidentifiedImageError, SyntaxError, ValueError, OSError) as error:
        doubles = _doubles(content)
        if doubles is not None:
            return Image.fromarray(doubles)
        image_size(content)  # says what is wrong
        raise DecodeError("unsupported", f"not read as a mask: {str(error).splitlines()[0]}") from None


def _doubles(content: bytes) -> npt.NDArray[np.float32] | None:
    """The pixels of a TIFF of 64-bit floats, None of any other file."""
    if content[:4] not in (b"II*\0", b"MM\0*"):
        return None
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.float64 or pixels.ndim != 2:
        return None
    return pixels.astype(np.float32)


def _loaded(content: bytes) -> Image.Image:
    image = _open(content)
    image.load()
    return image


def _painted(rgba: Rgb, lossy: bool) -> Levels:
    """Alpha, where it shows paint alone; else the colours that it shows, over black.

    Raises:
        DecodeError: it shows a photograph.
    """
    alpha = rgba[..., 3]
    solid = alpha > alpha.max() // 2
    brightness = rgba[solid][:, :3].max(axis=1)
    colours = np.unique(rgba[solid][:, :3].astype(np.uint32) @ np.array([65536, 256, 1], np.uint32))
    if len(colours) > _PAINTS and between(brightness, 255).mean() > MOST_BETWEEN:
        raise DecodeError("unsupported", f"no mask: it shows {len(colours)} colours on a transparent ground")
    if len(colours) == 1 or colours[0] > 0:
        return alpha
    return _brightness(np.where(solid[..., None], rgba[..., :3], np.uint8(0)), lossy)


def _brightness(pixels: Pixels, lossy: bool) -> Levels:
    """The brightest channel: white and every colour stand out from black.

    Raises:
        DecodeError: colours without black, of which any may be the background.
    """
    if pixels.ndim == 2:
        return pixels
    levels: Levels = pixels.max(axis=2)
    black = np.iinfo(pixels.dtype).max * _NEARLY_BLACK if lossy else 0
    if levels.min() > black and (pixels != pixels[..., :1]).any():
        raise DecodeError("unsupported", "no mask: it has colours, and none of its pixels is black")
    return levels


def _numbers(image: Image.Image) -> Levels:
    """The numbers of a palette's colours, or their brightness where 0 alone is black.

    Raises:
        DecodeError: numbers and colours contradict each other.
    """
    numbers = np.asarray(image)
    numbers = numbers[..., 0] if numbers.ndim == 3 else numbers
    given = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(given)] = given
    used = np.unique(numbers)
    black = used[~palette[used].any(axis=1)]
    if palette[0].any() and len(black):
        red, green, blue = palette[0].tolist()
        raise DecodeError(
            "unsupported",
            f"no mask: its palette shows number 0 as ({red}, {green}, {blue}) and number {black[0]} as black,"
            " so either may be the background; save it as grey, with 0 where there is no defect",
        )
    return palette.max(axis=1)[numbers] if black.tolist() == [0] else numbers


def _require_one_page(content: bytes) -> None:
    """Raises DecodeError where a file has several pages or frames that are not alike."""
    image = _open(content)
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


def _page(image: Image.Image) -> Levels:
    return np.asarray(image if image.format == "TIFF" else image.convert("RGBA")).copy()


def _is_lossy(content: bytes, header: Image.Image) -> bool:
    """Whether the compression may have moved levels."""
    if header.format == "WEBP":
        return b"VP8L" not in content  # the chunk of lossless pixels
    if header.format == "JPEG2000":
        # ISO 15444-1, annex A.6.1: the last byte of marker COD says 0 for the irreversible transformation.
        start = content.index(b"\xff\x52", content.index(b"\xff\x4f\xff\x51"))
        return content[start + 13] == 0
    return header.format in ("JPEG", "MPO") or header.info.get("compression") in _LOSSY_TIFF
