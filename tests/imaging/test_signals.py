"""What images look like, in numbers."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from raysvq.imaging.signals import CODES, Signals, SignalSums, sample_codes


def _signals(*tiles: np.ndarray) -> Signals:
    sums = SignalSums()
    for tile in tiles:
        sums.add(tile[None])
    return sums.signals()


def _encode(linear: np.ndarray) -> np.ndarray:
    """Linear light, 0 to 1 -> sRGB, eight bits."""
    return np.round(
        255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    ).astype(np.uint8)


@pytest.fixture
def scene() -> np.ndarray:
    """Smooth linear light in three channels, about 0.2, with some grain."""
    rng = np.random.default_rng(5)
    waves = 0.2 + 0.1 * np.sin(np.linspace(0, 9, 128))[:, None] * np.cos(np.linspace(0, 7, 128))
    return waves[..., None] * np.array([1.2, 1.0, 0.8]) + 0.01 * rng.standard_normal((128, 128, 3))


def test_half_the_light_is_a_stop_less_and_changes_nothing_else_much(scene: np.ndarray) -> None:
    bright, dark = _signals(_encode(scene)), _signals(_encode(scene / 2))
    assert dark.exposure == pytest.approx(bright.exposure - 1, abs=0.02)
    assert dark.warmth == pytest.approx(bright.warmth, abs=0.02)
    assert dark.contrast == pytest.approx(bright.contrast, abs=0.2)
    assert dark.sharpness == pytest.approx(bright.sharpness, abs=0.7)


def test_full_white_has_no_stops_and_black_has_16(scene: np.ndarray) -> None:
    white = np.full((8, 8, 3), 255, np.uint8)
    assert _signals(white) == Signals(exposure=pytest.approx(0, abs=1e-6))
    assert _signals(0 * white) == Signals(exposure=-16.0)


def test_warmth_is_red_over_blue_in_stops_and_grey_has_none(scene: np.ndarray) -> None:
    assert _signals(_encode(scene)).warmth == pytest.approx(np.log2(1.2 / 0.8), abs=0.02)
    grey = _encode(scene[..., :1])
    assert _signals(grey).warmth is None
    assert _signals(np.repeat(grey, 3, axis=2)).warmth is None


def test_a_grey_file_has_the_same_numbers_in_either_number_of_channels(scene: np.ndarray) -> None:
    grey = _encode(scene[..., :1])
    one, three = _signals(grey), _signals(np.repeat(grey, 3, axis=2))
    assert one.exposure == pytest.approx(three.exposure)
    assert one.contrast == pytest.approx(three.contrast)
    assert one.sharpness == pytest.approx(three.sharpness)


def test_blur_lowers_sharpness_whatever_the_contrast(scene: np.ndarray) -> None:
    sharp = _encode(scene)
    blurred = cv2.GaussianBlur(sharp, (0, 0), 2)
    assert _signals(blurred).sharpness < _signals(sharp).sharpness - 1
    paler = (0.5 * sharp.astype(np.float32) + 60).astype(np.uint8)
    assert _signals(paler).sharpness == pytest.approx(_signals(sharp).sharpness, abs=0.3)
    assert _signals(paler).contrast < _signals(sharp).contrast - 0.5


def test_depth_changes_little(scene: np.ndarray) -> None:
    shallow = _encode(scene)
    deep = shallow.astype(np.uint16) * np.uint16(257)
    for name in ("exposure", "contrast", "sharpness", "warmth"):
        assert getattr(_signals(deep), name) == pytest.approx(getattr(_signals(shallow), name), abs=0.05), (
            name
        )


def test_tiles_add_up_to_the_image(scene: np.ndarray) -> None:
    dark, bright = _encode(scene / 4), _encode(scene)
    both = _signals(dark, bright)
    assert 2**both.exposure == pytest.approx(
        (2 ** _signals(dark).exposure + 2 ** _signals(bright).exposure) / 2
    )
    assert both.contrast > max(_signals(dark).contrast, _signals(bright).contrast)


def test_codes_are_drawn_by_the_id_alone() -> None:
    codes = np.arange(1000, dtype=np.uint16)
    drawn = sample_codes(codes, "5f")
    assert len(set(drawn.tolist())) == CODES
    assert drawn.tolist() == sample_codes(codes, "5f").tolist() != sample_codes(codes, "6f").tolist()
    assert sorted(sample_codes(codes[:9], "5f").tolist()) == list(range(9))
