"""What an image looks like, whatever its score: exposure, contrast, sharpness, warmth, and the codes it uses.

Pixels are taken to be encoded as in sRGB, at either depth. Where tiles overlap, pixels count in each of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from raysvq.imaging.header import Pixels

CODES = 16  # of an image that are kept
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722])  # of linear red, green, blue (ITU-R BT.709)
_LEAST = 2.0**-16  # a black image has -16 stops
_STEP = 4  # of rows and columns, each such pixel counts for exposure and warmth


def _linear(full: int) -> npt.NDArray[np.float32]:
    """The transfer function of sRGB (IEC 61966-2-1), of each value up to full scale."""
    encoded = np.arange(full + 1) / full
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    return linear.astype(np.float32)


_LINEAR = {np.dtype(kind): _linear(np.iinfo(kind).max) for kind in (np.uint8, np.uint16)}


@dataclass(frozen=True)
class Signals:
    """Columns of the same names in SCORES; None where an image has no such number."""

    exposure: float | None = None
    contrast: float | None = None
    sharpness: float | None = None
    warmth: float | None = None


@dataclass
class SignalSums:
    """Sums over the tiles of one image, added as they are decoded."""

    sampled: int = 0  # pixels in `linear`
    pixels: int = 0  # in the others
    linear: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))  # red, green, blue
    grey: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))  # values, squares
    laplacian: float = 0.0  # squares; its mean is 0

    def add(self, tiles: Pixels) -> None:
        """Add (t, H, W, C) tiles, uint8 or uint16."""
        full = float(np.iinfo(tiles.dtype).max)
        depth = cv2.CV_16S if tiles.dtype == np.uint8 else cv2.CV_32F
        for tile in tiles:
            sparse = _LINEAR[tiles.dtype][tile[::_STEP, ::_STEP]]
            self.sampled += sparse[..., 0].size
            sums = cv2.sumElems(sparse)
            self.linear += sums[:3] if tile.shape[2] == 3 else sums[0]
            grey = cv2.cvtColor(tile, cv2.COLOR_RGB2GRAY) if tile.shape[2] == 3 else tile[..., 0]
            self.pixels += grey.size
            self.grey += _moments(grey) / (full, full**2)
            self.laplacian += cv2.norm(cv2.Laplacian(grey, depth), cv2.NORM_L2SQR) / full**2

    def signals(self) -> Signals:
        """Of the whole image. A flat one has neither contrast nor sharpness, a grey one no warmth."""
        if not self.pixels:
            return Signals()
        red, green, blue = self.linear / self.sampled
        mean, variance = _mean_and_variance(self.grey, self.pixels)
        flat = variance < _LEAST**2
        return Signals(
            exposure=_log2(float(_LUMINANCE @ (red, green, blue))),
            contrast=None if flat else 0.5 * _log2(variance) - _log2(mean),
            sharpness=None if flat else _log2(self.laplacian / self.pixels / variance),
            warmth=None if red == green == blue else _log2(red) - _log2(blue),
        )


def sample_codes(codes: npt.NDArray[np.uint16], image_id: str) -> npt.NDArray[np.uint16]:
    """CODES of an image's codes, at positions drawn by its id: always the same of an image."""
    rng = np.random.default_rng(np.frombuffer(image_id.encode(), np.uint8).astype(np.uint32))
    return rng.choice(codes, min(CODES, len(codes)), replace=False)


def _moments(values: npt.NDArray[np.integer | np.floating]) -> npt.NDArray[np.float64]:
    """Sum, and sum of squares."""
    mean, deviation = (float(found[0, 0]) for found in cv2.meanStdDev(values))
    return values.size * np.array([mean, mean**2 + deviation**2])


def _mean_and_variance(sums: npt.NDArray[np.float64], count: int) -> tuple[float, float]:
    mean, square = (sums / count).tolist()
    return mean, max(square - mean**2, 0.0)


def _log2(value: float) -> float:
    return float(np.log2(max(value, _LEAST)))
