from __future__ import annotations

import numpy as np
import pytest

from raysvq.evaluation.defects import (
    DefectTally,
    Match,
    area_band,
    components,
    match_regions,
    measure_mask,
    pixel_band,
)

SIZE = (32, 48)  # of the image; a cell of the map stands for 8 x 8 pixels


def _mask(*marked: tuple[slice, slice]) -> np.ndarray:
    mask = np.zeros(SIZE, dtype=bool)
    for part in marked:
        mask[part] = True
    return mask


def _map(*hot: tuple[int, int]) -> np.ndarray:
    values = np.ones((4, 6), np.float32)
    for cell in hot:
        values[cell] = 3
    return values


def _found(values: np.ndarray, mask: np.ndarray | None) -> tuple[list[int], list[bool], int]:
    match = match_regions(values, SIZE, None if mask is None else components(mask), 2.0)
    return match.areas.tolist(), match.found.tolist(), match.false_regions


FIRST, SECOND = (slice(0, 4), slice(0, 4)), (slice(20, 24), slice(30, 40))


def test_a_defect_is_found_where_a_region_overlaps_it() -> None:
    mask = _mask(FIRST, SECOND)
    assert _found(_map(), mask) == ([16, 40], [False, False], 0)
    assert _found(_map((0, 0)), mask) == ([16, 40], [True, False], 0)
    assert _found(_map((2, 3)), mask) == ([16, 40], [False, True], 0)
    assert _found(_map((2, 4)), mask) == ([16, 40], [False, True], 0)
    assert _found(_map((0, 0), (2, 3)), mask) == ([16, 40], [True, True], 0)


def test_a_region_beside_a_defect_does_not_find_it_and_is_false() -> None:
    assert _found(_map((0, 1), (3, 0)), _mask(FIRST)) == ([16], [False], 2)


def test_one_pixel_in_common_is_enough() -> None:
    mask = _mask((slice(0, 8), slice(0, 9)))
    assert _found(_map((0, 1)), mask) == ([72], [True], 0)


def test_one_region_may_find_several_defects_and_several_regions_one() -> None:
    two = _mask((slice(0, 2), slice(0, 2)), (slice(5, 7), slice(5, 7)))
    assert _found(_map((0, 0)), two) == ([4, 4], [True, True], 0)
    wide = _mask((slice(0, 2), slice(0, 48)))
    assert _found(_map((0, 0), (0, 3)), wide) == ([96], [True], 0)


def test_without_a_mask_every_region_is_false() -> None:
    assert _found(_map((0, 0), (0, 1), (3, 5)), None) == ([], [], 2)  # two cells touch


def test_a_value_at_the_threshold_is_no_region() -> None:
    match = match_regions(np.full((4, 6), 2, np.float32), SIZE, None, 2.0)
    assert match.false_regions == 0


def test_a_map_may_span_more_than_the_image() -> None:
    values = np.ones((5, 7), np.float32)
    values[4, 6] = 3  # stands for pixels beyond the image's edge, and for its last ones
    mask = np.zeros((33, 50), dtype=bool)
    mask[32, 49] = True
    assert match_regions(values, (40, 56), components(mask), 2.0).found.tolist() == [True]


def test_parts_that_touch_at_a_corner_are_one_defect() -> None:
    numbers, areas = components(_mask((slice(0, 2), slice(0, 2)), (slice(2, 4), slice(2, 5))))
    assert areas.tolist() == [10]
    assert np.unique(numbers).tolist() == [0, 1]


def test_a_mask_is_measured_in_share_and_pixels() -> None:
    marks = measure_mask(_mask(FIRST, SECOND))
    assert (marks.area, marks.defects, marks.largest) == (56 / (32 * 48), 2, 40)


@pytest.mark.parametrize(
    ("share", "band"),
    [
        (0.0, "under 0.1 %"),
        (0.001, "0.1 to 1 %"),
        (0.05, "1 to 10 %"),
        (0.1, "10 % and more"),
        (1.0, "10 % and more"),
    ],
)
def test_bands_of_area_start_at_their_first_number(share: float, band: str) -> None:
    assert area_band(share) == band


def test_bands_of_pixels_start_at_their_first_number() -> None:
    names = [pixel_band(pixels) for pixels in (1, 99, 100, 999, 1000, 9999, 10_000)]
    assert [names.index(name) for name in names] == [0, 0, 2, 2, 4, 4, 6]


def test_a_tally_adds_up_by_size_and_counts_false_regions_of_normal_images_only() -> None:
    tally = DefectTally(2.0)
    assert tally.counts() is None
    tally.add(Match(np.array([50, 5000]), np.array([False, True]), 3), anomalous=True)
    tally.add(Match(np.array([60]), np.array([True]), 0), anomalous=True)
    tally.add(Match(np.zeros(0, np.int64), np.zeros(0, bool), 2), anomalous=False)
    found = tally.counts()
    assert found is not None
    assert (found.defects, found.found, found.images) == (3, 2, 2)
    assert (found.normal_images, found.false_regions) == (1, 2)
    assert [(band.name, band.defects, band.found) for band in found.by_size] == [
        ("under 100 pixels", 2, 1),
        ("1,000 to 9,999 pixels", 1, 1),
    ]
