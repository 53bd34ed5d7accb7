"""Whole files: read, written, created, removed."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pyarrow.fs as pafs

from raysvq.errors import SettingsError, StorageError
from raysvq.storage import local
from raysvq.storage.clients import bucket, filesystem, fsspec_filesystem, has_bucket
from raysvq.storage.failures import reason, storage_errors
from raysvq.storage.fsspec_listing import fsspec_info
from raysvq.storage.names import join, split
from raysvq.storage.retry import TransientError
from raysvq.storage.versions import ChangedError, ObjectInfo, difference


def read_bytes(uri: str, within_s: float | None = None) -> bytes:
    """The whole content of a file.

    Args:
        within_s: on S3, one attempt that ends after so many seconds; for what is of no use later.

    Raises:
        SettingsError: the store cannot be opened as the settings or the environment say.
        FileNotFoundError, PermissionError: there is none, or it may not be read.
        OSError: it cannot be had: StorageError where the store gives no client or no answer.
    """
    scheme, path = split(uri)
    with _read_errors(uri):
        if scheme == "file":
            return Path(path).read_bytes()
        if has_bucket(scheme):
            found, key = bucket(path, within_s)
            return found.read(key)
        content: bytes = fsspec_filesystem(scheme).cat_file(path)
        return content


def read_version(uri: str, size_bytes: int, etag: str | None, mtime: datetime | None) -> bytes:
    """The whole content of a file as it was indexed, see `raysvq.storage.versions.difference`.

    On S3 the answer that brings the content says its version; a local file's is looked at before and
    after reading, that of other stores after it.

    Raises:
        ChangedError: it is another version now, or was written to while it was read.
        OSError: as `read_bytes`.
    """
    indexed = ObjectInfo(uri, size_bytes, etag, mtime)
    scheme, path = split(uri)
    with _read_errors(uri):
        if scheme == "file":
            return local.read(Path(path), indexed)
        if has_bucket(scheme):
            found, key = bucket(path)
            return found.read(key, indexed)
        fs = fsspec_filesystem(scheme)
        content: bytes = fs.cat_file(path)
        now = replace(fsspec_info(scheme, fs.info(path)), size_bytes=len(content))
        if change := difference(indexed, now):
            raise ChangedError(change)
        return content


def write_bytes(uri: str, content: bytes, within_s: float | None = None) -> None:
    """Write a file so that readers see all of it or nothing.

    Args:
        within_s: on S3, one attempt that ends after so many seconds; for what is of no use later.

    Raises:
        StorageError: the place may not be written.
    """
    _write(uri, content, within_s)


def put_file(source: Path, uri: str) -> None:
    """Copy a local file, of any size, to a URI; readers see all of it or nothing.

    Raises:
        StorageError: the place may not be written.
    """
    _write(uri, source)


def create_file(uri: str, content: bytes) -> bool:
    """Create a file that must not exist yet; of several processes one succeeds.

    On file systems without hard links readers may see the start of it for a moment.

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
        storage_errors(f"cannot remove {uri}", passing=(FileNotFoundError,)),
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


def require_put_if_absent(folder: str) -> None:
    """Check that a store refuses to create a file that exists: commits of two runs stand on it.

    A probe file is created twice and removed.

    Raises:
        StorageError: the folder may not be written, or the second call created the file again.
    """
    probe = join(folder, f".probe-{uuid.uuid4().hex}")
    try:
        created = create_file(probe, b"first"), create_file(probe, b"second")
    finally:
        remove_file(probe)
    if created != (True, False):
        raise StorageError(
            f"{folder}: the store replaces a file that exists where it was to create a new one, so two runs"
            " could both commit. It does not honour put-if-absent (on S3: `If-None-Match: *`); expected a"
            " store that does, such as AWS S3, MinIO, Ceph or a file system"
        )


@contextmanager
def _read_errors(uri: str) -> Iterator[None]:
    """OSErrors as they are, but for what a store did not do in time; anything else becomes one."""
    try:
        yield
    except TransientError as error:
        raise StorageError(f"cannot read {uri}: {error}") from None
    except (OSError, SettingsError):
        raise
    except Exception as error:  # noqa: BLE001
        raise OSError(reason(error)) from None


def _write(uri: str, content: bytes | Path, within_s: float | None = None) -> None:
    scheme, path = split(uri)
    with storage_errors(f"cannot write {uri}"):
        if scheme == "file":
            local.write(Path(path), content)
        elif has_bucket(scheme):
            found, key = bucket(path, within_s)
            found.write(key, content)
        elif isinstance(content, Path):
            pafs.copy_files(str(content), path, pafs.LocalFileSystem(), filesystem(uri)[0])
        else:
            fsspec_filesystem(scheme).pipe_file(path, content)
