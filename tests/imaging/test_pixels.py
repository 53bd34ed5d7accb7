from __future__ import annotations

import tracemalloc

import cv2
import numpy as np
import pytest

from raysvq.imaging.decode import DecodeError
from raysvq.imaging.pixels import FULL_SCALE, at_full_scale, load_tiles, open_tiles, to_planes
from raysvq.imaging.tiling import cut, plan_tiles
from raysvq.settings import ScoringSettings, TileSettings

_rng = np.random.default_rng(3)
RGB8 = _rng.integers(0, 256, (40, 50, 3), np.uint8)
GREY16 = _rng.integers(0, 2**16, (40, 50), np.uint16)


def _png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels[..., ::-1] if pixels.ndim == 3 else pixels)[1].tobytes()


def test_both_depths_reach_the_same_full_scale_exactly() -> None:
    eight = np.arange(256, dtype=np.uint8).reshape(16, 16)
    scaled = at_full_scale(eight)
    assert scaled.dtype == np.uint16
    np.testing.assert_array_equal(scaled / FULL_SCALE, eight / 255)
    assert at_full_scale(np.array([[0, 65535]], np.uint16)).ravel().tolist() == [0, 65535]


def test_deep_pixels_pass_untouched() -> None:
    assert np.array_equal(to_planes(GREY16, 1)[..., 0], GREY16)
    deep = GREY16[..., None].repeat(3, axis=2)
    assert np.array_equal(to_planes(deep, 3), deep)


def test_grey_is_replicated_for_a_colour_model() -> None:
    planes = to_planes(GREY16, 3)
    assert planes.shape == (40, 50, 3)
    assert all(np.array_equal(planes[..., channel], GREY16) for channel in range(3))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_colour_becomes_bt601_luminance_for_a_grey_model(dtype: type[np.generic]) -> None:
    colour = RGB8.astype(dtype) * dtype(1 if dtype is np.uint8 else 257)
    planes = to_planes(colour, 1)
    expected = RGB8.astype(float) @ [0.299, 0.587, 0.114] * 257
    assert planes.shape == (40, 50, 1)
    assert planes.dtype == dtype
    assert np.abs(at_full_scale(planes)[..., 0] - expected).max() <= (0.51 * 257 if dtype is np.uint8 else 2)


@pytest.mark.parametrize("channels", [1, 3])
def test_load_tiles_leads_from_bytes_to_model_input(channels: int) -> None:
    tiles = TileSettings.model_validate({"size": 32, "channels": channels})
    tiling, pixels = load_tiles(_png(RGB8), tiles, ScoringSettings())
    assert (tiling.height, tiling.width) == (40, 50)
    assert pixels.shape == (4, 32, 32, channels)
    assert pixels.dtype == np.uint16
    expected = at_full_scale(to_planes(RGB8, channels))
    for tile, (x, y, w, h) in zip(pixels, tiling.rects(), strict=True):
        assert np.array_equal(tile, expected[y : y + h, x : x + w])


def test_a_colour_tile_keeps_red_first() -> None:
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 255
    _, pixels = load_tiles(_png(red), TileSettings(size=32), ScoringSettings())
    assert pixels[0, 0, 0].tolist() == [65535, 0, 0]


def test_load_tiles_passes_on_why_a_file_cannot_be_used() -> None:
    with pytest.raises(DecodeError, match="too_large"):
        load_tiles(_png(RGB8), TileSettings(size=32), ScoringSettings(max_pixels=100))
    with pytest.raises(DecodeError, match="not_an_image"):
        load_tiles(b"not an image at all", TileSettings(size=32), ScoringSettings())


def test_an_ordinary_image_comes_as_one_part() -> None:
    image = open_tiles(_png(np.zeros((256, 256, 3), np.uint8)), TileSettings(size=64), ScoringSettings())
    assert [part.shape for part in image.parts] == [(16, 64, 64, 3)]


@pytest.mark.parametrize(
    ("height", "width", "tiles"),
    [
        (60_000, 1, {"size": 256}),
        (1, 60_000, {"size": 256}),
        (300, 3000, {"size": 64, "stride": 8}),
        (600, 600, {"size": 64, "stride": 8}),
        (3000, 300, {"size": 64, "stride": 8}),
        (3000, 300, {"size": 64, "halo": 32}),
    ],
    ids=str,
)
def test_padding_and_overlap_stay_within_the_memory_of_an_image(
    height: int, width: int, tiles: dict[str, int]
) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    content, bound = _png(pixels), 8
    tracemalloc.start()
    try:
        image = open_tiles(
            content, TileSettings.model_validate(tiles), ScoringSettings(image_memory_mib=bound)
        )
        count = sum(map(len, image.parts))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == len(image.tiling)
    assert peak < bound * 2**20


def test_a_tile_that_does_not_fit_the_memory_is_refused() -> None:
    with pytest.raises(DecodeError, match="too_large"):
        open_tiles(_png(RGB8), TileSettings(size=4096), ScoringSettings(image_memory_mib=64))


@pytest.mark.parametrize(("stride", "halo"), [(16, 0), (64, 0), (64, 24)])
@pytest.mark.parametrize("bound", [1, 4, 1024])
def test_tiles_are_the_same_in_little_memory(bound: int, stride: int, halo: int) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (500, 400, 3), np.uint8)
    tiles = TileSettings(size=64, stride=stride, halo=halo)
    _, found = load_tiles(_png(pixels), tiles, ScoringSettings(image_memory_mib=bound))
    np.testing.assert_array_equal(found, at_full_scale(cut(pixels, plan_tiles(500, 400, tiles))))
