from __future__ import annotations

import io
import re

import cv2
import numpy as np
import pytest
from PIL import Image

from raysvq.imaging.overlay import (
    encode_jpeg,
    encode_webp,
    heat_layer,
    outline,
    overlay,
    to_rgb8,
    upsample,
)

GREY = np.full((20, 30, 3), 120, np.uint8)


@pytest.mark.parametrize("size", [(48, 64), (46, 61), (45, 64)])
def test_upsampled_map_fits_the_image_and_keeps_its_place(size: tuple[int, int]) -> None:
    cells = np.zeros((12, 16), np.float32)
    cells[2, 13] = 8
    full = upsample(cells, (48, 64), size)
    y, x = np.unravel_index(full.argmax(), full.shape)
    assert full.shape == size
    assert full.dtype == np.float32
    assert 8 <= y < 12
    assert 52 <= x < 56


def test_upsampling_keeps_a_constant_and_invents_no_extremes() -> None:
    assert np.all(upsample(np.full((3, 4), 2.5), (12, 16), (10, 15)) == 2.5)
    cells = np.random.default_rng(0).random((5, 6))
    full = upsample(cells, (40, 48), (40, 48))
    assert full.min() >= cells.min() - 1e-6
    assert full.max() <= cells.max() + 1e-6


def test_eight_bit_images_are_shown_as_they_are() -> None:
    grey = np.arange(200, dtype=np.uint8).reshape(10, 20)
    assert np.array_equal(to_rgb8(grey), grey[..., None].repeat(3, axis=2))
    assert np.array_equal(to_rgb8(GREY), GREY)


def test_deep_images_are_stretched_for_display() -> None:
    deep = np.linspace(3000, 4000, 600).astype(np.uint16).reshape(20, 30)
    shown = to_rgb8(deep)
    assert shown.shape == (20, 30, 3)
    assert shown.dtype == np.uint8
    assert shown.min() == 0
    assert shown.max() == 255
    assert np.all(np.diff(shown[..., 0].ravel().astype(int)) >= 0)


def test_a_deep_image_of_one_value_is_shown_without_a_fault() -> None:
    shown = to_rgb8(np.full((4, 5), 777, np.uint16))
    assert shown.shape == (4, 5, 3)
    assert len(np.unique(shown)) == 1


def test_overlay_changes_nothing_at_or_below_low() -> None:
    values = np.zeros((20, 30))
    values[5, 7] = 1.0
    values[9, 9] = 0.4
    changed = np.argwhere((overlay(GREY, values, 0.4, 0.9) != GREY).any(axis=2))
    assert changed.tolist() == [[5, 7]]


def test_overlay_is_strongest_from_high() -> None:
    values = np.tile(np.linspace(0, 2, 30), (20, 1))
    drawn = overlay(GREY, values, 0.0, 1.0)
    change = np.abs(drawn[0].astype(int) - 120).sum(axis=1)
    top = change[values[0] >= 1]
    assert drawn.dtype == np.uint8
    assert len(np.unique(top)) == 1
    assert top[0] > change[1] > 0


def test_overlay_takes_an_empty_range() -> None:
    assert np.array_equal(overlay(GREY, np.full((20, 30), 0.5), 0.5, 0.5), GREY)


@pytest.mark.parametrize(
    ("side", "expected"), [(500, (30, 20)), (15, (15, 10)), (30, (30, 20))], ids=["small", "shrunk", "same"]
)
def test_jpeg_shrinks_to_its_longest_side_and_keeps_colours(side: int, expected: tuple[int, int]) -> None:
    image = np.zeros((20, 30, 3), np.uint8)
    image[..., 0] = 200
    decoded = Image.open(io.BytesIO(encode_jpeg(image, side)))
    assert decoded.format == "JPEG"
    assert decoded.size == expected
    red, green, blue = decoded.convert("RGB").getpixel((4, 4))
    assert red > 180
    assert max(green, blue) < 20


def test_a_long_thin_image_keeps_at_least_one_pixel() -> None:
    decoded = Image.open(io.BytesIO(encode_jpeg(np.full((2, 4000, 3), 9, np.uint8), 100)))
    assert decoded.size == (100, 1)


def test_a_heat_layer_is_clear_up_to_low_and_strongest_from_high() -> None:
    layer = heat_layer(np.array([[0.0, 0.5, 0.75, 1.0, 9.0]]), 0.5, 1.0)
    opacity = layer[0, :, 3].tolist()
    assert opacity[:2] == [0, 0]
    assert 0 < opacity[2] < opacity[3] == opacity[4] == 204
    assert (layer[0, 3] == layer[0, 4]).all()


def test_an_outline_goes_through_the_outermost_marked_pixels() -> None:
    marked = np.zeros((12, 10), bool)
    assert outline(marked) == ""
    marked[2:6, 3:8] = True
    corners = set(re.findall(r"[ML]([\d.]+ [\d.]+)", outline(marked)))
    assert corners == {"3.5 2.5", "3.5 5.5", "7.5 5.5", "7.5 2.5"}
    marked[9, 1] = True
    assert outline(marked).count("M") == 2
    assert "M1.5 9.5Z" in outline(marked)


def test_of_many_parts_the_longest_outlines_are_drawn() -> None:
    marked = np.zeros((60, 60), bool)
    marked[::2, ::2] = True
    marked[40:50, 40:50] = True
    path = outline(marked)
    assert path.count("M") == 100
    assert max(len(part) for part in path.split("M")) > len("59.5 59.5Z")


def test_webp_keeps_opacity() -> None:
    pixels = np.zeros((16, 16, 4), np.uint8)
    pixels[:8] = (255, 0, 0, 204)
    found = cv2.imdecode(np.frombuffer(encode_webp(pixels), np.uint8), cv2.IMREAD_UNCHANGED)
    assert found is not None
    assert np.abs(found[..., 3].astype(int) - pixels[..., 3]).max() <= 2
    assert found[2, 2, 2] > 230  # red comes last in OpenCV's order
