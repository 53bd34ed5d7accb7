"""A mask file -> which pixels are defect. The index, training and evaluation all read masks by it.

The meaning may stand in grey levels, in a colour on black, in alpha, or in the numbers of a palette;
docs/own-data.md lists what becomes of each.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from raysvq.imaging.decode import DecodeError, Pixels, decode_image
from raysvq.imaging.exif import upright
from raysvq.imaging.mask_file import is_lossy, load_mask, open_mask, orientation, require_one_page
from raysvq.imaging.mask_levels import MOST_BETWEEN, Levels, Marks, between, marked
from raysvq.imaging.rejection import rejecting

_ANY_SIZE = 2**40  # pixels; readers compare a mask's size with its image's before they decode it
_NEARLY_BLACK = 1 / 8  # of the scale, after a lossy compression
_PAINTS = 64  # colours; a painted mask has fewer, even where an export has rounded them

Rgb = npt.NDArray[np.uint8]


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
        return np.ascontiguousarray(marked(_levels(content, image, lossy), lossy))


def _levels(content: bytes, image: Image.Image, lossy: bool) -> Levels:
    """(H, W), upright, of whatever carries the meaning."""
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
    if len(colours) > _PAINTS and between(brightness, 255).mean() > MOST_BETWEEN:
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
