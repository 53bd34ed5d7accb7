"""What an image file says of its pixels, without them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Header:
    """Of the first image in a file."""

    kind: str  # of file, such as "JPEG"
    width: int  # as stored, before it is turned upright
    height: int
    channels: int  # of its decoded pixels: 1 or 3
    full: int  # the full scale: the largest value a sample can have
    orientation: int = 1  # EXIF's; 1 is upright
    whole: str | None = None  # what keeps it from being read in bands

    @property
    def depth(self) -> int:
        """Bytes of a channel of its decoded pixels."""
        return 1 if self.full < 256 else 2

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) upright, pixels."""
        turned = self.orientation in (5, 6, 7, 8)
        return (self.width, self.height) if turned else (self.height, self.width)
