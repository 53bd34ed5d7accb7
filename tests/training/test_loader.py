"""Batches: exact, complete, in the order their seed gives."""

from __future__ import annotations

import gc
import itertools
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysvq.errors import TrainingError
from raysvq.training import loader
from raysvq.training.loader import Columns, endless_batches, rebatch

MakeShard = Callable[..., Any]
ROWS = 700  # more than are asked of Ray Data at once


def _rows(count: int) -> Columns:
    """Rows of two columns that belong together."""
    return {"id": np.arange(count), "tile": np.arange(count, dtype=np.uint16)[:, None].repeat(3, axis=1)}


def _ids(batches: Iterator[Columns], count: int) -> list[int]:
    """The ids of the next batches, which must fit the tiles beside them."""
    found: list[int] = []
    for batch in itertools.islice(batches, count):
        np.testing.assert_array_equal(batch["tile"], batch["id"][:, None].repeat(3, axis=1))
        found += batch["id"].tolist()
    return found


def _endless(shard: Any, batch_size: int, cache_bytes: int, seed: int = 0) -> Iterator[Columns]:
    return endless_batches(shard, batch_size, cache_bytes, np.random.default_rng(seed), "normal")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 40), max_size=12), st.integers(1, 25))
def test_rebatch_gives_full_batches_in_order_and_drops_only_the_tail(
    lengths: list[int], batch_size: int
) -> None:
    ends = list(itertools.accumulate(lengths, initial=0))
    pieces = [{"id": np.arange(start, stop)} for start, stop in itertools.pairwise(ends)]
    batches = [batch["id"].tolist() for batch in rebatch(iter(pieces), batch_size)]
    assert all(len(batch) == batch_size for batch in batches)
    assert list(itertools.chain(*batches)) == list(range(ends[-1] // batch_size * batch_size))


@pytest.mark.parametrize("cache_bytes", [0, 2**20], ids=["streamed", "cached"])
def test_every_row_comes_once_an_epoch(make_shard: MakeShard, cache_bytes: int) -> None:
    batches = _endless(make_shard(_rows(ROWS)), 50, cache_bytes)
    for _ in range(4):
        epoch = _ids(batches, ROWS // 50)
        assert sorted(epoch) == list(range(ROWS))


@pytest.mark.parametrize("cache_bytes", [0, 2**20], ids=["streamed", "cached"])
def test_what_is_left_of_an_epoch_opens_the_next(make_shard: MakeShard, cache_bytes: int) -> None:
    ids = _ids(_endless(make_shard(_rows(10)), 4, cache_bytes), 15)
    for start in range(0, 60, 10):
        assert sorted(ids[start : start + 10]) == list(range(10))


@pytest.mark.parametrize("cache_bytes", [0, 2**20], ids=["streamed", "cached"])
def test_a_batch_may_be_larger_than_the_shard(make_shard: MakeShard, cache_bytes: int) -> None:
    ids = _ids(_endless(make_shard(_rows(3)), 7, cache_bytes), 3)
    assert [ids.count(row) for row in range(3)] == [7, 7, 7]


@pytest.mark.parametrize("cache_bytes", [0, 2**20], ids=["streamed", "cached"])
def test_epochs_are_shuffled_anew(make_shard: MakeShard, cache_bytes: int) -> None:
    batches = _endless(make_shard(_rows(ROWS)), ROWS, cache_bytes)
    epochs = [_ids(batches, 1) for _ in range(3)]
    assert list(range(ROWS)) not in epochs
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    early = np.mean([row < 256 for row in epochs[0][:256]])
    assert early < 0.6


@pytest.mark.parametrize("cache_bytes", [0, 2**20], ids=["streamed", "cached"])
def test_the_seed_decides_the_order(make_shard: MakeShard, cache_bytes: int) -> None:
    one, same, other = (
        _ids(_endless(make_shard(_rows(ROWS)), 50, cache_bytes, seed), 40) for seed in (1, 1, 2)
    )
    assert one == same
    assert one != other


def test_a_shard_that_fits_the_cache_is_read_once(make_shard: MakeShard) -> None:
    shard = make_shard(_rows(100))
    _ids(_endless(shard, 50, 2**20), 20)
    assert shard.reads == 1


def test_a_shard_larger_than_the_cache_is_read_every_epoch(make_shard: MakeShard) -> None:
    columns = _rows(100)
    shard = make_shard(columns)
    size = sum(column.nbytes for column in columns.values())
    _ids(_endless(shard, 50, size - 1), 20)
    assert shard.reads == 10


@pytest.mark.parametrize("cached", [True, False])
def test_a_stream_larger_than_the_shuffle_pool_loses_nothing(
    make_shard: MakeShard, monkeypatch: pytest.MonkeyPatch, cached: bool
) -> None:
    monkeypatch.setattr(loader, "_SHUFFLE_BYTES", 3000)
    monkeypatch.setattr(loader, "_BLOCK", 64)
    batches = _endless(make_shard(_rows(ROWS)), 50, 2**20 if cached else 0)
    for _ in range(3):
        assert sorted(_ids(batches, ROWS // 50)) == list(range(ROWS))


def test_the_cache_holds_each_tile_once(make_shard: MakeShard) -> None:
    size = 16 * 2**20
    shard = make_shard({"tile": np.zeros((4096, size // 8192), np.uint16)})
    batches = _endless(shard, 512, 2 * size)
    tracemalloc.start()
    try:
        for _ in itertools.islice(batches, 24):
            pass
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1.5 * size


@pytest.mark.parametrize("cache_bytes", [0, 2**20], ids=["streamed", "cached"])
def test_an_empty_shard_is_an_error_that_names_the_rows(make_shard: MakeShard, cache_bytes: int) -> None:
    with pytest.raises(TrainingError, match="no normal tiles to train on"):
        next(_endless(make_shard(_rows(0)), 4, cache_bytes))
