"""Defects drawn onto normal images."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from raysvq.imaging.decode import DecodeError, decode_image
from raysvq.imaging.synthetic import draw_defect, with_defect


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(96, 128), (96, 128, 3)])
def test_a_defect_changes_a_small_part_and_no_type(kind: type, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    image = (rng.random(shape) * np.iinfo(kind).max).astype(kind)
    changed = []
    for seed in range(20):
        drawn = draw_defect(image, np.random.default_rng(seed))
        assert (drawn.dtype, drawn.shape) == (image.dtype, image.shape)
        assert np.array_equal(drawn, draw_defect(image, np.random.default_rng(seed)))
        changed.append(float((drawn != image).mean()))
    assert min(changed) > 0
    assert max(changed) < 0.2
    assert len(set(changed)) > 15


def test_a_file_comes_back_as_a_file() -> None:
    image = np.full((64, 64, 3), 120, np.uint8)
    content = cv2.imencode(".jpg", image)[1].tobytes()
    drawn = [decode_image(with_defect(content, 10**6, np.random.default_rng(n)), 10**6) for n in range(4)]
    assert all(one.shape == (64, 64, 3) for one in drawn)
    assert any((one != decode_image(content, 10**6)).any() for one in drawn)
    with pytest.raises(DecodeError):
        with_defect(content[:100], 10**6, np.random.default_rng(0))


def test_a_defect_needs_no_more_bits_than_the_image() -> None:
    image = np.full((96, 128), 4000, np.uint16)
    drawn = [draw_defect(image, np.random.default_rng(seed)) for seed in range(20)]
    assert any((one > 4000).any() for one in drawn)
    assert all(one.max() <= 4095 for one in drawn)
