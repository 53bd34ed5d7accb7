"""Masks as tools and cameras' vendors write them, all of the same defect."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from PIL import Image

Array = np.ndarray[Any, Any]

SIZE = (96, 128)


def _defect() -> Array:
    """(H, W) bool: a disc and a scratch."""
    drawn = np.zeros(SIZE, np.uint8)
    cv2.circle(drawn, (40, 40), 14, 1, -1)
    cv2.line(drawn, (70, 70), (115, 30), 1, 4)
    return drawn.astype(bool)


DEFECT = _defect()
DISC = DEFECT & (np.arange(SIZE[1]) < 60)
WHITE = DEFECT.astype(np.uint8) * np.uint8(255)


def saved(pixels: Array | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """A file of these pixels, by Pillow."""
    buffer = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def reopened(content: bytes) -> Image.Image:
    """The pixels of a file, to be saved in another format."""
    return Image.open(io.BytesIO(content))


def by_opencv(pixels: Array, suffix: str = ".tif") -> bytes:
    """A file of these pixels, by OpenCV: it writes more types than Pillow."""
    done, encoded = cv2.imencode(suffix, pixels)
    assert done
    return encoded.tobytes()


def indexed(numbers: Array, colours: Sequence[tuple[int, int, int]], kind: str = "PNG", **more: Any) -> bytes:
    """A file of palette numbers."""
    image = Image.fromarray(numbers.astype(np.uint8), "L")
    image.putpalette([channel for colour in colours for channel in colour])
    return saved(image, kind, **more)


def coloured(marks: Array, colour: Sequence[int], ground: Sequence[int]) -> Array:
    """(H, W, C) of one colour on another."""
    return np.where(marks[..., None], np.array(colour, np.uint8), np.array(ground, np.uint8))


def labels() -> Array:
    """The disc as 2, the scratch as 1."""
    return DEFECT.astype(np.uint8) + DISC


def soft_edges(scale: int = 255) -> tuple[Array, Array]:
    """An enlarged mask with smooth edges, brought down to SIZE, and the truth that it was made from."""
    large = cv2.resize(WHITE, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    small = cv2.resize(large, SIZE[::-1], interpolation=cv2.INTER_AREA)
    return (small.astype(np.uint16) * scale // 255).astype(np.uint8), DEFECT


def photograph(channels: int = 1) -> Array:
    """Brushed metal: no mask of anything."""
    rng = np.random.default_rng(5)
    grain = cv2.GaussianBlur(rng.normal(128, 60, (*SIZE, channels)).astype(np.float32), (0, 0), 3, sigmaY=0.6)
    return np.clip(grain.reshape(*SIZE, channels), 0, 255).astype(np.uint8).squeeze()


def heat_map() -> Array:
    """A smooth probability, 0 to 1."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.exp(-((rows - 40) ** 2 + (columns - 40) ** 2) / 800).astype(np.float32)
