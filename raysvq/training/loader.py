"""Endless, full, shuffled batches from a Ray Data shard.

Every batch has the same size on every rank, and epochs never end early on one of them: what is left
of an epoch opens the next. A shard that fits the cache is decoded once and then drawn from memory.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import ray.data

from raysvq.errors import TrainingError

Columns = dict[str, npt.NDArray[Any]]

_BLOCK = 256  # rows asked of Ray Data at once
_SHUFFLE_BYTES = 64 * 2**20  # pool from which streamed tiles are drawn


def endless_batches(
    shard: ray.data.DataIterator, batch_size: int, cache_bytes: int, rng: np.random.Generator, name: str
) -> Iterator[Columns]:
    """Yield batches of `batch_size` rows for ever, every row once an epoch.

    Args:
        shard: this rank's rows; every rank has equally many.
        cache_bytes: a shard up to this size is kept in memory after the first epoch.
        name: of the rows, for the error.

    Raises:
        TrainingError: the shard has no rows.
    """
    return rebatch(_epochs(shard, cache_bytes, rng, name), batch_size)


def rebatch(pieces: Iterator[Columns], batch_size: int) -> Iterator[Columns]:
    """Pieces of any length -> batches of exactly `batch_size`, order kept, nothing dropped between."""
    held: list[Columns] = []
    count = 0
    for piece in pieces:
        held.append(piece)
        count += _rows(piece)
        if count < batch_size:
            continue
        joined = _join(held)
        whole = count - count % batch_size
        for start in range(0, whole, batch_size):
            yield _take(joined, slice(start, start + batch_size))
        held, count = [_take(joined, slice(whole, None))], count % batch_size


def _epochs(
    shard: ray.data.DataIterator, cache_bytes: int, rng: np.random.Generator, name: str
) -> Iterator[Columns]:
    cached = yield from _first_epoch(shard, cache_bytes, rng, name)
    if cached is not None:
        yield from _from_memory(cached, rng)
    while True:
        yield from _shuffled(_read(shard), rng)


def _first_epoch(
    shard: ray.data.DataIterator, cache_bytes: int, rng: np.random.Generator, name: str
) -> Generator[Columns, None, Columns | None]:
    """Returns the epoch's rows, joined, where they fit the cache."""
    kept: list[Columns] = []
    size = rows = 0
    for piece in _shuffled(_read(shard), rng):
        rows += _rows(piece)
        size += _bytes(piece)
        if size <= cache_bytes:
            kept.append(piece)
        else:
            kept.clear()
        yield piece
    if not rows:
        raise TrainingError(
            f"no {name} tiles to train on: fewer than workers, the images being few or unreadable"
        )
    return _join(kept) if kept else None


def _from_memory(tiles: Columns, rng: np.random.Generator) -> Iterator[Columns]:
    """Epochs without end over rows held in memory."""
    while True:
        order = rng.permutation(_rows(tiles))
        for start in range(0, len(order), _BLOCK):
            yield _take(tiles, order[start : start + _BLOCK])


def _read(shard: ray.data.DataIterator) -> Iterator[Columns]:
    return iter(shard.iter_batches(batch_size=_BLOCK, batch_format="numpy"))


def _shuffled(pieces: Iterator[Columns], rng: np.random.Generator) -> Iterator[Columns]:
    """Draw rows at random from a pool that the stream refills; every row comes out once."""
    pool: list[Columns] = []
    size = 0
    for piece in pieces:
        pool.append(piece)
        size += _bytes(piece)
        if size >= _SHUFFLE_BYTES:
            mixed = _mix(pool, rng)
            half = _rows(mixed) // 2
            yield _take(mixed, slice(0, half))
            pool = [_take(mixed, slice(half, None))]
            size = _bytes(pool[0])
    if pool:
        yield _mix(pool, rng)


def _mix(pieces: list[Columns], rng: np.random.Generator) -> Columns:
    joined = _join(pieces)
    return _take(joined, rng.permutation(_rows(joined)))


def _join(pieces: list[Columns]) -> Columns:
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


def _take(columns: Columns, which: Any) -> Columns:
    return {name: column[which] for name, column in columns.items()}


def _rows(columns: Columns) -> int:
    return len(next(iter(columns.values())))


def _bytes(columns: Columns) -> int:
    return sum(column.nbytes for column in columns.values())
