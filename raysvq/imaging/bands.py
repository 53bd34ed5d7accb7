"""Large image files, a band of rows after another, through libvips: the pixels that `decode_image` gives.

JPEG, PNG and TIFF are read from top to bottom, and only some hundred rows are held. What their
decoders would hold whole (progressive JPEG, interlaced PNG, large strips or tiles) and what
stands turned in the file has no bands; nor have the other formats.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import pyvips
from PIL import Image

from raysvq.imaging.decode import DecodeError, Pixels, exif_orientation, require_png_end

ROWS = 64  # handed over by libvips at once
_DEPTHS: dict[str, type[np.uint8] | type[np.uint16]] = {"uchar": np.uint8, "ushort": np.uint16}
_MODES = {
    "JPEG": ("L", "RGB"),
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "TIFF": ("1", "L", "P", "RGB", "RGBA", "I;16", "I;16B"),
}
_LARGEST_BLOCK = 1024  # rows of a TIFF's strip or tile

# Every image is read once: there is nothing to look up again, and the process has its share of cores.
pyvips.cache_set_max(0)
pyvips.concurrency_set(1)


class Bands:
    """The rows of one image file, in order."""

    def __init__(self, content: bytes, header: Image.Image) -> None:
        """`header` is the file's, and `why_whole` has nothing against it.

        Raises:
            DecodeError: the file is damaged.
        """
        self._format = str(header.format)
        if self._format == "PNG":
            require_png_end(content)
        # As strict as the decoders of whole images; TIFF readers warn of every tag they do not know.
        strictness = "warning" if self._format == "JPEG" else "error"
        try:
            self._source = pyvips.Source.new_from_memory(content)
            self._image = pyvips.Image.new_from_source(
                self._source, "", access="sequential", fail_on=strictness
            )
            self._region = pyvips.Region.new(self._image)
        except pyvips.Error as error:
            raise self._damage(error) from None
        if self._image.format not in _DEPTHS or (self._image.width, self._image.height) != header.size:
            raise DecodeError("unsupported", f"{self._format} with pixels of type {self._image.format}")
        self._next = 0

    def read(self, rows: int) -> Pixels:
        """The next rows: (rows, W) or (rows, W, 3) RGB, uint8 or uint16.

        Raises:
            DecodeError: the file is damaged here, or cut off.
        """
        width, bands = self._image.width, self._image.bands
        pixels: npt.NDArray[Any] = np.empty((rows, width, bands), _DEPTHS[self._image.format])
        for top in range(0, rows, ROWS):
            count = min(ROWS, rows - top)
            try:
                raw = self._region.fetch(0, self._next, width, count)
            except pyvips.Error as error:
                raise self._damage(error) from None
            pixels[top : top + count] = np.frombuffer(raw, pixels.dtype).reshape(count, width, bands)
            self._next += count
        return pixels[..., 0] if bands < 3 else pixels[..., :3]

    def _damage(self, error: pyvips.Error) -> DecodeError:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return DecodeError("corrupt", f"{self._format}: {lines[-1]}")


def why_whole(header: Image.Image) -> str | None:
    """What keeps a file from being read in bands; None if nothing does.

    Raises:
        DecodeError: the file is damaged.
    """
    name = str(header.format)
    if header.mode not in _MODES.get(name, ()):
        return f"{name} of mode {header.mode}"
    if header.info.get("progressive"):
        return "progressive JPEG"
    if header.info.get("interlace"):
        return "interlaced PNG"
    turned = exif_orientation(header)
    if name == "TIFF":
        tags = header.tag_v2  # type: ignore[attr-defined]
        turned = tags.get(_Tag.ORIENTATION, 1)
        if tags.get(_Tag.PLANAR_CONFIGURATION, 1) != 1:
            return "TIFF of separate planes"
        block = tags.get(_Tag.TILE_LENGTH) or min(tags.get(_Tag.ROWS_PER_STRIP, 2**32), header.height)
        # Uncompressed strips are read row by row.
        if block > _LARGEST_BLOCK and (_Tag.TILE_LENGTH in tags or tags.get(_Tag.COMPRESSION, 1) != 1):
            return f"TIFF in blocks of {block} rows"
    return None if turned == 1 else f"{name} of EXIF orientation {turned}"


class _Tag(IntEnum):
    """TIFF 6.0, sections 8 and 15."""

    COMPRESSION = 259
    ORIENTATION = 274
    ROWS_PER_STRIP = 278
    PLANAR_CONFIGURATION = 284
    TILE_LENGTH = 323
