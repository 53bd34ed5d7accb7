from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysvq.imaging.tiling import (
    Mosaic,
    Tiling,
    cut,
    cut_parts,
    cut_rows,
    is_anomalous,
    map_span,
    mask_fractions,
    origins,
    plan_tiles,
    resize,
    shrink_rows,
    without_halo,
)
from raysvq.settings import TileSettings

SIZES = st.sampled_from([16, 24, 32, 40])


@st.composite
def layouts(draw: st.DrawFn) -> Tiling:
    """Images from 1 x 1 to several tiles, any stride without gaps."""
    size = draw(SIZES)
    tiles = TileSettings(size=size, stride=draw(st.none() | st.integers(1, size)))
    return plan_tiles(draw(st.integers(1, 90)), draw(st.integers(1, 90)), tiles)


def _image(tiling: Tiling, seed: int = 0, *more: int) -> np.ndarray:
    shape = (tiling.height, tiling.width, *more)
    return np.random.default_rng(seed).integers(0, 2**16, shape, np.uint16)


def _plan(height: int, width: int, **options: Any) -> Tiling:
    return plan_tiles(height, width, TileSettings(**options))


@given(st.integers(1, 500), st.integers(1, 80), st.integers(1, 80))
def test_origins_leave_no_gap_and_end_at_the_edge(length: int, size: int, stride: int) -> None:
    stride = min(stride, size)
    starts = origins(length, size, stride)
    steps = np.diff(starts)
    assert starts[0] == 0
    assert starts[-1] == max(0, length - size)
    assert np.all(steps > 0)
    assert np.all(steps[:-1] == stride)
    assert np.all(steps[-1:] <= stride)


@settings(deadline=None)
@given(layouts())
def test_every_pixel_stands_in_a_tile(tiling: Tiling) -> None:
    seen = np.zeros((tiling.height, tiling.width), int)
    for x, y, w, h in tiling.rects():
        assert x >= 0
        assert y >= 0
        assert x + w <= tiling.width
        assert y + h <= tiling.height
        seen[y : y + h, x : x + w] += 1
    assert seen.min() >= 1
    assert len(tiling.rects()) == len(tiling)


def test_last_row_and_column_shift_inwards() -> None:
    tiling = _plan(100, 150, size=64)
    assert tiling.ys == (0, 36)
    assert tiling.xs == (0, 64, 86)
    assert tiling.rects()[-1].tolist() == [86, 36, 64, 64]


def test_an_exact_fit_adds_no_tile() -> None:
    assert _plan(128, 192, size=64).rects()[:, :2].tolist() == [[x, y] for y in (0, 64) for x in (0, 64, 128)]


@settings(deadline=None)
@given(layouts(), st.sampled_from([(), (1,), (3,)]))
def test_tiles_hold_the_pixels_of_their_place(tiling: Tiling, planes: tuple[int, ...]) -> None:
    image = _image(tiling, 1, *planes)
    tiles = cut(image, tiling)
    assert tiles.shape == (len(tiling), tiling.size, tiling.size, *planes)
    assert tiles.dtype == image.dtype
    for tile, (x, y, w, h) in zip(tiles, tiling.rects(), strict=True):
        assert np.array_equal(tile[:h, :w], image[y : y + h, x : x + w])


def _stitch(maps: np.ndarray, tiling: Tiling, cell: int) -> np.ndarray:
    """The tiles' maps come in two parts, the second of which may start within a row of tiles."""
    terms = np.stack([maps, 2 * maps], axis=1)
    mosaic = Mosaic(tiling, cell, 2)
    mosaic.add(terms[: len(maps) // 2])
    mosaic.add(terms[len(maps) // 2 :])
    stitched: np.ndarray = mosaic.values[0]
    np.testing.assert_allclose(mosaic.values[1], 2 * stitched, rtol=1e-6)
    return stitched


@settings(deadline=None)
@given(layouts(), st.integers(0, 99))
def test_stitching_undoes_cutting(tiling: Tiling, seed: int) -> None:
    image = _image(tiling, seed).astype(np.float64)
    stitched = _stitch(cut(image, tiling), tiling, cell=1)
    assert stitched.shape == image.shape
    np.testing.assert_allclose(stitched, image, rtol=1e-4)


@pytest.mark.parametrize(("height", "width"), [(10, 40), (40, 10), (7, 9), (1, 1), (31, 1)])
def test_images_smaller_than_a_tile_are_mirrored_at_the_right_and_bottom(height: int, width: int) -> None:
    tiling = _plan(height, width, size=32)
    image = _image(tiling)
    rows = _mirrored(np.arange(height), 32)
    columns = _mirrored(np.arange(width), 32)
    expected = image[np.ix_(rows, columns)][:32, :32]
    assert np.array_equal(cut(image, tiling)[0], expected)


def _mirrored(index: np.ndarray, length: int) -> np.ndarray:
    there_and_back = np.concatenate([index, index[::-1]])
    return np.resize(there_and_back, length) if len(index) < length else index


@settings(deadline=None)
@given(layouts(), st.sampled_from([1, 2, 4, 8]))
def test_a_constant_map_stays_constant_and_spans_the_image(tiling: Tiling, cell: int) -> None:
    side = tiling.size // cell
    stitched = _stitch(np.full((len(tiling), side, side), 3.5, np.float32), tiling, cell)
    span = map_span(tiling, cell)
    assert stitched.dtype == np.float32
    np.testing.assert_allclose(stitched, 3.5, rtol=1e-4)
    assert span == (stitched.shape[0] * cell, stitched.shape[1] * cell)
    assert 0 <= span[0] - tiling.height < cell
    assert 0 <= span[1] - tiling.width < cell


@settings(deadline=None)
@given(layouts(), st.integers(0, 99))
def test_a_stitched_map_stays_within_its_tiles_values(tiling: Tiling, seed: int) -> None:
    side = tiling.size // 4
    maps = np.random.default_rng(seed).random((len(tiling), side, side))
    stitched = _stitch(maps, tiling, 4)
    assert stitched.min() >= maps.min() - 1e-4
    assert stitched.max() <= maps.max() + 1e-4


def test_a_tile_between_cells_shares_its_values_out_by_area() -> None:
    tiling = _plan(16, 18, size=16)
    assert tiling.xs == (0, 2)
    maps = np.stack([np.zeros((4, 4)), np.ones((4, 4))])
    # Half of the shifted tile's first cell lies on cell 0; its last one passes the edge by half a cell.
    assert _stitch(maps, tiling, 4)[0].tolist() == pytest.approx([1 / 3, 1 / 2, 1 / 2, 1 / 2, 1])


def test_a_hot_cell_appears_where_it_stands_in_the_image() -> None:
    tiling = _plan(96, 128, size=32)
    maps = np.zeros((len(tiling), 8, 8), np.float32)
    maps[tiling.xs.index(64) + len(tiling.xs) * tiling.ys.index(32), 3, 5] = 9
    assert np.argwhere(_stitch(maps, tiling, 4)).tolist() == [[(32 + 12) // 4, (64 + 20) // 4]]


def test_overlapping_tiles_are_averaged() -> None:
    tiling = _plan(16, 24, size=16, stride=8)
    maps = np.stack([np.full((16, 16), 1.0), np.full((16, 16), 4.0)])
    assert _stitch(maps, tiling, 1)[0].tolist() == [1.0] * 8 + [2.5] * 8 + [4.0] * 8


def test_whole_image_mode_is_one_resized_tile_with_the_tiles_own_map() -> None:
    tiling = _plan(90, 130, mode="whole", size=32)
    image = np.full((90, 130, 3), 700, np.uint16)
    tiles = cut(image, tiling)
    assert len(tiling) == 1
    assert tiling.rects().tolist() == [[0, 0, 130, 90]]
    assert tiles.shape == (1, 32, 32, 3)
    assert np.all(tiles == 700)
    anomaly_map = np.arange(64.0).reshape(1, 8, 8)
    assert np.array_equal(_stitch(anomaly_map, tiling, 4), anomaly_map[0])
    assert map_span(tiling, 4) == (90, 130)


def test_resizing_averages_when_it_shrinks() -> None:
    image = np.array([[0, 100, 40, 60], [100, 200, 80, 100]], np.uint16)
    assert resize(image, 1, 2).tolist() == [[100, 70]]
    assert resize(image, 2, 4) is image
    assert resize(image[..., None], 1, 2).shape == (1, 2, 1)


@settings(deadline=None)
@given(layouts(), st.integers(0, 99), st.sampled_from([0.0, 0.01, 0.05, 0.5, 1.0]), st.floats(0, 1))
def test_label_rule_counts_pixels(tiling: Tiling, seed: int, least: float, density: float) -> None:
    mask = np.random.default_rng(seed).random((tiling.height, tiling.width)) < density**3
    rects = tiling.rects()
    labels = is_anomalous(mask_fractions(mask, rects), least)
    for label, (x, y, w, h) in zip(labels, rects, strict=True):
        marked = int(np.count_nonzero(mask[y : y + h, x : x + w]))
        assert label == (marked > 0 if least == 0 else marked > 0 and marked / (w * h) >= least)


@pytest.mark.parametrize(("least", "marked"), [(0.05, 20), (0.5, 200), (0.0, 1), (1.0, 400)])
def test_label_turns_at_exactly_its_share(least: float, marked: int) -> None:
    rects = np.array([[0, 0, 20, 20]], np.int32)
    mask = np.zeros((20, 20), bool)
    mask.ravel()[: marked - 1] = True
    assert not is_anomalous(mask_fractions(mask, rects), least)[0]
    mask.ravel()[marked - 1] = True
    assert is_anomalous(mask_fractions(mask, rects), least)[0]


def _reader(image: np.ndarray) -> Callable[[int], np.ndarray]:
    at = 0

    def read(rows: int) -> np.ndarray:
        nonlocal at
        assert at + rows <= len(image)
        at += rows
        return image[at - rows : at]

    return read


def _pixels(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 2**16, (height, width, channels), np.uint16)


@settings(deadline=None)
@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.none() | st.integers(1, 32),
    st.sampled_from([0, 8, 64]),
    st.integers(1, 40),
)
def test_tiles_in_parts_are_those_of_the_whole_pixels(
    height: int, width: int, stride: int | None, halo: int, at_once: int
) -> None:
    image = _pixels(height, width)
    tiling = plan_tiles(height, width, TileSettings(size=32, stride=stride, halo=halo))
    for parts in (cut_rows(_reader(image), tiling, at_once), cut_parts(image, tiling, at_once)):
        tiles = list(parts)
        assert max(map(len, tiles)) <= at_once
        np.testing.assert_array_equal(np.concatenate(tiles), cut(image, tiling))


@settings(deadline=None)
@given(layouts(), st.sampled_from([8, 24, 64]))
def test_a_halo_is_what_surrounds_a_tile_mirrored_beyond_the_edge(tiling: Tiling, halo: int) -> None:
    image = _image(tiling, 0, 3)
    tiles = cut(image, replace(tiling, halo=halo))
    assert tiles.shape == (len(tiling), tiling.size + 2 * halo, tiling.size + 2 * halo, 3)
    np.testing.assert_array_equal(without_halo(tiles, halo), cut(image, tiling))
    beyond = [(halo, halo + tiling.size)] * 2  # an image smaller than a tile is mirrored as far
    mirrored = np.pad(image, [*beyond, (0, 0)], mode="symmetric")
    corners = [(y, x) for y in tiling.ys for x in tiling.xs]
    for tile, (y, x) in zip(tiles, corners, strict=True):
        np.testing.assert_array_equal(tile, mirrored[y : y + len(tile), x : x + len(tile)])


def test_a_halo_moves_no_tile() -> None:
    with_halo, without = _plan(100, 150, size=64, halo=32), _plan(100, 150, size=64)
    np.testing.assert_array_equal(with_halo.rects(), without.rects())
    assert map_span(with_halo, 8) == map_span(without, 8)


def test_short_rows_of_tiles_come_together() -> None:
    image = _pixels(320, 40)
    tiling = plan_tiles(320, 40, TileSettings(size=32))
    assert [len(part) for part in cut_rows(_reader(image), tiling, 9)] == [8, 8, 4]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(96, 128), (201, 303), (32, 500), (1000, 32), (33, 33), (32, 32)])
def test_rows_shrink_to_the_area_average(size: tuple[int, int], channels: int) -> None:
    image = _pixels(*size, channels)
    (shrunk,) = shrink_rows(_reader(image), size[0], 32)
    whole = resize(image, 32, 32).reshape(1, 32, 32, channels)
    assert shrunk.dtype == np.uint16
    assert np.abs(shrunk.astype(int) - whole).max() <= 1
    assert (shrunk == whole).mean() > 0.99
