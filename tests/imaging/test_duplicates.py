"""Near-duplicates: copies of an image belong together, different images do not."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from raysvq.imaging.duplicates import Fingerprint, fingerprint, near_duplicates

Image = npt.NDArray[np.uint8]


def _plate(seed: int) -> Image:
    """A plain plate under noise, (96, 120, 3): all of them look alike."""
    draw = np.random.default_rng(seed)
    return np.asarray((draw.normal(120, 4, (96, 120, 3))).clip(0, 255), np.uint8)


def _texture(seed: int) -> Image:
    """Blotches under noise."""
    draw = np.random.default_rng(seed)
    blotches = cv2.GaussianBlur(draw.normal(0, 400, (96, 120)).astype(np.float32), (0, 0), 3)
    return np.asarray((120 + blotches[..., None] + draw.normal(0, 2, (96, 120, 3))).clip(0, 255), np.uint8)


def _fingerprint(image: Image, suffix: str = ".png", *options: int) -> Fingerprint:
    content = cv2.imencode(suffix, image, options)[1].tobytes()
    decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    return fingerprint(content, decoded[..., ::-1].astype(np.uint16) * 257)


@pytest.mark.parametrize("quality", [75, 95])
def test_an_image_encoded_anew_is_a_near_duplicate(quality: int) -> None:
    images = [_texture(seed) for seed in range(4)]
    found = [_fingerprint(image) for image in images]
    found += [_fingerprint(image, ".jpg", cv2.IMWRITE_JPEG_QUALITY, quality) for image in images]
    assert near_duplicates(found) == [0, 1, 2, 3, 0, 1, 2, 3]


@pytest.mark.parametrize("draw", [_plate, _texture])
def test_images_of_one_product_are_different(draw: object) -> None:
    assert callable(draw)
    assert near_duplicates([_fingerprint(draw(seed)) for seed in range(40)]) == list(range(40))


def test_the_same_file_is_one_even_if_it_shows_nothing() -> None:
    black, grey = (np.full((20, 30, 3), level, np.uint8) for level in (0, 90))
    assert near_duplicates([_fingerprint(one) for one in (black, grey, black)]) == [0, 1, 0]


def test_what_is_near_through_another_one_belongs_together() -> None:
    detail = np.random.default_rng(0).normal(0, 1, 4096).astype(np.float32)
    other = np.random.default_rng(1).normal(0, 1, 4096).astype(np.float32)
    steps = [Fingerprint(str(step), detail + 0.08 * step * other) for step in range(3)]
    assert near_duplicates([steps[0], steps[2]]) == [0, 1]
    assert near_duplicates(steps) == [0, 0, 0]


def test_of_no_image_there_is_none() -> None:
    assert near_duplicates([]) == []
