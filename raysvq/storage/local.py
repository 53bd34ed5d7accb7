"""Local files: they appear whole when written, and are of one version when read.

Any mounted file system is local: network shares, FUSE and FAT support less than a disk.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_exponential

from raysvq.storage.objects import ChangedError, Kind, ObjectInfo, Problem, Skip, difference, from_nanoseconds
from raysvq.storage.walk import entries, local_files

OPEN_ELSEWHERE_S = 5.0  # retry time for replacing a file that others have open

_NO_LINKS = {  # errors of file systems without hard links: SMB, FUSE, FAT, shares of virtual machines
    *(errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EXDEV),
    *(errno.EINVAL, errno.EMLINK),
}
_NO_FSYNC = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}
_OPEN_ELSEWHERE = {errno.EACCES, errno.EPERM, errno.EBUSY, errno.ETXTBSY}  # SMB


def write(path: str, content: bytes | Path) -> None:
    """Replace `path` atomically by bytes or a copy of a file."""
    with _partial(Path(path)) as partial:
        _fill(partial.open("xb"), content)
        _replace(partial, Path(path))


def create(path: str, content: bytes) -> bool:
    """Whether this call created the file, which must not exist yet.

    It appears whole, except on file systems without hard links, where a reader may see its start alone.
    """
    with _partial(Path(path)) as partial:
        _fill(partial.open("xb"), content)
        try:
            os.link(partial, path)
        except FileExistsError:
            return os.path.samefile(partial, path)  # created by an attempt whose answer NFS lost
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            return _create_in_place(Path(path), content)
    return True


def remove(path: str) -> None:
    """Remove a file."""
    os.unlink(path)


def read(path: str, indexed: ObjectInfo | None = None) -> bytes:
    """The content of a file, as it was indexed.

    Raises:
        ChangedError: it is another one, or was written to while it was read.
        OSError: it is no file, or cannot be read.
    """
    place = Path(path)
    if indexed is None:
        return place.read_bytes()
    if not place.is_dir() and not stat.S_ISREG(place.stat().st_mode):  # opening a pipe would block
        raise OSError(errno.EINVAL, "neither a file nor a folder", path)
    with place.open("rb") as file:
        before = os.fstat(file.fileno())
        if change := difference(indexed, _info(path, before)):
            raise ChangedError(change)
        content = file.read()
        after = os.fstat(file.fileno())
    if (after.st_size, after.st_mtime_ns, len(content)) != (
        before.st_size,
        before.st_mtime_ns,
        before.st_size,
    ):
        raise ChangedError("written to while it was read")
    return content


def info(path: str) -> ObjectInfo | None:
    """Size and time of a file, None where there is no file or can be none."""
    status = _status(path)
    return None if status is None or stat.S_ISDIR(status.st_mode) else _info(path, status)


def kind(path: str) -> Kind | None:
    """What is there."""
    status = _status(path)
    return status and ("folder" if stat.S_ISDIR(status.st_mode) else "file")


def walk(path: str, problem: Problem, skip: Skip) -> Iterator[ObjectInfo]:
    """Every file below a folder, sorted within each folder."""
    for name, status in local_files(path, problem, skip):
        yield _info(name, status)


def folder(path: str, start: str, problem: Problem) -> Iterator[ObjectInfo | str]:
    """What is directly in a folder, sorted."""
    for name, status in entries(path, start, problem):
        yield f"{name}/" if stat.S_ISDIR(status.st_mode) else _info(name, status)


def _status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            return None
        raise


def _info(path: str, status: os.stat_result) -> ObjectInfo:
    """Size and time of a file, from its status."""
    return ObjectInfo(path, status.st_size, None, from_nanoseconds(status.st_mtime_ns))


@contextmanager
def _partial(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`; a file that still has it at the end is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{uuid.uuid4().hex}.partial")  # a suffix could make a long name too long
    try:
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def _fill(file: BinaryIO, content: bytes | Path) -> None:
    """Write and flush to disk through one handle: another one may not flush its data."""
    with file:
        if isinstance(content, Path):
            with content.open("rb") as source:
                shutil.copyfileobj(source, file, 2**20)
        else:
            file.write(content)
        file.flush()
        try:
            os.fsync(file.fileno())
        except OSError as error:
            if error.errno not in _NO_FSYNC:
                raise


def _create_in_place(path: Path, content: bytes) -> bool:
    try:
        file = path.open("xb")
    except FileExistsError:
        return False
    try:
        _fill(file, content)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return True


def _replace(partial: Path, path: Path) -> None:
    """Move a file onto another; retry while a reader on the same share has that one open."""
    Retrying(
        retry=retry_if_exception(lambda error: isinstance(error, OSError) and error.errno in _OPEN_ELSEWHERE),
        wait=wait_exponential(multiplier=0.05, max=1),
        stop=stop_after_delay(OPEN_ELSEWHERE_S),
        reraise=True,
    )(os.replace, partial, path)
