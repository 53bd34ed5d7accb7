"""Local folders: links to folders are followed, what cannot be listed is reported."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from raysvq.errors import StorageError
from raysvq.storage.failures import storage_errors

Problem = Callable[[str, str], None]  # takes a URI, and why no file is read by it
Skip = Callable[[str], bool]  # takes a folder's URI with a slash behind it: need its files not be listed?

NOWHERE = "links that lead nowhere"
TWICE = "links to folders that are read without them"
NO_FILE = "neither files nor folders"


def refuse(uri: str, why: str) -> None:
    """Make an error of a problem.

    Raises:
        StorageError: always.
    """
    raise StorageError(f"{uri}: {why}")


def all_folders(folder: str) -> bool:
    """Skip none."""
    return False


def local_files(
    folder: str, problem: Problem = refuse, skip: Skip = all_folders
) -> Iterator[tuple[str, os.stat_result]]:
    """Path and status of every file at or below a folder, sorted within each folder.

    Links are followed, but no folder is read twice: one that leads above itself, or to what is listed
    without it, is a problem.

    Raises:
        StorageError: a folder may not be read.
    """
    real = PurePosixPath(os.path.realpath(folder))
    return _Walk(problem, skip, {real}).below(folder, real, (real,))


@dataclass(frozen=True)
class _Walk:
    problem: Problem
    skip: Skip
    starts: set[PurePosixPath]  # real folders that the walk has set out from

    def below(
        self, folder: str, real: PurePosixPath, chain: tuple[PurePosixPath, ...]
    ) -> Iterator[tuple[str, os.stat_result]]:
        """The files below a folder. `chain` has the real folders on the way to it that a link led to."""
        found, broken = _entries(folder, must_exist=real == chain[0])
        for name in broken:
            self.problem(os.path.join(folder, name), NOWHERE)
        for name, status in found.items():
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


def _entries(folder: str, must_exist: bool) -> tuple[dict[str, os.stat_result], list[str]]:
    """Name -> status of what it leads to, in order; and the names that lead nowhere."""
    found, broken = {}, []
    with storage_errors(f"cannot list {folder}"):
        try:
            entries = os.scandir(folder)
        except FileNotFoundError:
            if must_exist:
                raise
            return {}, []  # it went after it was listed
        with entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                try:
                    found[entry.name] = entry.stat()
                except OSError:
                    if entry.is_symlink():
                        broken.append(entry.name)
                    elif os.path.lexists(entry.path):  # it did not merely go in between
                        raise
    return found, broken
