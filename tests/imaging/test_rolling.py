"""Tiles from rows that come in order equal those cut from the whole image."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysvq.imaging.rolling import cut_rows, shrink_rows
from raysvq.imaging.tiling import cut, cut_parts, plan_tiles, resize
from raysvq.settings import TileSettings


def _reader(image: np.ndarray) -> Callable[[int], np.ndarray]:
    at = 0

    def read(rows: int) -> np.ndarray:
        nonlocal at
        assert at + rows <= len(image)
        at += rows
        return image[at - rows : at]

    return read


def _image(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 2**16, (height, width, channels), np.uint16)


@settings(deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.none() | st.integers(1, 32), st.integers(1, 40))
def test_tiles_in_parts_are_those_of_the_whole_image(
    height: int, width: int, stride: int | None, at_once: int
) -> None:
    image = _image(height, width)
    tiling = plan_tiles(height, width, TileSettings(size=32, stride=stride))
    for parts in (cut_rows(_reader(image), tiling, at_once), cut_parts(image, tiling, at_once)):
        tiles = list(parts)
        assert max(map(len, tiles)) <= at_once
        np.testing.assert_array_equal(np.concatenate(tiles), cut(image, tiling))


def test_short_rows_of_tiles_come_together() -> None:
    image = _image(320, 40)
    tiling = plan_tiles(320, 40, TileSettings(size=32))
    assert [len(part) for part in cut_rows(_reader(image), tiling, 9)] == [8, 8, 4]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(96, 128), (201, 303), (32, 500), (1000, 32), (33, 33), (32, 32)])
def test_rows_shrink_to_the_area_average(size: tuple[int, int], channels: int) -> None:
    image = _image(*size, channels)
    (shrunk,) = shrink_rows(_reader(image), size[0], 32)
    whole = resize(image, 32, 32).reshape(1, 32, 32, channels)
    assert shrunk.dtype == np.uint16
    assert np.abs(shrunk.astype(int) - whole).max() <= 1
    assert (shrunk == whole).mean() > 0.99
