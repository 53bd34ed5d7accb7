"""Local folders: links to folders are followed, what cannot be listed is reported."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath

from raysvq.errors import StorageError
from raysvq.storage.failures import storage_errors

# A folder's URI and the names in it, those of folders with a slash -> the names to leave out, and why.
LeaveOut = Callable[[str, list[str]], Mapping[str, str]]
# What was left out, and why.
Report = Callable[[str, str], None]

NOWHERE = "links that lead nowhere"
TWICE = "links to folders that are read without them"
NO_FILE = "neither files nor folders"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def nothing(folder: str, names: list[str]) -> Mapping[str, str]:
    """Leave nothing out."""
    return {}


def fail(uri: str, why: str) -> None:
    """Report as an error what nobody asked to leave out.

    Raises:
        StorageError: always.
    """
    raise StorageError(f"cannot list {uri}: {why}")


def local_files(
    folder: str, leave_out: LeaveOut = nothing, report: Report = fail
) -> Iterator[tuple[str, os.stat_result]]:
    """Path and status of every file at or below a folder, sorted within each folder.

    Links are followed, but no folder is read twice: one that leads above itself, or to what is listed
    without it, is reported.

    Raises:
        StorageError: a folder may not be read.
    """
    real = PurePosixPath(os.path.realpath(folder))
    return _Walk(leave_out, report, {real: folder}).below(folder, real, (real,))


def clock(nanoseconds: int) -> datetime:
    """A file's time, to the microsecond below: floats, which libraries make of it, round either way."""
    return _EPOCH + timedelta(microseconds=nanoseconds // 1000)


@dataclass(frozen=True)
class _Walk:
    leave_out: LeaveOut
    report: Report
    starts: dict[PurePosixPath, str]  # real folders the walk has set out from -> their path in it

    def below(
        self, folder: str, real: PurePosixPath, chain: tuple[PurePosixPath, ...]
    ) -> Iterator[tuple[str, os.stat_result]]:
        """The files below a folder. `chain` has the real folders on the way to it that a link led to."""
        found, broken = _entries(folder)
        for name in broken:
            self.report(os.path.join(folder, name), NOWHERE)
        left = self.leave_out(folder, list(found))
        for name, status in found.items():
            path = os.path.join(folder, name)
            if name in left:
                self.report(path, left[name])
            elif stat.S_ISREG(status.st_mode):
                yield path, status
            elif not stat.S_ISDIR(status.st_mode):
                self.report(path, NO_FILE)
            elif os.path.islink(path[:-1]):
                target = PurePosixPath(os.path.realpath(path))
                if any(start.is_relative_to(target) for start in chain) or self._comes_to(target):
                    self.report(path, TWICE)
                else:
                    self.starts[target] = path[:-1]
                    yield from self.below(path[:-1], target, (*chain, target))
            elif real / name in self.starts:
                self.report(path, TWICE)
            else:
                yield from self.below(path[:-1], real / name, chain)

    def _comes_to(self, target: PurePosixPath) -> bool:
        """Whether the walk reads a folder without another link to it."""
        return any(
            self._takes(self.starts[start], target.relative_to(start).parts)
            for start in (target, *target.parents)
            if start in self.starts
        )

    def _takes(self, folder: str, parts: tuple[str, ...]) -> bool:
        for part in parts:
            if self.leave_out(folder, [f"{part}/"]):
                return False
            folder = os.path.join(folder, part)
        return True


def _entries(folder: str) -> tuple[dict[str, os.stat_result], list[str]]:
    """Names, those of folders with a slash, -> status of what they lead to; and names that lead nowhere."""
    found, broken = {}, []
    with storage_errors(f"cannot list {folder}"), os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            try:
                status = entry.stat()
            except OSError:
                if entry.is_symlink():
                    broken.append(entry.name)
                elif os.path.lexists(entry.path):  # it did not merely go in between
                    raise
            else:
                found[entry.name + "/" * stat.S_ISDIR(status.st_mode)] = status
    return found, broken
