"""Damage that the decoders themselves would let pass, or trip over."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from raysvq.imaging.decode import DecodeError, decode_image
from raysvq.imaging.pixels import load_tiles, open_tiles
from raysvq.settings import ScoringSettings, TileSettings
from tests.imaging.files import saved

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

LIMIT = 10**6
PIXELS = np.random.default_rng(5).integers(0, 256, (40, 56, 3), np.uint8)
IMAGE = Image.fromarray(PIXELS)


def _deep_tiff() -> bytes:
    uncompressed = (cv2.IMWRITE_TIFF_COMPRESSION, 1)
    return bytes(cv2.imencode(".tif", PIXELS.astype(np.uint16) * 257, uncompressed)[1].tobytes())


def _retagged(content: bytes, tag: int, kind: int | None = None, value: int | None = None) -> bytes:
    """A TIFF with another type or value of one tag."""
    changed = bytearray(content)
    (start,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, start)
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        if struct.unpack_from("<H", content, entry) == (tag,):
            if kind is not None:
                struct.pack_into("<H", changed, entry + 2, kind)
            if value is not None:
                struct.pack_into("<I", changed, entry + 8, value)
    assert changed != content
    return bytes(changed)


def test_a_tiff_cut_off_before_its_directory_is_corrupt() -> None:
    content = saved(IMAGE, "TIFF", compression="tiff_lzw")
    with pytest.raises(DecodeError, match="corrupt: TIFF"):
        decode_image(content[:-200], LIMIT)


@pytest.mark.parametrize("content", [saved(IMAGE, "TIFF"), _deep_tiff()], ids=["8-bit", "16-bit"])
def test_a_tiff_that_promises_more_rows_than_it_holds_is_corrupt(content: bytes) -> None:
    assert decode_image(content, LIMIT).shape == (40, 56, 3)
    with pytest.raises(DecodeError, match="corrupt: TIFF"):
        decode_image(_retagged(content, 257, value=200), LIMIT)


def test_a_tiff_on_its_side_holds_all_its_rows() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode_image(saved(IMAGE, "TIFF", exif=exif), LIMIT).shape == (56, 40, 3)


def test_a_number_out_of_range_is_damage() -> None:
    palette = saved(IMAGE.quantize(200), "TIFF")
    with pytest.raises(DecodeError, match="corrupt: TIFF"):
        decode_image(_retagged(palette, 320, kind=8), LIMIT)  # signed colours, some below zero


def test_a_jpeg2000_cut_off_where_a_tile_begins_is_corrupt() -> None:
    content = saved(IMAGE, "JPEG2000", tile_size=(32, 32))
    tile = content.rindex(b"\xff\x90")  # the last one's first marker
    with pytest.raises(DecodeError, match="corrupt: JPEG2000"):
        decode_image(content[: tile + 2], LIMIT)


def test_memory_that_does_not_suffice_is_no_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image.Image, "convert", fail)
    with pytest.raises(DecodeError, match="too_large: GIF: not enough memory"):
        decode_image(saved(IMAGE.quantize(16), "GIF"), LIMIT)


def test_a_large_tiff_whose_rows_per_strip_cannot_be_read_counts_as_one_block() -> None:
    content = saved(IMAGE, "TIFF", compression="tiff_lzw")
    for tag in (256, 257):
        content = _retagged(content, tag, value=20_000)
    with pytest.raises(DecodeError, match="TIFF in blocks of 20000 rows cannot be read in bands"):
        open_tiles(_retagged(content, 278, kind=2), TileSettings(), ScoringSettings())


@pytest.mark.parametrize(("raised", "reason"), [(ValueError, "corrupt"), (MemoryError, "too_large")])
def test_whatever_cutting_raises_rejects_the_image(
    monkeypatch: pytest.MonkeyPatch, raised: type[Exception], reason: str
) -> None:
    def fail(*_: object) -> None:
        raise raised

    monkeypatch.setattr(np, "stack", fail)
    with pytest.raises(DecodeError, match=f"{reason}: PNG"):
        load_tiles(saved(IMAGE, "PNG"), TileSettings(size=16), ScoringSettings())
