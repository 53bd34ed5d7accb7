"""Jittered copies of labelled tiles: how many, the same again, and the mark where the mark belongs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from raysvq.training.augmentation import with_copies
from raysvq.training.shuffling import Columns, in_memory

CELL = 8


def _noise(count: int, channels: int = 3) -> Columns:
    draw = np.random.default_rng(0)
    return {
        "tile": draw.integers(0, 65536, (count, 64, 64, channels)).astype(np.uint16),
        "weight": draw.random((count, 8, 8), np.float32),
    }


def _one_square(count: int) -> Columns:
    """A bright square on black, 5 x 4 cells anywhere in the middle, and its mark."""
    draw = np.random.default_rng(1)
    weight = np.zeros((count, 32, 32), np.float32)
    for mark in weight:
        y, x = draw.integers(6, 20, 2)
        mark[y : y + 5, x : x + 4] = 1
    tile = weight.repeat(CELL, axis=1).repeat(CELL, axis=2)[..., None] * 40_000
    return {"tile": tile.astype(np.uint16), "weight": weight}


def _centroids(images: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """(T, s, s) -> (T, 2) as shares of the side."""
    at = (np.arange(images.shape[1]) + 0.5) / images.shape[1]
    total = images.sum(axis=(1, 2), dtype=np.float64)
    return np.stack([images.sum(axis=2) @ at / total, images.sum(axis=1) @ at / total], axis=1)


def _copies(columns: Columns, seed: int = 0) -> Columns:
    """A augmented copy of each of at most 16 rows."""
    _, copied = with_copies(in_memory(columns), 1, seed)()
    return copied


@pytest.mark.parametrize("copies", [1, 3])
def test_each_row_comes_and_so_many_copies(copies: int) -> None:
    columns = _noise(20)
    parts = list(with_copies(in_memory(columns), copies, 0)())
    tiles = np.concatenate([part["tile"] for part in parts])
    weights = np.concatenate([part["weight"] for part in parts])
    assert len(tiles) == len(weights) == 20 * (1 + copies)
    kept = [np.flatnonzero((tiles == tile).all(axis=(1, 2, 3))) for tile in columns["tile"]]
    assert [len(found) for found in kept] == [1] * 20
    assert np.array_equal(weights[np.concatenate(kept)], columns["weight"])


def test_copies_are_the_same_in_every_pass_and_others_with_another_seed() -> None:
    columns = _noise(20)
    source = with_copies(in_memory(columns), 2, 0)
    first = list(source())
    for one, again in zip(first, source(), strict=True):
        assert np.array_equal(one["tile"], again["tile"])
        assert np.array_equal(one["weight"], again["weight"])
    other = list(with_copies(in_memory(columns), 2, 1)())
    assert np.array_equal(first[0]["tile"], other[0]["tile"])
    assert not np.array_equal(first[1]["tile"], other[1]["tile"])
    assert not np.array_equal(first[1]["tile"], first[2]["tile"])


def test_a_mark_moves_with_what_it_marks() -> None:
    columns = _one_square(16)
    copied = _copies(columns)
    marks, squares = _centroids(copied["weight"]), _centroids(copied["tile"][..., 0])
    cell = 1 / columns["weight"].shape[1]
    assert np.abs(marks - squares).max() < 0.1 * cell
    assert np.abs(marks - _centroids(columns["weight"])).max() > cell


def test_a_mark_grows_with_what_it_marks() -> None:
    columns = _one_square(16)
    copied = _copies(columns)
    tiles = copied["tile"][..., 0] / copied["tile"].max(axis=(1, 2))[..., None]  # brightness apart
    marked, bright = copied["weight"].sum(axis=(1, 2)), tiles.sum(axis=(1, 2)) / CELL**2
    np.testing.assert_allclose(marked, bright, rtol=0.05)
    assert np.ptp(bright) > 1


@pytest.mark.parametrize("channels", [1, 3])
def test_copies_keep_shape_kind_and_range(channels: int) -> None:
    columns = _noise(16, channels)
    columns["tile"][0], columns["weight"][0] = 65_535, 1
    copied = _copies(columns)
    for name in ("tile", "weight"):
        assert copied[name].shape == columns[name].shape
        assert copied[name].dtype == columns[name].dtype
    assert copied["weight"].min() >= 0
    assert copied["weight"].max() <= 1
    assert np.array_equal(copied["weight"][0], columns["weight"][0])


def test_a_white_tile_stays_light_and_a_black_one_black() -> None:
    columns = _noise(16)
    columns["tile"][:8], columns["tile"][8:] = 65_535, 0
    copied = _copies(columns)["tile"]
    assert copied[:8].min() > 0.85 * 65_535
    assert copied[8:].max() == 0
