"""One container for every pixel depth, shared by training and scoring."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from raysvq.imaging.decode import Pixels, decode_image
from raysvq.imaging.tiling import Tiling, cut, plan_tiles
from raysvq.settings import TileSettings

FULL_SCALE = 65535.0


def to_planes(image: Pixels, channels: int) -> npt.NDArray[np.uint16]:
    """(H, W[, 3]) uint8 or uint16 -> (H, W, channels) uint16 over the full scale.

    Eight-bit values are multiplied by 257, so that value / FULL_SCALE is exact for both depths.
    Grey is replicated to three channels; colour becomes luminance (ITU-R BT.601) for one.
    """
    if image.ndim == 2:
        image = image[..., None].repeat(channels, axis=2)
    elif channels == 1:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]  # type: ignore[assignment]
    if image.dtype == np.uint8:
        return image.astype(np.uint16) * np.uint16(257)
    return image.astype(np.uint16, copy=False)


def load_tiles(content: bytes, tiles: TileSettings, max_pixels: int) -> tuple[Tiling, npt.NDArray[np.uint16]]:
    """The one way from a file's bytes to model input, in training, evaluation and scoring.

    Returns:
        The tiling, and (T, size, size, channels) uint16 tiles.

    Raises:
        DecodeError: the file is not a whole, readable image.
    """
    image = decode_image(content, max_pixels)
    tiling = plan_tiles(image.shape[0], image.shape[1], tiles)
    return tiling, cut(to_planes(image, tiles.channels), tiling)  # type: ignore[return-value]
