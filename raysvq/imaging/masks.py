"""Which pixels of a mask file are defect, for indexing, training and evaluation.

The defect may be in grey levels, in a colour on black, in alpha, or in palette indices; docs/own-data.md
lists how each is read.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from raysvq.imaging.decode import DecodeError, Pixels, decode_image
from raysvq.imaging.exif import upright
from raysvq.imaging.mask_file import is_lossy, load_mask, open_mask, orientation, require_one_page
from raysvq.imaging.rejection import rejecting

Rgb = npt.NDArray[np.uint8]
Levels = npt.NDArray[Any]  # (H, W) of integers, booleans or floats
Marks = npt.NDArray[np.bool_]  # (H, W)

_ANY_SIZE = 2**40  # pixels; readers compare a mask's size with its image's before they decode it
_MAX_COLOURS = 64  # a painted mask has fewer, even where an export has rounded them
_MAX_GREY_FRACTION = 0.2  # of the image: the edges of what is drawn are neither black nor white
_TOLERANCE = 1 / 8  # of the full scale: a level this near to black or white counts as black or white
_EDGE = 9  # pixels, more than the width of any edge
_FULL_SCALES = (255, 65535)
_FLAT_FRACTION = 0.75  # of the neighbours in label numbers are equal; along smooth edges at most half are


def decode_mask(content: bytes) -> Marks:
    """Decode a defect mask.

    Returns:
        (H, W), upright; True where the mask marks a defect.

    Raises:
        DecodeError: the file cannot be read whole, or what it marks cannot be told.
    """
    image = open_mask(content)
    with rejecting(str(image.format)):
        require_one_page(content)
        lossy = is_lossy(content, image)
        return np.ascontiguousarray(_marked(_levels(content, image, lossy), lossy))


def _levels(content: bytes, image: Image.Image, lossy: bool) -> Levels:
    """(H, W), upright, of the channel that marks defects."""
    if image.format is None:  # 64-bit floats, read already
        return np.asarray(image)
    try:
        pixels = decode_image(content, _ANY_SIZE)  # whole, or an error
    except DecodeError as error:
        if error.reason == "unsupported" and image.mode in ("L", "I", "F"):  # of signed integers, or 32 bits
            return np.asarray(load_mask(content))
        raise
    if image.has_transparency_data:
        rgba = np.asarray(load_mask(content).convert("RGBA"))
        if rgba[..., 3].min() < rgba[..., 3].max():
            return upright(_painted(rgba, lossy), orientation(image))
    if image.mode in ("P", "PA"):
        return upright(_numbers(load_mask(content)), orientation(image))
    return _brightness(pixels, lossy)


def _painted(rgba: Rgb, lossy: bool) -> Levels:
    """Alpha, where it shows paint alone; else the colours that it shows, over black.

    Raises:
        DecodeError: it shows a photograph, or a background.
    """
    alpha = rgba[..., 3]
    solid = alpha > alpha.max() // 2
    brightness = rgba[solid][:, :3].max(axis=1)
    colours = np.unique(rgba[solid][:, :3].astype(np.uint32) @ np.array([65536, 256, 1], np.uint32))
    if len(colours) > _MAX_COLOURS and _grey(brightness, 255).mean() > _MAX_GREY_FRACTION:
        raise DecodeError("unsupported", f"no mask: it shows {len(colours)} colours on a transparent ground")
    if len(colours) == 1 and colours[0] == 0 and solid.mean() > 0.5 and rgba[~solid][:, :3].any():
        raise DecodeError(
            "unsupported",
            "no mask: most of it is black, and another colour is transparent: either may be the background",
        )
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
    black = np.iinfo(pixels.dtype).max * _TOLERANCE if lossy else 0
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


def _marked(levels: Levels, lossy: bool) -> Marks:
    """Which pixels are defect, by their levels.

    Where levels are exact, and are two or label numbers, every pixel that is not zero is defect. Otherwise
    black and white are separated at half scale, if only edges lie between them.

    Args:
        lossy: the file's compression moves levels, such as JPEG's.

    Raises:
        DecodeError: the levels are neither.
    """
    levels = _whole(levels)
    low, top = int(levels.min()), int(levels.max())
    if low < 0:
        raise _unclear(f"levels from {low} to {top}")
    if not lossy and (low == top or (low == 0 and _are_labels(levels, top))):
        return np.asarray(levels != 0)
    scale = int(np.iinfo(levels.dtype).max) if lossy else top
    _require_two_shades(levels, scale)
    return np.asarray(levels > scale // 2)


def _whole(levels: Levels) -> Levels:
    """The same as integers. Of floats whole numbers are labels, and any two levels with 0 are a mask."""
    if levels.dtype == np.bool_:
        return levels.astype(np.uint8)
    if not np.issubdtype(levels.dtype, np.floating):
        return levels
    if not np.isfinite(levels).all():
        raise _unclear("levels that are not finite")
    if np.array_equal(levels, np.rint(levels)) and abs(levels).max() < 2**31:
        return np.asarray(levels, np.int64)
    above = levels[levels != 0]
    if above.min() == above.max() > 0:
        return np.asarray(levels != 0, np.uint8)
    raise _unclear(f"fractions from {levels.min():.3g} to {levels.max():.3g}")


def _are_labels(levels: Levels, top: int) -> bool:
    """Whether what is darker than half lies in flat patches, not along the edges of what is brighter."""
    dark = (levels > 0) & (levels <= top // 2)
    if not dark.any():
        return True
    nearly_white = (levels > top * (1 - _TOLERANCE)) & (levels < top)
    if top in _FULL_SCALES and nearly_white.any() and levels[dark].max() <= top * _TOLERANCE:
        return False  # black and white, as a lossy compression left them
    pairs = equal = 0
    for one, other in ((np.s_[:, 1:], np.s_[:, :-1]), (np.s_[1:], np.s_[:-1])):
        compared = (dark[one] | dark[other]) & (levels[one] > 0) & (levels[other] > 0)
        pairs += int(compared.sum())
        equal += int((compared & (levels[one] == levels[other])).sum())
    return equal >= _FLAT_FRACTION * pairs


def _require_two_shades(levels: Levels, scale: int) -> None:
    grey = _grey(levels, scale)
    wide = cv2.erode(grey.astype(np.uint8), np.ones((_EDGE, _EDGE), np.uint8)).any()
    if wide or grey.mean() > _MAX_GREY_FRACTION:
        raise _unclear(
            f"{100 * grey.mean():.2g} % of its pixels between black and white (of {scale}), and not as edges"
        )


def _grey(levels: Levels, scale: int) -> Marks:
    """Where a level is neither nearly black nor nearly white."""
    return np.asarray((levels > scale * _TOLERANCE) & (levels < scale * (1 - _TOLERANCE)))


def _unclear(found: str) -> DecodeError:
    return DecodeError(
        "unsupported",
        f"no mask: {found}; expected black, 0, where there is no defect, and white or label numbers where"
        " there is",
    )
