"""Batches: exact, complete, in the order their seed gives."""

from __future__ import annotations

import errno
import gc
import io
import itertools
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysvq.errors import SettingsError, TrainingError
from raysvq.training import shuffling
from raysvq.training.shuffling import Columns, EndlessBatches, Position, Room, in_memory, rebatch

ROWS = 700  # more than are asked of Ray Data at once
ROOMS = [Room(0), Room(2**20), Room(100, 2**20)]


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


class _Counted:
    """A source that counts how often it is read."""

    def __init__(self, columns: Columns) -> None:
        self.read = in_memory(columns)
        self.reads = 0

    def __call__(self) -> Iterator[Columns]:
        self.reads += 1
        return self.read()


def _endless(
    columns: Columns | _Counted,
    batch_size: int,
    room: int | Room,
    seed: int = 0,
    start: Position | None = None,
) -> EndlessBatches:
    source = columns if isinstance(columns, _Counted) else in_memory(columns)
    room = Room(room) if isinstance(room, int) else room
    return EndlessBatches(source, batch_size, room, [seed], "normal", start or Position())


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


@pytest.mark.parametrize("room", ROOMS, ids=["streamed", "in memory", "on disk"])
def test_every_row_comes_once_an_epoch(room: Room) -> None:
    batches = _endless(_rows(ROWS), 50, room)
    for _ in range(4):
        epoch = _ids(batches, ROWS // 50)
        assert sorted(epoch) == list(range(ROWS))


@pytest.mark.parametrize("room", ROOMS, ids=["streamed", "in memory", "on disk"])
def test_what_is_left_of_an_epoch_opens_the_next(room: Room) -> None:
    ids = _ids(_endless(_rows(10), 4, room), 15)
    for start in range(0, 60, 10):
        assert sorted(ids[start : start + 10]) == list(range(10))


@pytest.mark.parametrize("room", ROOMS, ids=["streamed", "in memory", "on disk"])
def test_a_batch_may_be_larger_than_the_shard(room: Room) -> None:
    ids = _ids(_endless(_rows(3), 7, room), 3)
    assert [ids.count(row) for row in range(3)] == [7, 7, 7]


@pytest.mark.parametrize("room", ROOMS, ids=["streamed", "in memory", "on disk"])
def test_epochs_are_shuffled_anew(room: Room) -> None:
    batches = _endless(_rows(ROWS), ROWS, room)
    epochs = [_ids(batches, 1) for _ in range(3)]
    assert list(range(ROWS)) not in epochs
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    early = np.mean([row < 256 for row in epochs[0][:256]])
    assert early < 0.6


@pytest.mark.parametrize("room", ROOMS, ids=["streamed", "in memory", "on disk"])
def test_the_seed_decides_the_order(room: Room) -> None:
    one, same, other = (_ids(_endless(_rows(ROWS), 50, room, seed), 40) for seed in (1, 1, 2))
    assert one == same
    assert one != other


def test_a_shard_that_fits_the_cache_is_read_once() -> None:
    shard = _Counted(_rows(100))
    _ids(_endless(shard, 50, 2**20), 20)
    assert shard.reads == 1


def test_what_does_not_fit_memory_is_read_once_and_kept_on_disk() -> None:
    columns = _rows(1000)
    size = sum(column.nbytes for column in columns.values())
    shard = _Counted(columns)
    _ids(_endless(shard, 50, Room(size // 3, size)), 90)
    assert shard.reads == 1


def test_a_full_disk_names_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, _: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shuffling.tempfile, "TemporaryFile", Full)
    with pytest.raises(SettingsError, match=r"training\.disk_cache_mib.*no space is left"):
        next(_endless(_rows(100), 50, Room(10, 2**20)))


def test_a_shard_larger_than_the_cache_is_read_every_epoch() -> None:
    columns = _rows(100)
    shard = _Counted(columns)
    size = sum(column.nbytes for column in columns.values())
    _ids(_endless(shard, 50, size - 1), 20)
    assert shard.reads == 10


@pytest.mark.parametrize("cached", [True, False])
def test_a_stream_larger_than_the_shuffle_pool_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, cached: bool
) -> None:
    monkeypatch.setattr(shuffling, "_SHUFFLE_BYTES", 3000)
    monkeypatch.setattr(shuffling, "BLOCK", 64)
    batches = _endless(_rows(ROWS), 50, 2**20 if cached else 0)
    for _ in range(3):
        assert sorted(_ids(batches, ROWS // 50)) == list(range(ROWS))


def test_the_cache_holds_each_tile_once() -> None:
    size = 16 * 2**20
    columns = {"tile": np.zeros((4096, size // 8192), np.uint16)}
    batches = _endless(columns, 512, 2 * size)
    tracemalloc.start()
    try:
        for _ in itertools.islice(batches, 24):
            pass
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1.5 * size


@pytest.mark.parametrize("room", ROOMS, ids=["streamed", "in memory", "on disk"])
def test_an_empty_shard_is_an_error_that_names_the_rows(room: Room) -> None:
    with pytest.raises(TrainingError, match="no normal tiles to train on"):
        next(_endless(_rows(0), 4, room))


@pytest.mark.parametrize("room", ROOMS, ids=["streamed", "in memory", "on disk"])
@pytest.mark.parametrize("taken", [0, 1, 3, 14, 28, 29, 100])
def test_batches_go_on_from_any_position(monkeypatch: pytest.MonkeyPatch, taken: int, room: Room) -> None:
    monkeypatch.setattr(shuffling, "_SHUFFLE_BYTES", 3000)
    monkeypatch.setattr(shuffling, "BLOCK", 64)
    whole = _endless(_rows(ROWS), 50, room)
    _ids(whole, taken)
    broken = _endless(_rows(ROWS), 50, room, start=whole.position)
    assert _ids(broken, 40) == _ids(whole, 40)
    assert broken.position == whole.position


def test_a_position_counts_epochs_and_rows() -> None:
    batches = _endless(_rows(10), 4, 2**20)
    _ids(batches, 3)
    assert batches.position == Position(1, 2)
    _ids(batches, 2)
    assert batches.position in (Position(1, 10), Position(2, 0))  # the same


def test_a_batch_larger_than_an_epoch_leaves_a_position_too() -> None:
    whole = _endless(_rows(3), 7, 2**20)
    _ids(whole, 4)
    broken = _endless(_rows(3), 7, 2**20, start=whole.position)
    assert _ids(broken, 5) == _ids(whole, 5)
