"""Checks on a few images before a long run: can they be read, and do the tiles fit them?"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from raysvq.errors import DataError, StorageError
from raysvq.imaging.decode import DecodeError, decode_pixels, image_size, open_header
from raysvq.settings import TileSettings
from raysvq.storage import read_bytes

_DECODED = 8  # images that are decoded for the hint
_LARGE = 50_000_000  # pixels of an image that is too large to be decoded for it
_DARK = 65536 // 8  # 16-bit images without a value above it bring the hint


def require_fitting(uris: list[str], tiles: TileSettings) -> None:
    """Check a sample of images against the tile size.

    Raises:
        DataError: none of them can be read, or every one is smaller than a tile.
    """
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(_size_or_problem, uris))
    sizes = [size for size in found if isinstance(size, tuple)]
    if not sizes:
        raise DataError(f"none of the {len(uris)} images checked can be read; {uris[0]}: {found[0]}")
    largest = max(sizes, key=min)
    if tiles.mode == "tiles" and min(largest) < tiles.size:
        raise DataError(
            f"setting `tiles.size`: {tiles.size} is larger than every image checked (the largest of"
            f" {len(sizes)} is {largest[1]} x {largest[0]} pixels); expected a smaller one,"
            " or tiles.mode=whole"
        )


def hint_at_depth(uris: list[str], tiles: TileSettings) -> str | None:
    """A hint where 16-bit images fill only their lowest bits and no setting says so; else None."""
    if tiles.significant_bits is not None:
        return None
    found = [largest for largest in map(_largest_of_16_bits, uris[:_DECODED]) if largest is not None]
    if not found or max(found) >= _DARK:
        return None
    return (
        f"hint: the 16-bit images checked have no value above {max(found)} of 65535; if their camera fills"
        f" {max(9, max(found).bit_length())} bits, set tiles.significant_bits"
    )


def require_readable(uris: list[str]) -> None:
    """Check that the store hands out files at all: otherwise a run would reject all of them.

    Raises:
        StorageError: all of the images exist but are refused, or the store does not answer.
    """
    problems: list[OSError] = []
    for uri in uris:
        try:
            read_bytes(uri)
            return
        except FileNotFoundError:
            continue
        except OSError as error:
            problems.append(error)
    if problems and len(problems) == len(uris):
        raise StorageError(f"none of the {len(uris)} images checked can be read; {uris[0]}: {problems[0]}")


def _largest_of_16_bits(uri: str) -> int | None:
    """The largest pixel value of an image whose full scale is 16 bits; None for every other image."""
    try:
        content = read_bytes(uri)
        header = open_header(content, _LARGE)
        return int(decode_pixels(content, header).max()) if header.full == 65535 else None
    except (DecodeError, OSError):
        return None


def _size_or_problem(uri: str) -> tuple[int, int] | str:
    """(height, width), or what went wrong."""
    try:
        return image_size(read_bytes(uri))
    except (DecodeError, OSError) as error:
        return str(error)
