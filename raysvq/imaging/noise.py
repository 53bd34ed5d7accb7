"""Noise fields for drawn textures and defects."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[np.float32]
Size = tuple[int, int]


def blur(plane: Plane, sigma: float) -> Plane:
    """Gaussian blur of an (H, W[, C]) plane by `sigma` pixels."""
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101), np.float32)


def noise(rng: np.random.Generator, size: Size, grain: float) -> Plane:
    """(H, W) noise of mean 0 and deviation 1 whose features are about `grain` pixels wide."""
    return stretched(rng, size, (grain, grain))


def stretched(rng: np.random.Generator, size: Size, grain: tuple[float, float]) -> Plane:
    """(H, W) noise of mean 0 and deviation 1 with features `grain` = (high, wide) pixels in size.

    Drawn on a grid as coarse as the features and enlarged, so that long streaks cost no more than
    short ones.
    """
    rows, columns = (int(np.ceil(side / max(step, 1.0))) + 3 for side, step in zip(size, grain, strict=True))
    coarse = rng.standard_normal((rows, columns), dtype=np.float32)
    scale_y, scale_x = max(grain[0], 1.0), max(grain[1], 1.0)
    offset_y, offset_x = rng.uniform(0, 1, 2)
    # The grid's phase is random: otherwise its nodes would line up at the same pixels of every image.
    affine = np.array([[1 / scale_x, 0, offset_x + 0.5], [0, 1 / scale_y, offset_y + 0.5]])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    plane = cv2.warpAffine(coarse, affine, size[::-1], flags=flags, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray((plane - plane.mean()) / max(float(plane.std()), 1e-6), np.float32)


def fractal(rng: np.random.Generator, size: Size, grain: float, octaves: int = 4) -> Plane:
    """(H, W) noise of deviation 1: octaves from `grain` pixels downwards, each half as strong."""
    total = np.zeros(size, np.float32)
    for octave in range(octaves):
        total += noise(rng, size, grain / 2**octave) * np.float32(0.55**octave)
    return total / np.float32(total.std())


def ramp(values: Plane, low: float, high: float) -> Plane:
    """Smooth step: 0 up to `low`, 1 from `high`; `low` > `high` falls instead of rising."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def mix(a: Plane, b: Plane | float, share: Plane) -> Plane:
    """a where `share` is 0, b where it is 1."""
    return np.asarray(a + (b - a) * share, np.float32)


def coordinates(size: Size) -> tuple[Plane, Plane]:
    """(H, W) row and column numbers."""
    rows, columns = np.indices(size, dtype=np.float32)
    return rows, columns
