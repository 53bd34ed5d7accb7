"""From the bytes of a file to tiles, in the same way for training, evaluation and scoring."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt

from raysvq.imaging.decode import decode_pixels, open_bands, open_header
from raysvq.imaging.header import Header, Pixels, from_significant_bits
from raysvq.imaging.rejection import DecodeError, rejecting
from raysvq.imaging.tiling import Tiling, cut, cut_parts, cut_rows, plan_tiles, shrink_rows
from raysvq.settings import ScoringSettings, TileSettings

FULL_SCALE = 65535.0
_COPIES = 4  # copies of the pixels of an image or band in memory while it is decoded and cut, at most
_COPIES_PILLOW = 6  # the same if Pillow decodes
_COPIES_TILE = 2  # copies of a tile's pixels in memory while it is cut: padded and stacked
_PART = 2**22  # pixels of tiles cut at once, if memory allows
_NONE = nullcontext()


@dataclass(frozen=True)
class CutImage:
    """An image as tiles. A large one is decoded as `parts` is iterated, which may raise DecodeError."""

    tiling: Tiling
    parts: Iterator[Pixels]  # (t, S, S, C) consecutive tiles, S = tiles.seen; uint8 or uint16


def to_planes(image: Pixels, channels: int) -> Pixels:
    """(H, W[, 3]) -> (H, W, channels), same type.

    Grey is replicated to three channels; colour becomes luminance (ITU-R BT.601) for one.
    """
    if image.ndim == 2:
        return cast(Pixels, cv2.cvtColor(image, cv2.COLOR_GRAY2RGB) if channels == 3 else image[..., None])
    if channels == 1:
        return cast(Pixels, cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None])
    return image


def at_full_scale(pixels: Pixels) -> npt.NDArray[np.uint16]:
    """uint8 or uint16 -> uint16, such that value / FULL_SCALE is exact for both: eight bits times 257."""
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint16) * np.uint16(257)
    return pixels.astype(np.uint16, copy=False)


def open_tiles(
    content: bytes,
    tiles: TileSettings,
    scoring: ScoringSettings,
    deadline: AbstractContextManager[Any] = _NONE,
) -> CutImage:
    """Cut an image file into tiles.

    An image whose pixels would take more than `scoring.image_memory_mib` is read in bands of rows.

    Args:
        deadline: entered for the header with the first pixels, and for every part.

    Raises:
        DecodeError: the file is not a readable image, or too large for the limits in `scoring`.
    """
    with deadline:
        header = open_header(content, scoring.max_pixels)
        with rejecting(header.kind):
            image = _open(content, header, tiles, scoring)
    return CutImage(image.tiling, _rejecting_parts(image.parts, header.kind, deadline))


def load_tiles(
    content: bytes,
    tiles: TileSettings,
    scoring: ScoringSettings,
    deadline: AbstractContextManager[Any] = _NONE,
) -> tuple[Tiling, npt.NDArray[np.uint16]]:
    """All tiles of an image file at once, (T, S, S, C) over the full scale. Raises DecodeError."""
    image = open_tiles(content, tiles, scoring, deadline)
    return image.tiling, np.concatenate([at_full_scale(part) for part in image.parts])


def _rejecting_parts(
    parts: Iterator[Pixels], kind: str, deadline: AbstractContextManager[Any]
) -> Iterator[Pixels]:
    while True:
        with deadline, rejecting(kind):
            part = next(parts, None)
        if part is None:
            return
        yield part
        del part  # frees its memory before the next part is made


def _open(content: bytes, header: Header, tiles: TileSettings, scoring: ScoringSettings) -> CutImage:
    pixel = max(header.channels, tiles.channels) * header.depth
    decoded = header.width * header.height * pixel
    decoding = decoded * (_COPIES if header.kind == "JPEG" else _COPIES_PILLOW)
    whole = max(decoding, decoded + _tile_bytes(tiles, pixel))
    if whole > scoring.image_memory_mib * 2**20:
        return _in_bands(content, header, tiles, scoring, pixel, whole)
    image = _as_stated(decode_pixels(content, header), header, tiles)
    tiling = plan_tiles(image.shape[0], image.shape[1], tiles)
    if tiling.whole and image.shape[:2] != (tiling.size, tiling.size):
        image = at_full_scale(image)  # shrinking gives values between those of 8 bits
    at_once = _tiles_at_once(tiles, scoring, pixel, decoded)
    if len(tiling) <= at_once:
        return CutImage(tiling, iter([cut(image, tiling)]))
    return CutImage(tiling, cut_parts(image, tiling, at_once))


def _as_stated(pixels: Pixels, header: Header, tiles: TileSettings) -> Pixels:
    """Pixels or rows of an image -> the same over the full scale, in the model's channels."""
    bits = tiles.significant_bits if header.full == FULL_SCALE else None
    return to_planes(from_significant_bits(pixels, bits), tiles.channels)


def _tile_bytes(tiles: TileSettings, pixel: int) -> int:
    """Bytes for cutting one tile of pixels of `pixel` bytes."""
    return 0 if tiles.mode == "whole" else _COPIES_TILE * tiles.seen**2 * pixel


def _tiles_at_once(tiles: TileSettings, scoring: ScoringSettings, pixel: int, taken: int) -> int:
    """Number of tiles cut at once beside `taken` bytes; each may need rows of its own."""
    free = scoring.image_memory_mib * 2**20 - taken
    area = tiles.seen**2
    return max(1, min(_PART // area, free // ((_COPIES + _COPIES_TILE) * area * pixel)))


def _in_bands(
    content: bytes, header: Header, tiles: TileSettings, scoring: ScoringSettings, pixel: int, whole: int
) -> CutImage:
    """`pixel` is the size of a pixel, `whole` what the image would take in one piece, in bytes."""
    tiling = plan_tiles(header.height, header.width, tiles)
    why = header.whole
    if tiling.whole and min(header.size) < tiling.size:
        why = f"an image that does not fill tiles.size={tiling.size}"
    rows = 0 if tiling.whole else min(tiles.seen, tiling.height)
    held = _COPIES * rows * tiling.width * pixel + _tile_bytes(tiles, pixel)
    taken = (whole if why else held) / 2**20
    if taken > scoring.image_memory_mib:
        raise DecodeError(
            "too_large",
            f"{header.width} x {header.height} pixels take {taken:.0f} MiB, scoring.image_memory_mib allows"
            f" {scoring.image_memory_mib}: {why or f'tiles of {tiles.seen} rows'} cannot be read in bands",
        )
    bands = open_bands(content, header)

    def read(count: int) -> Pixels:
        return _as_stated(bands.read(count), header, tiles)

    if tiling.whole:
        shrunk = shrink_rows(lambda count: at_full_scale(read(count)), tiling.height, tiling.size)
        return CutImage(tiling, shrunk)
    return CutImage(tiling, cut_rows(read, tiling, _tiles_at_once(tiles, scoring, pixel, held)))
