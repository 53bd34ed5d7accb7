"""Whole files: read, written, created, removed."""

from __future__ import annotations

import uuid
from contextlib import suppress
from pathlib import Path

import pyarrow.fs as pafs

from raysvq.errors import StorageError
from raysvq.storage import local
from raysvq.storage.clients import bucket, filesystem, fsspec_filesystem, has_bucket
from raysvq.storage.failures import reason, storage_errors
from raysvq.storage.names import join, split
from raysvq.storage.retry import TransientError


def read_bytes(uri: str) -> bytes:
    """The whole content of a file.

    Raises:
        FileNotFoundError, PermissionError: there is none, or it may not be read.
        OSError: it cannot be had: StorageError where the store gives no client or no answer.
    """
    scheme, path = split(uri)
    try:
        if scheme == "file":
            return Path(path).read_bytes()
        if has_bucket(scheme):
            found, key = bucket(path)
            return found.read(key)
        content: bytes = fsspec_filesystem(scheme).cat_file(path)
    except TransientError as error:
        raise StorageError(f"cannot read {uri}: {error}") from None
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001
        raise OSError(reason(error)) from None
    return content


def write_bytes(uri: str, content: bytes) -> None:
    """Write a file so that readers see all of it or nothing.

    Raises:
        StorageError: the place may not be written.
    """
    _write(uri, content)


def put_file(source: Path, uri: str) -> None:
    """Copy a local file, of any size, to a URI; readers see all of it or nothing.

    Raises:
        StorageError: the place may not be written.
    """
    _write(uri, source)


def create_file(uri: str, content: bytes) -> bool:
    """Create a file that must not exist yet; of several processes one succeeds.

    Args:
        content: no other process's: after a lost answer it tells whose file is there.

    Returns:
        Whether this call created it.

    Raises:
        StorageError: the place may not be written.
    """
    scheme, path = split(uri)
    with storage_errors(f"cannot write {uri}"):
        if scheme == "file":
            return local.create(Path(path), content)
        if has_bucket(scheme):
            found, key = bucket(path)
            return found.create(key, content)
        fs = fsspec_filesystem(scheme)
        try:
            fs.pipe_file(path, content, mode="create")
        except OSError:
            if fs.exists(path):  # not every client raises FileExistsError
                return False
            raise
    return True


def remove_file(uri: str) -> None:
    """Remove a file; one that is gone already is no error.

    Raises:
        StorageError: it may not be removed.
    """
    scheme, path = split(uri)
    with (
        suppress(FileNotFoundError),
        storage_errors(f"cannot remove {uri}", passing=FileNotFoundError),
    ):
        if has_bucket(scheme):
            found, key = bucket(path)
            found.remove(key)
        else:
            filesystem(uri)[0].delete_file(path)


def remove_folder(uri: str) -> None:
    """Remove a folder and what is in it.

    Raises:
        StorageError: it does not exist or may not be removed.
    """
    with storage_errors(f"cannot remove {uri}"):
        fs, path = filesystem(uri)
        fs.delete_dir(path)


def require_writable(folder: str) -> None:
    """Write and remove a probe file, so that a run without permission ends before it begins.

    Raises:
        StorageError: the folder may not be written.
    """
    probe = join(folder, f".probe-{uuid.uuid4().hex}")
    write_bytes(probe, b"")
    remove_file(probe)


def _write(uri: str, content: bytes | Path) -> None:
    scheme, path = split(uri)
    with storage_errors(f"cannot write {uri}"):
        if scheme == "file":
            local.write(Path(path), content)
        elif has_bucket(scheme):
            found, key = bucket(path)
            found.write(key, content)
        elif isinstance(content, Path):
            pafs.copy_files(str(content), path, pafs.LocalFileSystem(), filesystem(uri)[0])
        else:
            fsspec_filesystem(scheme).pipe_file(path, content)
