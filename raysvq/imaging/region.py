"""Region of interest: the part of a camera's images that is inspected; outside it nothing scores.

It is a polygon in fractions of width and height, or a mask image that is white inside. So it fits images of
every size.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from raysvq.errors import SettingsError, StorageError
from raysvq.imaging.decode import DecodeError
from raysvq.imaging.masks import decode_mask
from raysvq.storage import read_bytes

Marks = npt.NDArray[np.bool_]  # (H, W)

_SHIFT = 8  # OpenCV takes corners in 1/2**8 of a pixel
_SAMPLES = 8  # along the side of a map cell, in which its share inside is measured
_MAX_SAMPLES = 2**26  # of a map; larger ones have fewer for each cell


@dataclass(frozen=True)
class Region:
    """A region of interest, as settings name it: a polygon or a mask image."""

    polygon: tuple[tuple[float, float], ...] = ()  # corners (x, y), fractions of width and height
    mask_uri: str | None = None

    def __post_init__(self) -> None:
        """Raise SettingsError where it is not one of both, or the polygon is none."""
        if bool(self.polygon) == (self.mask_uri is not None):
            found = "both" if self.polygon else "neither"
            raise SettingsError(
                f"region of interest: found {found} of polygon and mask; expected one of them"
            )
        if not self.polygon:
            return
        if len(self.polygon) < 3:
            raise SettingsError(
                f"region of interest: polygon has {len(self.polygon)} corners, expected at least 3"
            )
        for corner in self.polygon:
            if len(corner) != 2 or not all(math.isfinite(value) and 0 <= value <= 1 for value in corner):
                raise SettingsError(
                    f"region of interest: corner {list(corner)} of the polygon; expected [x, y] in fractions"
                    " of width and height, each from 0 to 1"
                )

    def read(self) -> ReadRegion:
        """The region with its mask image.

        Raises:
            SettingsError: the mask image cannot be read, or marks nothing.
        """
        if self.mask_uri is None:
            return ReadRegion(self, None, _digest(json.dumps(self.polygon).encode()))
        try:
            content = read_bytes(self.mask_uri)
            marks = decode_mask(content)
        except (DecodeError, FileNotFoundError, PermissionError, StorageError) as error:
            raise SettingsError(f"region of interest: mask {self.mask_uri} cannot be used: {error}") from None
        if not marks.any():
            raise SettingsError(f"region of interest: mask {self.mask_uri} is black, expected white inside")
        return ReadRegion(self, marks, _digest(content))

    def mask(self, height: int, width: int) -> Marks:
        """`ReadRegion.mask` of the region as it is now. Raises SettingsError as `read`."""
        return self.read().mask(height, width)


@dataclass(frozen=True, eq=False)
class ReadRegion:
    """A region of interest, ready to use."""

    region: Region
    marks: Marks | None  # of the mask image, at its own size
    digest: str  # 16 hexadecimal digits over the polygon, or the content of the mask image

    def mask(self, height: int, width: int) -> Marks:
        """(height, width) of an image: True for pixels that are inside, or that the polygon's edge touches.

        A mask image is resized to the nearest pixel.
        """
        if self.marks is not None:
            size = (width, height)
            return cv2.resize(self.marks.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST).astype(bool)
        # Pixel (i, j) has its centre at (i + 0.5, j + 0.5).
        corners = np.array(self.region.polygon) * [width, height] - 0.5
        filled = np.zeros((height, width), np.uint8)
        fixed = np.rint(corners * 2**_SHIFT).astype(np.int32)
        return cv2.fillPoly(filled, [fixed], 1, shift=_SHIFT).astype(bool)

    def cells(self, shape: tuple[int, int], span: tuple[int, int], size: tuple[int, int]) -> Marks:
        """Which cells of an anomaly map are inside: those of which at least half is.

        Args:
            shape: (h, w) of the map.
            span: (height, width) in image pixels that the map spans; beyond the image it goes on as its edge.
            size: (height, width) of the image.

        Returns:
            (h, w).
        """
        each = min(_SAMPLES, max(1, math.isqrt(_MAX_SAMPLES // (shape[0] * shape[1]))))
        whole = [cells * each for cells in shape]
        part = [max(1, round(n * have / spanned)) for n, have, spanned in zip(whole, size, span, strict=True)]
        samples = self.mask(part[0], part[1])
        beyond = [(0, max(0, n - found)) for n, found in zip(whole, part, strict=True)]
        samples = np.pad(samples, beyond, mode="edge")
        shares = samples.reshape(shape[0], each, shape[1], each).mean(axis=(1, 3))
        return np.asarray(shares >= 0.5)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
