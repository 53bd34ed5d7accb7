"""Local folders: links to folders are followed, what cannot be listed is reported."""

from __future__ import annotations

import heapq
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO

from raysvq.storage.errors import storage_errors
from raysvq.storage.objects import Problem, Skip

NOWHERE = "links that lead nowhere"
TWICE = "links to folders that are read without them"
NO_FILE = "neither files nor folders"

RUN = 50_000  # names of a folder sorted in memory, about 8 MiB
_BLOCK = 500  # names read back from disk at once


def local_files(folder: str, problem: Problem, skip: Skip) -> Iterator[tuple[str, os.stat_result]]:
    """Path and status of every file at or below a folder, sorted within each folder.

    Memory is flat in the number of files: a large folder's names are sorted on disk, about 40 bytes each.

    Links are followed, but no folder is read twice: one that leads above itself, or to what is listed
    without it, is a problem.

    Raises:
        StorageError: a folder may not be read.
    """
    real = PurePosixPath(os.path.realpath(folder))
    return _Walk(problem, skip, {real}).below(folder, real, (real,))


def entries(folder: str, start: str, problem: Problem) -> Iterator[tuple[str, os.stat_result]]:
    """Path and status of what is directly in a folder, under names with this start, sorted.

    Links are followed. A folder that does not exist is empty.

    Raises:
        StorageError: the folder may not be read.
    """
    names = (name for name in _names(folder, must_exist=False) if name.startswith(start))
    for name, status in _with_status(folder, names, problem):
        path = os.path.join(folder, name)
        if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
            yield path, status
        else:
            problem(path, NO_FILE)


@dataclass(frozen=True)
class _Walk:
    problem: Problem
    skip: Skip
    starts: set[PurePosixPath]  # real folders at which the walk began

    def below(
        self, folder: str, real: PurePosixPath, chain: tuple[PurePosixPath, ...]
    ) -> Iterator[tuple[str, os.stat_result]]:
        """The files below a folder. `chain` has the real folders on the way to it that a link led to."""
        names = _names(folder, must_exist=real == chain[0])
        for name, status in _with_status(folder, names, self.problem):
            path = os.path.join(folder, name)
            if stat.S_ISREG(status.st_mode):
                yield path, status
            elif not stat.S_ISDIR(status.st_mode):
                self.problem(path, NO_FILE)
            elif self.skip(f"{path}/"):
                continue
            elif os.path.islink(path):
                target = PurePosixPath(os.path.realpath(path))
                if any(start.is_relative_to(target) for start in chain) or self._comes_to(target):
                    self.problem(f"{path}/", TWICE)
                else:
                    self.starts.add(target)
                    yield from self.below(path, target, (*chain, target))
            elif real / name in self.starts:
                self.problem(f"{path}/", TWICE)
            else:
                yield from self.below(path, real / name, chain)

    def _comes_to(self, target: PurePosixPath) -> bool:
        """Whether the walk reads a folder without another link, as it does where nothing is hidden."""
        return any(
            start in self.starts and not any(part.startswith(".") for part in target.relative_to(start).parts)
            for start in (target, *target.parents)
        )


def _with_status(folder: str, names: Iterator[str], problem: Problem) -> Iterator[tuple[str, os.stat_result]]:
    """Each name in a folder with the status of what it leads to, unless that went after it was listed."""
    for name in names:
        path = os.path.join(folder, name)
        try:
            with storage_errors(f"cannot list {folder}", passing=(FileNotFoundError,)):
                status = _status(path)
        except FileNotFoundError:
            continue
        if status is None:
            problem(path, NOWHERE)
        else:
            yield name, status


def _status(path: str) -> os.stat_result | None:
    """Of what a name leads to; None of a link that leads nowhere."""
    try:
        return os.stat(path)
    except OSError:
        if os.path.islink(path):
            return None
        raise


def _names(folder: str, must_exist: bool) -> Iterator[str]:
    """The names in a folder, in order. Many names are sorted in runs on disk, then merged."""
    names: list[str] = []
    runs: list[tuple[int, int]] = []
    with tempfile.SpooledTemporaryFile(1) as spill:  # on disk only once written to
        with storage_errors(f"cannot list {folder}"):
            try:
                entries = os.scandir(folder)
            except FileNotFoundError:
                if must_exist:
                    raise
                return  # it went after it was listed
            with entries:
                for entry in entries:
                    names.append(entry.name)
                    if len(names) == RUN:
                        runs.append(_spilled(spill, names))
                        names.clear()
        yield from heapq.merge(*(_read_back(spill, *run) for run in runs), sorted(names))


def _spilled(spill: IO[bytes], names: list[str]) -> tuple[int, int]:
    """Where a file holds these names in order: start and end, in bytes."""
    start = spill.tell()
    names.sort()
    for first in range(0, len(names), _BLOCK):
        spill.write(json.dumps(names[first : first + _BLOCK]).encode() + b"\n")
    return start, spill.tell()


def _read_back(spill: IO[bytes], start: int, end: int) -> Iterator[str]:
    while start < end:
        spill.seek(start)
        block = json.loads(spill.readline())
        start = spill.tell()
        yield from block
