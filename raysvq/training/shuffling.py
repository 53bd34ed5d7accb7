"""Endless shuffled batches from a source of rows that can be read repeatedly.

Every batch has the same size on every rank: rows left at the end of an epoch open the next one. A source
that fits the cache is read once and then drawn from memory, or from local disk. The order depends only on the
seeds, the epoch's number and the source's order, so an interrupted run continues with the batches it would
have had.
"""

from __future__ import annotations

import errno
import itertools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from raysvq.errors import SettingsError, TrainingError

Columns = dict[str, npt.NDArray[Any]]
Source = Callable[[], Iterator[Columns]]  # a pass over all rows, in the same order each time

BLOCK = 256  # rows requested of a source at once
_SHUFFLE_BYTES = 64 * 2**20  # pool from which streamed tiles are drawn
_DRAWN_BYTES = 2**20  # copied at once from rows in memory; fits a processor's caches


@dataclass(frozen=True)
class Room:
    """Bytes that the rows of an epoch may take: in memory, else on local disk, else they are read again."""

    memory: int
    disk: int = 0


@dataclass(frozen=True)
class Position:
    """The epoch, and the number of its rows drawn so far."""

    epoch: int = 0
    row: int = 0


def in_memory(columns: Columns) -> Source:
    """Rows held in memory as a source."""
    return lambda: _split(columns, BLOCK)


def pieces(source: Source, rows: int) -> Iterator[Columns]:
    """A pass over a source in pieces of at most `rows` rows."""
    for columns in source():
        yield from _split(columns, rows)


def _split(columns: Columns, rows: int) -> Iterator[Columns]:
    for start in range(0, _rows(columns), rows):
        yield _take(columns, slice(start, start + rows))


class EndlessBatches:
    """Batches of `batch_size` rows for ever, every row once an epoch."""

    def __init__(
        self,
        source: Source,
        batch_size: int,
        room: Room,
        seeds: Sequence[int],
        name: str,
        start: Position = Position(),
    ) -> None:
        """Read nothing yet.

        Args:
            source: this rank's rows; every rank has equally many.
            room: a source that it has room for is kept after its first pass.
            seeds: decide the order, with the epoch's number.
            name: of the rows, for the error.
            start: goes on from here. The rows before it in its epoch are read and dropped.
        """
        self.position = start  # after the last batch returned
        self._source = source
        self._room = room
        self._seeds = seeds
        self._name = name
        self._lengths: dict[int, int] = {}  # rows per epoch, of epochs read to their end
        self._batches = rebatch(self._pieces(), batch_size)

    def __iter__(self) -> Iterator[Columns]:
        return self

    def __next__(self) -> Columns:
        """The next batch.

        Raises:
            TrainingError: the source has no rows.
        """
        batch = next(self._batches)
        epoch, row = self.position.epoch, self.position.row + _rows(batch)
        while epoch in self._lengths and row >= self._lengths[epoch]:
            row -= self._lengths.pop(epoch)
            epoch += 1
        self.position = Position(epoch, row)
        return batch

    def _pieces(self) -> Iterator[Columns]:
        skip = self.position.row
        for epoch, pieces in self._epochs(self.position.epoch):
            rows = 0
            for piece in pieces:
                rows += _rows(piece)
                yield _take(piece, slice(skip, None)) if skip else piece
                skip -= min(skip, _rows(piece))
            if not rows:
                raise TrainingError(
                    f"no {self._name} tiles to train on: fewer than workers, the images being few or"
                    " unreadable"
                )
            self._lengths[epoch] = rows

    def _epochs(self, first: int) -> Iterator[tuple[int, Iterator[Columns]]]:
        cache = _Cache(self._room)
        if first == 0:
            yield 0, cache.keep(self._streamed(0))
        else:
            cache.fill(self._streamed(0))
        for epoch in itertools.count(max(1, first)):
            rows = cache.rows()
            yield epoch, self._streamed(epoch) if rows is None else _drawn(rows, self._rng(epoch))

    def _streamed(self, epoch: int) -> Iterator[Columns]:
        return _shuffled(self._source(), self._rng(epoch))

    def _rng(self, epoch: int) -> np.random.Generator:
        return np.random.default_rng([*self._seeds, epoch])


class _Cache:
    """The rows of the first epoch, as long as they fit into memory, or all of them onto disk."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._taken = 0  # bytes
        self._kept: list[Columns] = []
        self._file: _RowFile | None = None

    @property
    def _fits(self) -> bool:
        return self._taken <= max(self._room.memory, self._room.disk)

    def keep(self, pieces: Iterator[Columns]) -> Iterator[Columns]:
        """Yield the pieces, and store them while they fit. Raises SettingsError where the disk is full."""
        for piece in pieces:
            self._taken += _bytes(piece)
            if self._taken <= self._room.memory:
                self._kept.append(piece)
            elif self._fits:
                self._file = self._file or _RowFile()
                for waiting in (*self._kept, piece):
                    self._file.append(waiting)
                self._kept.clear()
            else:
                self._kept.clear()
                self._file = None
            yield piece

    def fill(self, pieces: Iterator[Columns]) -> None:
        """Read pieces until they no longer fit."""
        for _ in self.keep(pieces):
            if not self._fits:
                return

    def rows(self) -> Columns | None:
        """All rows in the order they came, or None where they did not fit."""
        if self._file is not None:
            return self._file.rows()
        if not self._kept:
            return None
        self._kept = [join(self._kept)]
        return self._kept[0]


class _RowFile:
    """Rows on local disk, a file without a name for each column: none is left behind, however a run ends."""

    def __init__(self) -> None:
        self._files: dict[str, IO[bytes]] = {}
        self._shapes: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {}
        self._count = 0

    def append(self, piece: Columns) -> None:
        """Write rows behind those that are there. Raises SettingsError where the disk is full."""
        try:
            for name, column in piece.items():
                if name not in self._files:
                    self._files[name] = tempfile.TemporaryFile()  # noqa: SIM115  # open as long as the cache
                    self._shapes[name] = column.dtype, column.shape[1:]
                self._files[name].write(np.ascontiguousarray(column).data)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise SettingsError(
                f"setting `training.disk_cache_mib`: no space is left in {tempfile.gettempdir()} for what a"
                " worker keeps of its tiles; set it lower, or TMPDIR to a folder on a larger disk"
            ) from None
        self._count += _rows(piece)

    def rows(self) -> Columns:
        """All rows, read from disk as they are used."""
        for file in self._files.values():
            file.flush()
        return {
            name: np.memmap(file, *self._shapes[name][:1], "r", shape=(self._count, *self._shapes[name][1]))
            for name, file in self._files.items()
        }


def rebatch(pieces: Iterator[Columns], batch_size: int) -> Iterator[Columns]:
    """Pieces of any length -> batches of exactly `batch_size`, order kept, nothing dropped between."""
    held: list[Columns] = []
    count = 0
    for piece in pieces:
        held.append(piece)
        count += _rows(piece)
        if count < batch_size:
            continue
        joined = join(held)
        whole = count - count % batch_size
        for start in range(0, whole, batch_size):
            yield _take(joined, slice(start, start + batch_size))
        held, count = [_take(joined, slice(whole, None))], count % batch_size


def _drawn(rows: Columns, rng: np.random.Generator) -> Iterator[Columns]:
    """Draw all rows of an epoch from memory."""
    order = rng.permutation(_rows(rows))
    at_once = max(1, _DRAWN_BYTES * len(order) // _bytes(rows))
    for start in range(0, len(order), at_once):
        yield _take(rows, order[start : start + at_once])


def _shuffled(pieces: Iterator[Columns], rng: np.random.Generator) -> Iterator[Columns]:
    """Draw rows at random from a pool that the stream refills; each row is drawn once."""
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
    joined = join(pieces)
    return _take(joined, rng.permutation(_rows(joined)))


def join(parts: list[Columns]) -> Columns:
    """Concatenate rows; the columns are those of the first piece."""
    if len(parts) == 1:
        return dict(parts[0])
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _take(columns: Columns, which: Any) -> Columns:
    return {name: column[which] for name, column in columns.items()}


def _rows(columns: Columns) -> int:
    return len(next(iter(columns.values())))


def _bytes(columns: Columns) -> int:
    return sum(column.nbytes for column in columns.values())
