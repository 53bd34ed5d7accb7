"""Tiles from rows that come in order equal those cut from the whole image."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysvq.imaging.rolling import cut_rows, shrink_rows
from raysvq.imaging.tiling import cut, plan_tiles, resize
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
@given(st.integers(1, 90), st.integers(1, 90), st.none() | st.integers(1, 32))
def test_rows_of_tiles_are_those_of_the_whole_image(height: int, width: int, stride: int | None) -> None:
    image = _image(height, width)
    tiling = plan_tiles(height, width, TileSettings(size=32, stride=stride))
    rows = list(cut_rows(_reader(image), tiling))
    assert len(rows) == len(tiling.ys)
    np.testing.assert_array_equal(np.concatenate(rows), cut(image, tiling))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(96, 128), (201, 303), (32, 500), (1000, 32), (33, 33), (32, 32)])
def test_rows_shrink_to_the_area_average(size: tuple[int, int], channels: int) -> None:
    image = _image(*size, channels)
    (shrunk,) = shrink_rows(_reader(image), size[0], 32)
    whole = resize(image, 32, 32).reshape(1, 32, 32, channels)
    assert shrunk.dtype == np.uint16
    assert np.abs(shrunk.astype(int) - whole).max() <= 1
    assert (shrunk == whole).mean() > 0.99
