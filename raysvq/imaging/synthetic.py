"""Defects drawn onto normal images, to compare settings without labelled outliers.

After cut-and-paste (Li et al. 2021, CutPaste) and noise-shaped blends (Zavrtanik et al. 2021, DRAEM).
"""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np

from raysvq.imaging.decode import Pixels, decode_image
from raysvq.imaging.noise import Plane, coordinates, fractal, ramp

_REACH = (0.02, 0.12)  # size of a defect as a fraction of the image's shorter side
_LONGEST = 5.0  # largest ratio of length to width
_SHADES = (0.55, 0.8, 1.2, 1.45)  # factors of brightness


def with_defect(content: bytes, max_pixels: int, rng: np.random.Generator) -> bytes:
    """An image file with a defect drawn on: a piece from elsewhere in it, or a shade. As PNG.

    Raises:
        DecodeError: the file is not a whole, readable image.
    """
    pixels = draw_defect(decode_image(content, max_pixels), rng)
    done, encoded = cv2.imencode(".png", pixels if pixels.ndim == 2 else pixels[..., ::-1])
    if not done:
        raise ValueError(f"cannot encode {pixels.dtype} pixels of shape {pixels.shape}")
    return encoded.tobytes()


def draw_defect(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """(H, W[, 3]) -> the same with a defect; type and depth stay, and so do the bits that the values need."""
    height, width = pixels.shape[:2]
    share = _shape(rng, (height, width))
    if pixels.ndim == 3:
        share = share[..., None]
    if rng.random() < 0.5:
        shift = (int(rng.integers(height // 4, height - height // 4 + 1)), int(rng.integers(0, width)))
        other = np.roll(pixels, shift, axis=(0, 1)).astype(np.float32)
    else:
        other = pixels.astype(np.float32) * np.float32(rng.choice(_SHADES))
    mixed = pixels + (other - pixels) * share
    bits = 8 if pixels.dtype == np.uint8 else int(pixels.max()).bit_length()
    return cast(Pixels, np.clip(mixed + 0.5, 0, 2**bits - 1).astype(pixels.dtype))


def _shape(rng: np.random.Generator, size: tuple[int, int]) -> Plane:
    """(H, W) from 0 to 1: a ragged ellipse, away from the border, turned and stretched at random."""
    reach = min(size) * np.exp(rng.uniform(*np.log(_REACH)))
    stretch = np.exp(rng.uniform(0, np.log(_LONGEST)) / 2)
    turn = rng.uniform(0, np.pi)
    rows, columns = coordinates(size)
    down, across = rows - size[0] * rng.uniform(0.2, 0.8), columns - size[1] * rng.uniform(0.2, 0.8)
    along = (down * np.cos(turn) + across * np.sin(turn)) / stretch
    aside = (across * np.cos(turn) - down * np.sin(turn)) * stretch
    ragged = np.hypot(along, aside) / reach + 0.25 * fractal(rng, size, max(2.0, reach))
    return ramp(np.asarray(ragged, np.float32), 1.1, 0.9)
