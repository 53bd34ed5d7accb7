"""Image files read in bands of rows, through libvips; it also reads whole PNG and most TIFF files.

JPEG, PNG and TIFF are read from top to bottom, and only some hundred rows are held. libvips brings
samples of up to 8 bits to 255 and others to 65535, whatever a file stores, with white as the largest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyvips

from raysvq.imaging.header import Header, Pixels
from raysvq.imaging.rejection import DecodeError

ROWS = 64  # rows that libvips delivers at once
_DEPTHS: dict[str, type[np.uint8] | type[np.uint16]] = {"uchar": np.uint8, "ushort": np.uint16}

# No cache, as every image is read once, and one thread, as each process has its share of cores.
pyvips.cache_set_max(0)
pyvips.concurrency_set(1)


class Bands:
    """The rows of one image file, in order, as stored: not turned upright."""

    def __init__(self, content: bytes, header: Header, mended: Callable[[], bytes] | None = None) -> None:
        """`mended` gives a repaired file to read if not even the first rows can be read.

        Raises:
            DecodeError: the file is damaged, or of a pixel type that is not read.
        """
        self._header, self._mended = header, mended
        self._next = 0
        try:
            self._open(content)
        except pyvips.Error as error:
            self._mend(error)

    def _open(self, content: bytes) -> None:
        header = self._header
        # As strict as simplejpeg for JPEG; for PNG and TIFF warnings include unknown tags and chunks.
        strictness = "warning" if header.kind == "JPEG" else "error"
        self._source = pyvips.Source.new_from_memory(content)
        self._image = pyvips.Image.new_from_source(self._source, "", access="sequential", fail_on=strictness)
        self._region = pyvips.Region.new(self._image)
        found = self._image.format
        if found not in _DEPTHS:
            raise DecodeError("unsupported", f"{header.kind} with pixels of type {found}")
        if (self._image.width, self._image.height) != (header.width, header.height):
            raise DecodeError("corrupt", f"{header.kind}: its headers tell of different sizes")

    def _mend(self, error: pyvips.Error) -> None:
        """Start again with the repaired file, if there is one and no row was read."""
        if self._mended is None or self._next:
            raise self._damage(error) from None
        content, self._mended = self._mended(), None
        try:
            self._open(content)
        except pyvips.Error:
            raise self._damage(error) from None

    def read(self, rows: int) -> Pixels:
        """The next rows: (rows, W) or (rows, W, 3) RGB, uint8 or uint16.

        Raises:
            DecodeError: the file is damaged here, or cut off.
        """
        samples = self.read_samples(rows)
        grey = self._header.channels == 1 or samples.shape[2] < 3
        return samples[..., 0] if grey else samples[..., :3]

    def read_samples(self, rows: int) -> npt.NDArray[Any]:
        """`read`, with all the channels that are stored: (rows, W, C)."""
        width, channels = self._image.width, self._image.bands
        samples: npt.NDArray[Any] = np.empty((rows, width, channels), _DEPTHS[self._image.format])
        for top in range(0, rows, ROWS):
            count = min(ROWS, rows - top)
            raw = self._fetch(count)
            samples[top : top + count] = np.frombuffer(raw, samples.dtype).reshape(count, width, channels)
            self._next += count
        return samples

    def _fetch(self, rows: int) -> Any:
        while True:
            try:
                return self._region.fetch(0, self._next, self._image.width, rows)
            except pyvips.Error as error:
                self._mend(error)

    def _damage(self, error: pyvips.Error) -> DecodeError:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return DecodeError("corrupt", f"{self._header.kind}: {lines[-1]}")
