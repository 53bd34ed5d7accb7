"""Scores and regions computed by hand on small maps."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from raysvq.model.anomaly import Region, find_regions, image_score, share_over, tile_scores
from raysvq.settings import AnomalySettings

MAP = np.array([[1, 2, 3], [4, 9, 5]], np.float32)
SCORES = np.array([2.5, 7.5, 1.5], np.float32)


def _map(rows: list[str]) -> np.ndarray:
    """Digits as values, dots as zero."""
    return np.array([[0 if cell == "." else int(cell) for cell in row] for row in rows], np.float32)


def _regions(rows: list[str], cell: int = 4, size: tuple[int, int] | None = None) -> list[Region]:
    values = _map(rows)
    span = (values.shape[0] * cell, values.shape[1] * cell)
    return find_regions(values, 0.5, span, size or span)


def test_tile_score_is_eq_5() -> None:
    distances = np.random.default_rng(0).random((4, 3, 5)).astype(np.float32)
    by_hand = [sum(float(value) ** 2 for value in tile.ravel()) ** 0.5 for tile in distances]
    scores = tile_scores(distances)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, by_hand, rtol=1e-6)
    np.testing.assert_allclose(tile_scores(np.full((1, 2, 2), 3, np.float32)), [6])


def test_large_distances_do_not_overflow() -> None:
    assert tile_scores(np.full((1, 2, 2), 1e20, np.float32))[0] == pytest.approx(2e20, rel=1e-6)


@pytest.mark.parametrize(
    ("pooling", "top_k", "expected"),
    [("tile_max", 16, 7.5), ("map_max", 16, 9), ("top_k", 1, 9), ("top_k", 3, 6), ("top_k", 6, 4)],
)
def test_pooling(pooling: str, top_k: int, expected: float) -> None:
    settings = AnomalySettings.model_validate({"pooling": pooling, "top_k": top_k})
    assert image_score(MAP.reshape(1, -1), SCORES, settings) == pytest.approx(expected)


@pytest.mark.parametrize(("pooling", "expected"), [("map_max", 9 + 2), ("top_k", 7 + 1.5), ("tile_max", 7.5)])
def test_each_term_is_pooled_by_itself(pooling: str, expected: float) -> None:
    """A second term that is largest where the first is small counts in full."""
    settings = AnomalySettings.model_validate({"pooling": pooling, "top_k": 2})
    terms = np.stack([MAP.ravel(), np.array([2, 1, 0, 0, 0, 0], np.float32)])
    assert image_score(terms, SCORES, settings) == pytest.approx(expected)


def test_top_k_of_a_smaller_map_is_its_mean() -> None:
    settings = AnomalySettings(pooling="top_k", top_k=100)
    assert image_score(MAP.reshape(1, -1), SCORES, settings) == pytest.approx(4)


def test_share_over_counts_what_is_above_the_threshold() -> None:
    assert share_over(MAP, 0) == 1
    assert share_over(MAP, 3) == pytest.approx(3 / 6)
    assert share_over(MAP, 9) == 0


def test_a_region_is_boxed_and_measured_in_image_pixels() -> None:
    assert _regions(["....", ".13.", ".1..", "...."]) == [Region(4, 4, 8, 8, 3 * 16, 3.0)]


def test_cells_that_touch_at_a_corner_are_one_region() -> None:
    assert _regions(["1...", ".2..", "..1."]) == [Region(0, 0, 12, 12, 3 * 16, 2.0)]


def test_separate_regions_come_largest_peak_first() -> None:
    found = _regions(["2...", "....", "..59", "...."])
    assert found == [Region(8, 8, 8, 4, 32, 9.0), Region(0, 0, 4, 4, 16, 2.0)]


def test_of_regions_with_equal_peaks_the_first_from_the_top_comes_first() -> None:
    found = _regions(["...2", "....", "2..1", "1..2"])
    assert [(region.x, region.y) for region in found] == [(12, 0), (0, 8), (12, 8)]


@pytest.mark.parametrize("seed", range(20))
def test_regions_are_those_of_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 4, rng.integers(1, 24, 2)).astype(np.float32)
    parts, count = ndimage.label(values > 1, structure=np.ones((3, 3)))
    numbers = range(1, count + 1)
    cells = ndimage.sum_labels(np.ones_like(values), parts, numbers)
    peaks = ndimage.maximum(values, parts, numbers)
    expected = [
        Region(columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start, area, peak)
        for (rows, columns), area, peak in zip(ndimage.find_objects(parts), cells, peaks, strict=True)
    ]
    size = values.shape[0], values.shape[1]
    assert find_regions(values, 1.0, size, size) == sorted(expected, key=lambda region: -region.peak)


def test_a_map_below_the_threshold_has_no_regions() -> None:
    assert _regions(["...", "..."]) == []
    assert find_regions(MAP, 9.0, (8, 12), (8, 12)) == []


def test_regions_end_at_the_edge_of_the_image() -> None:
    assert _regions(["...", "..1"], size=(7, 9)) == [Region(8, 4, 1, 3, 3, 1.0)]


def test_a_map_of_a_resized_image_is_scaled_back() -> None:
    found = find_regions(_map(["....", ".1..", ".1..", "...."]), 0.5, (100, 200), (100, 200))
    assert found == [Region(50, 25, 50, 50, 2500, 1.0)]


def test_area_is_that_of_the_marked_cells_not_of_the_box() -> None:
    ring = ["11111", "1...1", "1...1", "11111"]
    (region,) = _regions(ring)
    assert (region.w * region.h, region.area) == (20 * 16, 14 * 16)


def test_a_region_of_an_image_smaller_than_its_map_has_at_least_a_pixel() -> None:
    for row in range(16):
        values = np.zeros((16, 16), np.float32)
        values[row, 15 - row] = 3
        (region,) = find_regions(values, 1.0, (5, 9), (5, 9))
        assert region.w >= 1
        assert region.h >= 1
        assert region.area == 1
        assert 0 <= region.x <= 9 - region.w
        assert 0 <= region.y <= 5 - region.h
