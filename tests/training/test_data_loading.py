"""Batches of a rank: ratio, weights, flips, share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from raysvq.settings import Settings
from raysvq.training.data_loading import Batches, DataPosition, Place, tiles_of
from raysvq.training.shuffling import Columns, Position, in_memory

Build = Callable[..., Settings]
CPU = torch.device("cpu")


def _tiles(count: int, offset: int = 0) -> np.ndarray:
    """Flat tiles, each of a value of its own."""
    values = (offset + np.arange(count)).astype(np.uint16)
    return np.broadcast_to(values[:, None, None, None], (count, 16, 16, 3)).copy()


def _batches(
    settings: Settings, normal: Columns, outlier: Columns | None = None, place: Any = None
) -> Batches:
    tiles = tiles_of(in_memory(normal), outlier, 0, "features" in normal)
    return Batches(settings.training, tiles, place or Place(CPU))


def test_batches_keep_their_ratio_and_weights_stay_with_their_tiles(small: Build) -> None:
    weight = np.broadcast_to((np.arange(9, dtype=np.float32) / 10)[:, None, None], (9, 4, 4)).copy()
    outliers = {"tile": _tiles(9, 1000), "weight": weight}
    stream = _batches(small(), {"tile": _tiles(50)}, outliers)
    seen: set[int] = set()
    for _ in range(20):
        batch = next(stream)
        values = (batch.pixels[:, 0, 0, 0] * 65535).round().int().tolist()
        assert batch.outliers == 2
        assert all(value < 50 for value in values[:6])
        assert batch.weight is not None
        marks = (batch.weight[:, 0, 0] * 10).round().int()
        assert [value - 1000 for value in values[6:]] == marks.tolist()
        seen |= set(values)
    assert seen == {*range(50), *range(1000, 1009)}


def test_flips_take_the_weights_along(small: Build) -> None:
    weight = np.random.default_rng(0).random((5, 4, 4)).astype(np.float32)
    tile = (weight.repeat(4, axis=1).repeat(4, axis=2) * 65535).astype(np.uint16)[..., None].repeat(3, axis=3)
    outliers = {"tile": tile, "weight": weight}
    stream = _batches(small(), {"tile": _tiles(8)}, outliers)
    corners: set[float] = set()
    for _ in range(100):
        batch = next(stream)
        assert batch.weight is not None
        cells = batch.pixels[-batch.outliers :, 0, ::4, ::4]
        torch.testing.assert_close(cells, batch.weight, atol=1e-4, rtol=0)
        corners |= set(batch.weight[:, 0, 0].tolist())
    assert len(corners) == 4 * 5


def test_flips_can_be_turned_off(small: Build) -> None:
    ramp = np.arange(16, dtype=np.uint16)[None, :, None, None] + np.zeros((4, 16, 16, 3), np.uint16)
    rows = {"tile": ramp + np.arange(16, dtype=np.uint16)[:, None] * 16}
    stream = _batches(small(training={"flips": False}), rows)
    for _ in range(10):
        pixels = next(stream).pixels
        assert bool((pixels[:, 0].diff(dim=1) > 0).all())
        assert bool((pixels[:, 0].diff(dim=2) > 0).all())


@pytest.mark.parametrize(
    ("batch_size", "share", "expected"),
    [(8, 0.25, 2), (8, 0.01, 1), (8, 0.99, 7), (2, 0.8, 1), (128, 0.5, 64), (8, 0.0, 0)],
)
def test_no_batch_is_without_normals_and_a_share_of_zero_means_no_outliers(
    small: Build,
    batch_size: int,
    share: float,
    expected: int,
) -> None:
    outliers = {"tile": _tiles(9, 1000), "weight": np.ones((9, 4, 4), np.float32)}
    settings = small(training={"batch_size": batch_size, "outlier_fraction": share})
    batch = next(_batches(settings, {"tile": _tiles(50)}, outliers))
    assert len(batch.pixels) == batch_size
    assert batch.outliers == expected
    assert (batch.weight is None) == (expected == 0)


def test_ranks_share_the_batch_and_draw_differently(small: Build) -> None:
    rows = {"tile": _tiles(50)}
    first, second = (next(_batches(small(), rows, place=Place(CPU, rank, 2))) for rank in (0, 1))
    assert len(first.pixels) == len(second.pixels) == 4
    assert not torch.equal(first.pixels, second.pixels)


def test_batches_go_on_from_a_position_as_if_never_stopped(small: Build) -> None:
    outliers = {"tile": _tiles(9, 1000), "weight": np.random.default_rng(0).random((9, 4, 4), np.float32)}
    rows = {"tile": np.random.default_rng(1).integers(0, 65535, (50, 16, 16, 3), np.uint16)}
    whole = _batches(small(), rows, outliers)
    for _ in range(13):
        next(whole)
    tiles = tiles_of(in_memory(rows), outliers, 0, False)
    broken = Batches(small().training, tiles, Place(CPU), whole.position)
    for _ in range(20):
        one, other = next(whole), next(broken)
        assert torch.equal(one.pixels, other.pixels)
        assert one.weight is not None
        assert other.weight is not None
        assert torch.equal(one.weight, other.weight)
    assert broken.position == whole.position
    assert whole.position.normal.epoch == 33 * 6 // 50


def test_other_workers_go_on_at_the_same_share_of_the_epoch() -> None:
    position = DataPosition(11, Position(2, 60), Position(1, 5))
    assert position.shared_out(2, 3) == DataPosition(11, Position(2, 40), Position(1, 5))
    assert position.shared_out(2, 1) == DataPosition(11, Position(2, 120), Position(1, 5))
    assert position.shared_out(2, 2) == position


def test_a_step_takes_some_positions_of_features_the_marked_ones_first(small: Build) -> None:
    marked = np.zeros((5, 4, 4), np.float32)
    marked[:, 1, 2], marked[:, 3, 0] = 0.5, 0.01
    features = np.arange(16, dtype=np.float16).reshape(1, 4, 4, 1).repeat(5, axis=0)
    stream = _batches(
        small(training={"positions_per_tile": 6, "flips": False}),
        {"features": features.repeat(4, axis=0)},
        {"features": features, "weight": marked},
    )
    drawn: list[list[int]] = []
    for _ in range(10):
        batch = next(stream)
        assert batch.weight is not None
        assert batch.pixels.shape == (8, 1, 6, 1)
        assert batch.weight.shape == (batch.outliers, 6, 1)
        rows = batch.pixels[:, 0, :, 0].tolist()  # features say where they are from
        assert all(len(set(row)) == 6 and min(row) >= 0 and max(row) < 16 for row in rows)
        for row, weight in zip(rows[-batch.outliers :], batch.weight[..., 0].tolist(), strict=True):
            assert dict(zip(row, weight, strict=True)) == dict.fromkeys(row, 0) | {
                6: 0.5,
                12: pytest.approx(0.01),
            }
        drawn += rows[: -batch.outliers]
    assert len({tuple(row) for row in drawn}) > 30
    assert {place for row in drawn for place in row} == set(range(16))


def test_small_grids_and_pixels_are_taken_whole(small: Build) -> None:
    features = np.zeros((20, 4, 4, 1), np.float16)
    settings = small(training={"positions_per_tile": 16})
    assert next(_batches(settings, {"features": features})).pixels.shape == (8, 1, 4, 4)
    thinned = _batches(small(training={"positions_per_tile": 2}), {"features": features})
    assert thinned.whole().pixels.shape == (8, 1, 4, 4)
    assert next(thinned).pixels.shape == (8, 1, 2, 1)
    few = small(training={"positions_per_tile": 2})
    assert next(_batches(few, {"tile": _tiles(20)})).pixels.shape == (8, 3, 16, 16)
