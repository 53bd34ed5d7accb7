"""Read, write, create, remove and list files on any store."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from raysvq.errors import SettingsError, StorageError
from raysvq.storage.clients import filesystem, store_of
from raysvq.storage.errors import TransientError, reason, storage_errors
from raysvq.storage.objects import Kind, ObjectInfo, Problem, Skip, join

_PIECE = 8 * 2**20  # bytes
ASKED_AT_ONCE = 16  # concurrent requests to an object store


def refuse(uri: str, why: str) -> None:
    """Make an error of a problem.

    Raises:
        StorageError: always.
    """
    raise StorageError(f"{uri}: {why}")


def all_folders(folder: str) -> bool:
    """Skip none."""
    return False


def read_bytes(uri: str, within_s: float | None = None) -> bytes:
    """The whole content of a file.

    Args:
        within_s: on S3, one attempt that ends after so many seconds; for a request that is useless later.

    Raises:
        SettingsError: the store cannot be opened as the settings or the environment say.
        FileNotFoundError, PermissionError: there is none, or it may not be read.
        OSError: it cannot be had: StorageError where the store gives no client or no answer.
    """
    with _read_errors(uri):
        store, path = store_of(uri, within_s)
        return store.read(path)


def fetch_file(uri: str, path: Path) -> str:
    """Copy a file to local disk, a few MiB in memory at a time; returns its SHA-256.

    Raises:
        OSError: as Arrow's client has it: what calls this is to be patient.
    """
    fs, source_path = filesystem(uri)
    digest = hashlib.sha256()
    with fs.open_input_stream(source_path) as source, path.open("wb") as target:
        while piece := source.read(_PIECE):
            digest.update(piece)
            target.write(piece)
    return digest.hexdigest()


def read_version(uri: str, size_bytes: int, etag: str | None, mtime: datetime | None) -> bytes:
    """The whole content of a file as it was indexed, see `raysvq.storage.objects.difference`.

    On a bucket the version comes with the content. A local file is checked before and after reading, a file
    of another store after it.

    Raises:
        ChangedError: it is another version now, or was written to while it was read.
        OSError: as `read_bytes`.
    """
    with _read_errors(uri):
        store, path = store_of(uri)
        return store.read(path, ObjectInfo(uri, size_bytes, etag, mtime))


def write_bytes(uri: str, content: bytes, within_s: float | None = None) -> None:
    """Write a file so that readers see all of it or nothing.

    Args:
        within_s: on S3, one attempt that ends after so many seconds; for a request that is useless later.

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
        content: unlike that of any other process: after a lost answer it identifies the creator.

    Returns:
        Whether this call created it.

    Raises:
        StorageError: the place may not be written.
    """
    with storage_errors(f"cannot write {uri}"):
        store, path = store_of(uri)
        return store.create(path, content)


def remove_file(uri: str) -> None:
    """Remove a file; one that is gone already is no error.

    Raises:
        StorageError: it may not be removed.
    """
    with suppress(FileNotFoundError), storage_errors(f"cannot remove {uri}", passing=(FileNotFoundError,)):
        store, path = store_of(uri)
        store.remove(path)


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


def file_infos(uris: list[str]) -> list[ObjectInfo | None]:
    """Size, ETag and time of each file, as a listing gives them; None where there is no such file.

    Raises:
        StorageError: the store cannot be asked.
    """
    once = list(dict.fromkeys(uris))
    shares = [once[start::ASKED_AT_ONCE] for start in range(ASKED_AT_ONCE)]
    infos: dict[str, ObjectInfo | None] = {}
    with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:  # a task for each file would cost more than asking a disk
        answers = pool.map(lambda share: [_file_info(uri) for uri in share], shares)
        for share, found in zip(shares, answers, strict=True):
            infos |= zip(share, found, strict=True)
    return [infos[uri] for uri in uris]


def list_objects(
    prefix: str, must_exist: bool = True, problems: Problem = refuse, skip: Skip = all_folders
) -> Iterator[ObjectInfo]:
    """Every file at or below a prefix.

    Buckets are listed in the order of their keys, one page in memory. Other files are sorted within each
    folder.

    Args:
        must_exist: if False, a prefix that does not exist is empty, as on S3 after its last file went.
        problems: called with each name by which no file can be read, and why. By default the first one
            ends the listing.
        skip: whether a folder need not be listed. Stores may ignore it, and list files below it.

    Raises:
        StorageError: the prefix or bucket does not exist or may not be listed.
    """
    kind = _kind(prefix) if must_exist else _kind_or_none(prefix)
    if kind == "file":
        yield from filter(None, [_file_info(prefix)])
    elif kind == "folder":
        with storage_errors(f"cannot list {prefix}"):
            store, path = store_of(prefix)
            yield from store.walk(path, problems, skip)


def list_folder(folder: str, start: str = "", problems: Problem = refuse) -> Iterator[ObjectInfo | str]:
    """What is directly in a folder or prefix: its files, and URIs of its folders with a final slash.

    Sorted by name; on S3 and on disk in flat memory. A folder that does not exist is empty, as on S3.

    Args:
        start: how names begin. On S3 others cost nothing.
        problems: as in `list_objects`.

    Raises:
        StorageError: the bucket does not exist, or the folder may not be listed.
    """
    with storage_errors(f"cannot list {folder}"):
        store, path = store_of(folder)
        yield from store.folder(path, start, problems)


def is_folder(uri: str) -> bool:
    """Whether a URI names a folder or prefix rather than a file.

    Raises:
        StorageError: nothing is there, or the place may not be read.
    """
    return _kind(uri) == "folder"


def exists(uri: str) -> bool:
    """Whether a file or folder is there.

    Raises:
        StorageError: the place may not be read.
    """
    return _kind_or_none(uri) is not None


@contextmanager
def _read_errors(uri: str) -> Iterator[None]:
    """Pass OSErrors, make a StorageError of a transient error, and an OSError of any other."""
    try:
        yield
    except TransientError as error:
        raise StorageError(f"cannot read {uri}: {error}") from None
    except (OSError, SettingsError):
        raise
    except Exception as error:  # noqa: BLE001
        raise OSError(reason(error)) from None


def _write(uri: str, content: bytes | Path, within_s: float | None = None) -> None:
    with storage_errors(f"cannot write {uri}"):
        store, path = store_of(uri, within_s)
        store.write(path, content)


def _kind(uri: str) -> Kind:
    kind = _kind_or_none(uri)
    if kind is None:
        raise StorageError(f"cannot read {uri}: no such file, folder or bucket")
    return kind


def _kind_or_none(uri: str) -> Kind | None:
    with storage_errors(f"cannot read {uri}"):
        store, path = store_of(uri)
        return store.kind(path)


def _file_info(uri: str) -> ObjectInfo | None:
    with storage_errors(f"cannot read {uri}"):
        store, path = store_of(uri)
        return store.info(path)
