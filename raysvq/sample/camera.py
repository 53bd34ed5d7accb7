"""The cameras of the sample: lens blur, noise, tone curve, bit depth and file format."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from raysvq.imaging.noise import Plane, blur
from raysvq.sample.textures import BRUSHED, PAINTED

Frame = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
GAMMA = 2.2
JPEG_QUALITY = 92


@dataclass(frozen=True)
class Camera:
    """A kind of camera; each site has one.

    Attributes:
        name: what its file names start with.
        surface: what it photographs.
        suffix: file extension.
        deep: whether it writes 16-bit linear grey instead of 8-bit gamma RGB.
        wells: electrons of a white pixel; the fewer, the more shot noise.
        defects: the defect types that it photographs, in this order, repeated.
    """

    name: str
    surface: str
    suffix: str
    deep: bool
    wells: float
    defects: tuple[str, ...]


CAMERAS = (
    Camera("area-rgb", BRUSHED, ".png", False, 7000, ("pitting", "scratch", "contamination", "rust")),
    Camera("panel-rgb", PAINTED, ".jpg", False, 7000, ("rust", "scratch", "rust", "contamination")),
    Camera("line-mono", BRUSHED, ".png", True, 15000, ("pitting", "scratch", "rust", "contamination")),
)


def expose(radiance: Plane, camera: Camera) -> Plane:
    """The light on the sensor: (H, W, 3), or (H, W) of a grey camera; linear, 1 is white."""
    return np.maximum(blur(radiance @ LUMINANCE if camera.deep else radiance, 0.5), 0)


def tone(linear: Plane) -> Plane:
    """Linear light to display values, 0 to 1."""
    return np.asarray(np.clip(linear, 0, 1) ** (1 / GAMMA), np.float32)


def digitise(rng: np.random.Generator, linear: Plane, camera: Camera) -> Frame:
    """Add shot and read noise and quantise: uint16 linear from a deep camera, else uint8 with gamma."""
    noise = rng.standard_normal(linear.shape, dtype=np.float32) * np.sqrt(linear / camera.wells + 2e-6)
    if camera.deep:
        return np.asarray(np.clip(linear + noise, 0, 1) * 65535 + 0.5, np.uint16)
    return np.asarray(tone(linear + noise) * 255 + 0.5, np.uint8)


def encode(pixels: Frame, suffix: str) -> bytes:
    """PNG or JPEG bytes of (H, W) or (H, W, 3) RGB pixels."""
    ordered = pixels if pixels.ndim == 2 else pixels[..., ::-1]
    jpeg, png = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY], [cv2.IMWRITE_PNG_COMPRESSION, 4]
    done, encoded = cv2.imencode(suffix, ordered, jpeg if suffix == ".jpg" else png)
    if not done:
        raise ValueError(f"cannot encode {pixels.dtype} pixels of shape {pixels.shape} as {suffix}")
    return encoded.tobytes()
