from __future__ import annotations

import unicodedata

import pytest

from raysvq.data.mask_pairing import SUFFIXES, Masks, image_stem
from raysvq.errors import DataError

TRUTH = "s3://b/set/ground_truth"


@pytest.mark.parametrize("suffix", ["", *SUFFIXES, *map(str.upper, SUFFIXES)])
def test_a_mask_is_named_like_its_image(suffix: str) -> None:
    assert image_stem(f"scratch/part_mask_7{suffix}") == "scratch/part_mask_7"


def test_an_image_whose_own_name_ends_like_a_masks_finds_its_mask() -> None:
    masks = Masks([f"{TRUTH}/dent/bottle_label.png"], TRUTH)
    assert (
        masks.take("dent/bottle_label", "bottle_label.jpg", normal=False) == f"{TRUTH}/dent/bottle_label.png"
    )
    masks.require_none_left("test")


def test_letters_may_be_composed_otherwise_than_in_the_images_name() -> None:
    mask = f"{TRUTH}/{unicodedata.normalize('NFD', 'kratzer/größe')}_mask.png"
    assert Masks([mask], TRUTH).take("kratzer/größe", "größe.png", normal=False) == mask


def test_normal_images_may_share_a_mask_and_anomalous_ones_may_not() -> None:
    masks = Masks([f"{TRUTH}/good/0.png", f"{TRUTH}/dent/0.png"], TRUTH)
    assert masks.take("good/0", "train/good/0.png", normal=True) == f"{TRUTH}/good/0.png"
    assert masks.take("good/0", "test/good/0.png", normal=True) == f"{TRUTH}/good/0.png"
    masks.take("dent/0", "test/dent/0.png", normal=False)
    with pytest.raises(DataError, match=r"one mask for two images: test/dent/0\.png and train/dent/0\.png"):
        masks.take("dent/0", "train/dent/0.png", normal=False)


def test_every_mask_left_is_counted() -> None:
    masks = Masks([f"{TRUTH}/dent/{number}_mask.png" for number in range(3)], TRUTH)
    masks.take("dent/1", "1.png", normal=False)
    with pytest.raises(DataError, match=r"expects an image test/dent/0\.\* \(2 such masks\)$"):
        masks.require_none_left("test")
