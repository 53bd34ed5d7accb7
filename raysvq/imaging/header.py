"""Header of an image file: size, channels, and the full scale, the largest value a sample can have.

Samples of any depth become eight or sixteen bits over the whole range, so
that one picture stored at several depths has the same fraction of it everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from raysvq.imaging.rejection import DecodeError

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


@dataclass(frozen=True)
class Header:
    """Properties of the first image in a file."""

    kind: str  # format, such as "JPEG"
    width: int  # as stored, before it is turned upright
    height: int
    channels: int  # channels of decoded pixels: 1 or 3
    full: int  # the full scale: the largest value a sample can have
    orientation: int = 1  # EXIF's; 1 is upright
    whole: str | None = None  # why it cannot be read in bands; None if it can

    @property
    def depth(self) -> int:
        """Bytes per channel of decoded pixels."""
        return 1 if self.full < 256 else 2

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) upright, pixels."""
        turned = self.orientation in (5, 6, 7, 8)
        return (self.width, self.height) if turned else (self.height, self.width)


def to_full_scale(samples: npt.NDArray[Any], full: int) -> Pixels:
    """Samples from 0 to `full` -> uint8 (up to 8 bits) or uint16, over its range, to the nearest value.

    Args:
        samples: uint8 or uint16, any shape; 255 and 65535 pass untouched.
        full: the full scale, from 1 to 65535.

    Raises:
        DecodeError: a sample is larger than the full scale.
    """
    kind, top = (np.uint8, 255) if full < 256 else (np.uint16, 65535)
    if full == top:
        return cast(Pixels, samples.astype(kind, copy=False))
    largest = int(samples.max(initial=0))
    if largest > full:
        raise DecodeError("corrupt", f"a sample of {largest}, beyond the full scale of {full} that it states")
    shades = np.rint(np.arange(full + 1) * (top / full)).astype(kind)
    return cast(Pixels, shades[samples])


def from_significant_bits(pixels: Pixels, bits: int | None) -> Pixels:
    """16-bit pixels of which a camera fills `bits`, right-aligned -> over all 16. Eight bits pass untouched.

    Raises:
        DecodeError: a value needs more bits.
    """
    if bits is None or pixels.dtype == np.uint8:
        return pixels
    largest = int(pixels.max(initial=0))
    if largest >= 2**bits:
        raise DecodeError("unsupported", f"value {largest} beyond tiles.significant_bits={bits}")
    return to_full_scale(pixels, 2**bits - 1)
