"""A few tiles of a labelled image, and which of their grid positions show what its label says.

Shapes: T tiles, C channels, h and w grid of a tile.
"""

from __future__ import annotations

import heapq
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from raysvq import storage
from raysvq.imaging.decode import DecodeError, Pixels
from raysvq.imaging.pixels import at_full_scale, open_tiles
from raysvq.imaging.tiling import Tiling, is_anomalous, resize
from raysvq.settings import Settings, TileSettings

_PIXELS = 2**16  # of an image that are taken, but one tile at least

Marks = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.integer]
ReadMask = Callable[[str | None, int, int], Marks | None]  # mask URI, height, width -> (height, width)


class LabelledImage(Protocol):
    """A test image with its label, and the version of its file that was scored."""

    @property
    def image_id(self) -> str: ...
    @property
    def uri(self) -> str: ...
    @property
    def anomalous(self) -> bool: ...
    @property
    def mask_uri(self) -> str | None: ...
    @property
    def version(self) -> storage.ObjectInfo: ...


class SkippedError(Exception):
    """An image cannot be used; it says why."""


@dataclass(frozen=True)
class LabelledTiles:
    """Some tiles of one image."""

    pixels: npt.NDArray[np.uint16]  # (T, size, size, C) over the full scale
    wanted: Marks  # (T, h, w) positions of a normal image, or marked ones of an anomalous image


def choose_images(images: Iterable[LabelledImage], number: int) -> list[LabelledImage]:
    """At most `number` images: anomalous ones up to half, then normal ones, those with the smallest ids."""
    parted: tuple[list[LabelledImage], list[LabelledImage]] = ([], [])
    for image in images:
        parted[image.anomalous].append(image)
    normal, anomalous = parted
    chosen = heapq.nsmallest(number // 2, anomalous, key=lambda image: image.image_id)
    return chosen + heapq.nsmallest(number - len(chosen), normal, key=lambda image: image.image_id)


def read_tiles(image: LabelledImage, settings: Settings, cell: int, read_mask: ReadMask) -> LabelledTiles:
    """Read an image and take a few of its tiles, spread by chance; of an anomalous image, marked ones.

    An anomalous image without a mask counts as marked all over.

    Args:
        settings: the model's own.
        cell: pixels along the side of a grid position.
        read_mask: gives None for a mask that cannot be used.

    Raises:
        SkippedError: the image cannot be read or decoded, or its mask cannot be used.
    """
    version = image.version
    try:
        content = storage.read_version(image.uri, version.size_bytes, version.etag, version.mtime)
        opened = open_tiles(content, settings.tiles, settings.scoring)
        marks = _marks(image, opened.tiling, read_mask)
        numbers = _choose_tiles(opened.tiling, marks, seed_of(image))
        pixels = _take(opened.parts, numbers)
    except storage.ChangedError as error:
        raise SkippedError(f"has changed since it was scored ({error})") from None
    except OSError as error:
        raise SkippedError(f"cannot be read ({error.strerror or error})") from None
    except DecodeError as error:
        raise SkippedError(f"cannot be decoded ({error.reason}: {error.detail})") from None
    grid = (len(numbers), opened.tiling.size // cell, opened.tiling.size // cell)
    if marks is None:
        return LabelledTiles(pixels, np.ones(grid, np.bool_))
    shares = np.stack([_shares(marks, opened.tiling, number, cell) for number in numbers.tolist()])
    return LabelledTiles(pixels, _marked(shares, settings.tiles))


def seed_of(image: LabelledImage) -> int:
    """A seed for what is drawn from an image: the same whichever other images there are."""
    return zlib.crc32(image.image_id.encode())


def _marks(image: LabelledImage, tiling: Tiling, read_mask: ReadMask) -> Marks | None:
    """The mask of an anomalous image; None where all of an image counts. Raises SkippedError."""
    if not image.anomalous or image.mask_uri is None:
        return None
    mask = read_mask(image.mask_uri, tiling.height, tiling.width)
    if mask is None:
        raise SkippedError("has a mask that cannot be used")
    return mask


def _choose_tiles(tiling: Tiling, marks: Marks | None, seed: int) -> Integers:
    """Numbers of the tiles to take, in order."""
    candidates = np.arange(len(tiling))
    if marks is not None and not tiling.whole:
        candidates = np.flatnonzero([marks[y : y + h, x : x + w].any() for x, y, w, h in tiling.rects()])
    most = max(1, _PIXELS // tiling.size**2)
    if len(candidates) <= most:
        return candidates
    return np.sort(np.random.default_rng(seed).choice(candidates, most, replace=False))


def _take(parts: Iterator[Pixels], numbers: Integers) -> npt.NDArray[np.uint16]:
    """The tiles of these numbers; an image in bands is decoded no further than to the last of them."""
    taken, first = [], 0
    for part in parts:
        here = numbers[(numbers >= first) & (numbers < first + len(part))] - first
        taken.append(at_full_scale(part[here]))
        first += len(part)
        if first > numbers[-1]:
            break
    return np.concatenate(taken)


def _shares(marks: Marks, tiling: Tiling, number: int, cell: int) -> npt.NDArray[np.float64]:
    """(h, w) marked share of each position of a tile; what lies beside the image is not marked."""
    size, side = tiling.size, tiling.size // cell
    if tiling.whole:
        return resize(marks.astype(np.uint8) * np.uint8(255), side, side) / 255.0
    y, x = tiling.ys[number // len(tiling.xs)], tiling.xs[number % len(tiling.xs)]
    tile = np.zeros((size, size))
    part = marks[y : y + size, x : x + size]
    tile[: part.shape[0], : part.shape[1]] = part
    return np.asarray(tile.reshape(side, cell, side, cell).mean(axis=(1, 3)))


def _marked(shares: npt.NDArray[np.float64], tiles: TileSettings) -> Marks:
    """The rule for tiles, for positions; where it finds none, the positions with the largest share."""
    marked = is_anomalous(shares, tiles.anomalous_fraction)
    return marked if marked.any() else shares == shares.max()
