"""Regions of interest as pixels and as cells of an anomaly map."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from raysvq.errors import SettingsError
from raysvq.imaging.region import Region

LEFT = Region(polygon=((0, 0), (0.5, 0), (0.5, 1), (0, 1)))
ALL = Region(polygon=((0, 0), (1, 0), (1, 1), (0, 1)))


@given(height=st.integers(1, 60), width=st.integers(1, 60))
def test_a_polygon_around_the_image_leaves_nothing_out(height: int, width: int) -> None:
    assert ALL.mask(height, width).all()
    assert ALL.mask(height, width).shape == (height, width)
    shape, span = (-(-height // 8), -(-width // 8)), (-(-height // 8) * 8, -(-width // 8) * 8)
    assert ALL.read().cells(shape, span, (height, width)).all()


@given(
    side=st.integers(8, 80),
    corners=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=3),
)
def test_a_triangle_has_the_pixels_whose_centres_are_in_it(
    side: int, corners: list[tuple[float, float]]
) -> None:
    (ax, ay), (bx, by), (cx, cy) = corners
    assume(abs((bx - ax) * (cy - ay) - (cx - ax) * (by - ay)) > 1e-3)
    mask = Region(polygon=tuple(corners)).mask(side, side)
    centres = (np.arange(side) + 0.5) / side
    x, y = np.meshgrid(centres, centres)
    signs = []
    far = np.ones((side, side), bool)
    for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
        cross = (bx - ax) * (y - ay) - (by - ay) * (x - ax)
        length = math.hypot(bx - ax, by - ay)
        signs.append(cross > 0)
        along = np.clip(((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / max(length**2, 1e-12), 0, 1)
        away = np.hypot(x - ax - along * (bx - ax), y - ay - along * (by - ay))
        far &= away * side > 1.5  # pixels from the edge, where rounding does not matter
    inside = np.all(signs, axis=0) | ~np.any(signs, axis=0)
    assert (mask == inside)[far].all()


def test_a_cell_is_inside_where_at_least_half_of_it_is() -> None:
    cells = LEFT.read().cells((2, 5), (16, 40), (16, 40))  # the third column is cut in half
    assert cells.tolist() == [[True, True, True, False, False]] * 2
    assert LEFT.read().cells((1, 3), (8, 24), (8, 20)).tolist() == [[True, False, False]]  # ends at 10 of 20


def test_cells_beyond_the_image_are_as_its_edge() -> None:
    right = Region(polygon=((0.5, 0), (1, 0), (1, 1), (0.5, 1)))
    assert right.read().cells((1, 4), (8, 32), (8, 26)).tolist() == [[False, False, True, True]]


def test_a_mask_image_is_white_inside_and_fits_images_of_every_size(tmp_path: Path) -> None:
    marks = np.zeros((20, 40), np.uint8)
    marks[:, :20] = 255
    path = tmp_path / "mask.png"
    path.write_bytes(cv2.imencode(".png", marks)[1].tobytes())
    region = Region(mask_uri=str(path))
    mask = region.mask(10, 80)
    assert mask[:, :40].all()
    assert not mask[:, 40:].any()
    assert region.read().cells((2, 4), (20, 40), (20, 40)).tolist() == [[True, True, False, False]] * 2


def test_the_digest_is_that_of_what_is_inside(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    digests = {LEFT.read().digest, ALL.read().digest}
    for value in (0, 255):
        marks = np.full((4, 4), 255, np.uint8)
        marks[0, 0] = value
        path.write_bytes(cv2.imencode(".png", marks)[1].tobytes())
        digests.add(Region(mask_uri=str(path)).read().digest)
    assert len(digests) == 4
    assert Region(polygon=LEFT.polygon).read().digest == LEFT.read().digest


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "found neither of polygon and mask"),
        ({"polygon": LEFT.polygon, "mask_uri": "m.png"}, "found both"),
        ({"polygon": ((0, 0), (1, 1))}, "2 corners, expected at least 3"),
        ({"polygon": ((0, 0), (1, 1), (0, 1.5))}, r"corner \[0, 1.5\].*each from 0 to 1"),
        ({"polygon": ((0, 0), (1, 1), (0, math.nan))}, r"corner \[0, nan\]"),
    ],
)
def test_what_is_no_region_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=f"region of interest: .*{message}"):
        Region(**values)  # type: ignore[arg-type]


def test_a_mask_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    with pytest.raises(SettingsError, match=r"mask .*mask\.png cannot be used"):
        Region(mask_uri=str(path)).read()
    path.write_bytes(b"no image")
    with pytest.raises(SettingsError, match=r"mask .*mask\.png cannot be used"):
        Region(mask_uri=str(path)).read()
    path.write_bytes(cv2.imencode(".png", np.zeros((4, 4), np.uint8))[1].tobytes())
    with pytest.raises(SettingsError, match="is black, expected white inside"):
        Region(mask_uri=str(path)).read()
