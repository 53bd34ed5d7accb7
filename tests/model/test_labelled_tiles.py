"""Tiles of labelled images, and which of their positions count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from raysvq import storage
from raysvq.evaluation.masks import MaskReader
from raysvq.imaging.pixels import load_tiles
from raysvq.model.labelled_tiles import LabelledTiles, SkippedError, choose_images, read_tiles
from raysvq.settings import Settings

from .latent_images import Labelled, noise, without_mask, write_image, write_set

CELL = 4
Build = Callable[..., Settings]


def _read(image: Labelled, settings: Settings) -> LabelledTiles:
    return read_tiles(image, settings, CELL, MaskReader().read)


def test_half_of_the_images_are_anomalous_the_same_in_any_order(tmp_path: Path) -> None:
    images = write_set(str(tmp_path), normal=5, anomalous=5)
    chosen = choose_images(images, 6)
    assert [image.image_id for image in chosen] == [
        "a0.png",
        "a1.png",
        "a2.png",
        "n0.png",
        "n1.png",
        "n2.png",
    ]
    assert choose_images(images[::-1], 6) == chosen
    assert choose_images(images, 0) == []
    assert [image.image_id for image in choose_images(images, 1)] == ["n0.png"]


def test_normal_images_take_the_place_of_missing_anomalous_ones(tmp_path: Path) -> None:
    images = write_set(str(tmp_path), normal=5, anomalous=1)
    assert [image.anomalous for image in choose_images(images, 6)] == [True] + [False] * 5


def test_all_positions_of_a_normal_image_count(small: Build, tmp_path: Path) -> None:
    image = write_image(str(tmp_path), "n.png", noise(64, 48, 1))
    found = _read(image, small())
    np.testing.assert_array_equal(
        found.pixels, load_tiles(storage.read_bytes(image.uri), small().tiles, small().scoring)[1]
    )
    assert found.wanted.shape == (4, 8, 8)
    assert found.wanted.all()


def test_the_marked_positions_of_an_anomalous_image_count(small: Build, tmp_path: Path) -> None:
    [image] = write_set(str(tmp_path), normal=0, anomalous=1)
    found = _read(image, small())
    assert len(found.pixels) == 2  # of the four tiles those that the square reaches
    left, right = np.zeros((2, 8, 8), bool)
    left[2:6, 6:] = True
    right[2:6, :2] = True
    np.testing.assert_array_equal(found.wanted, [left, right])
    assert (found.pixels[0, 8:24, 24:] == 65535).all()


def test_marks_follow_an_image_that_is_resized(small: Build, tmp_path: Path) -> None:
    [image] = write_set(str(tmp_path), normal=0, anomalous=1)
    found = _read(image, small(tiles={"mode": "whole"}))
    expected = np.zeros((1, 8, 8), bool)
    expected[0, 1:3, 3:5] = True
    np.testing.assert_array_equal(found.wanted, expected)


def test_a_defect_too_small_for_the_rule_still_counts(small: Build, tmp_path: Path) -> None:
    mask = np.zeros((64, 64), bool)
    mask[5, 9] = True
    image = write_image(str(tmp_path), "a.png", noise(64, 64, 1), mask)
    found = _read(image, small(tiles={"anomalous_fraction": 0.5}))
    np.testing.assert_array_equal(np.argwhere(found.wanted), [[0, 1, 2]])


def test_an_anomalous_image_without_a_mask_counts_all_over(small: Build, tmp_path: Path) -> None:
    [image] = write_set(str(tmp_path), normal=0, anomalous=1)
    assert _read(without_mask(image), small()).wanted.all()


def test_of_a_large_image_a_few_tiles_are_taken_marked_ones_of_an_anomalous_one(
    small: Build, tmp_path: Path
) -> None:
    settings = small(scoring={"image_memory_mib": 4})  # is decoded in bands
    normal = write_image(str(tmp_path), "n.png", noise(1200, 1200, 1))
    found = _read(normal, settings)
    assert len(found.pixels) == 64  # 2^16 pixels
    np.testing.assert_array_equal(found.pixels, _read(normal, settings).pixels)
    mask = np.zeros((1200, 1200), bool)
    mask[640:672, 960:992] = True
    anomalous = write_image(str(tmp_path), "a.png", noise(1200, 1200, 2), mask)
    found = _read(anomalous, settings)
    assert found.pixels.shape == (1, 32, 32, 3)
    assert found.wanted.all()
    np.testing.assert_array_equal(found.pixels[0] // 257, noise(1200, 1200, 2)[640:672, 960:992])


def test_an_image_smaller_than_a_tile_is_not_marked_beside_it(small: Build, tmp_path: Path) -> None:
    image = write_image(str(tmp_path), "a.png", noise(12, 20, 1), np.ones((12, 20), bool))
    found = _read(image, small())
    expected = np.zeros((1, 8, 8), bool)
    expected[0, :3, :5] = True
    np.testing.assert_array_equal(found.wanted, expected)


@pytest.mark.parametrize("mode", ["tiles", "whole"])
def test_what_cannot_be_used_is_said(small: Build, tmp_path: Path, mode: str) -> None:
    settings = small(tiles={"mode": mode})
    [image] = write_set(str(tmp_path), normal=0, anomalous=1)
    uri = str(tmp_path / "gone.png")
    gone = replace(image, uri=uri, version=replace(image.version, uri=uri))
    with pytest.raises(SkippedError, match="cannot be read"):
        _read(gone, settings)
    storage.write_bytes(str(tmp_path / "text.png"), b"no image")
    [version] = storage.file_infos([str(tmp_path / "text.png")])
    assert version is not None
    with pytest.raises(SkippedError, match=r"cannot be decoded \(not_an_image"):
        _read(replace(image, uri=version.uri, version=version), settings)
    with pytest.raises(SkippedError, match="has a mask that cannot be used"):
        _read(replace(image, mask_uri=uri), settings)
    with pytest.raises(SkippedError, match="has changed since it was scored"):
        _read(replace(image, version=replace(image.version, size_bytes=7)), settings)
