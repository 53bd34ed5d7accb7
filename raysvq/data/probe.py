"""A look at a few images before a long run: are they there, and do the tiles fit them?"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from raysvq.errors import DataError, StorageError
from raysvq.imaging.decode import DecodeError, decode_pixels, image_size, open_header
from raysvq.settings import TileSettings
from raysvq.storage import read_bytes

_DECODED = 8  # images of which the values are looked at
_LARGE = 50_000_000  # pixels of an image that is not
_DARK = 65536 // 8  # values of images that leave most of 16 bits unused


def require_fitting(uris: list[str], tiles: TileSettings) -> None:
    """Check a sample of images against the tile size.

    Raises:
        DataError: none of them can be read, or every one is smaller than a tile.
    """
    with ThreadPoolExecutor(8) as pool:
        looks = list(pool.map(_look, uris))
    sizes = [look for look in looks if isinstance(look, tuple)]
    if not sizes:
        raise DataError(f"none of the {len(uris)} images looked at can be read; {uris[0]}: {looks[0]}")
    largest = max(sizes, key=min)
    if tiles.mode == "tiles" and min(largest) < tiles.size:
        raise DataError(
            f"setting `tiles.size`: {tiles.size} is larger than every image looked at (the largest of"
            f" {len(sizes)} is {largest[1]} x {largest[0]} pixels); expected a smaller one,"
            " or tiles.mode=whole"
        )


def hint_at_depth(uris: list[str], tiles: TileSettings) -> str | None:
    """What to tell of 16-bit images that fill only their lowest bits, where no setting says so."""
    if tiles.significant_bits is not None:
        return None
    found = [largest for largest in map(_largest_of_16_bits, uris[:_DECODED]) if largest is not None]
    if not found or max(found) >= _DARK:
        return None
    return (
        f"hint: the 16-bit images looked at have no value above {max(found)} of 65535; if their camera fills"
        f" {max(9, max(found).bit_length())} bits, set tiles.significant_bits"
    )


def require_readable(uris: list[str]) -> None:
    """Check that the store hands out files at all, before a run would reject every one of them.

    Raises:
        StorageError: every one of the images exists but is refused, or the store does not answer.
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
        raise StorageError(f"none of the {len(uris)} images looked at can be read; {uris[0]}: {problems[0]}")


def _largest_of_16_bits(uri: str) -> int | None:
    """The largest value of an image whose full scale is 16 bits; None of all others."""
    try:
        content = read_bytes(uri)
        header = open_header(content, _LARGE)
        return int(decode_pixels(content, header).max()) if header.full == 65535 else None
    except (DecodeError, OSError):
        return None


def _look(uri: str) -> tuple[int, int] | str:
    """(height, width), or what went wrong."""
    try:
        return image_size(read_bytes(uri))
    except (DecodeError, OSError) as error:
        return str(error)
