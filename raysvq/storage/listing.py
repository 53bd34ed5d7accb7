"""What is there: kinds, sizes, times and ETags."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import pyarrow.fs as pafs

from raysvq.errors import StorageError
from raysvq.storage import local
from raysvq.storage.clients import bucket, filesystem, has_bucket
from raysvq.storage.failures import storage_errors
from raysvq.storage.fsspec_listing import fsspec_file, fsspec_walk
from raysvq.storage.names import split
from raysvq.storage.s3 import Bucket
from raysvq.storage.versions import ObjectInfo
from raysvq.storage.walk import Problem, Skip, all_folders, local_files, refuse

ASKED_AT_ONCE = 16  # requests to an object store


def file_infos(uris: list[str]) -> list[ObjectInfo | None]:
    """Size, ETag and time of each file, as a listing gives them; None where there is no such file.

    Raises:
        StorageError: the store cannot be asked.
    """
    once = list(dict.fromkeys(uris))
    shares = [once[start::ASKED_AT_ONCE] for start in range(ASKED_AT_ONCE)]
    infos: dict[str, ObjectInfo | None] = {}
    with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
        for share, found in zip(shares, pool.map(_infos_in_turn, shares), strict=True):
            infos |= zip(share, found, strict=True)
    return [infos[uri] for uri in uris]


def list_objects(
    prefix: str, must_exist: bool = True, problems: Problem = refuse, skip: Skip = all_folders
) -> Iterator[ObjectInfo]:
    """Every file at or below a prefix.

    Local files and those of other stores come sorted within each folder, one folder in memory at a time;
    S3's in the order of their keys, one page in memory at a time.

    Args:
        must_exist: else a prefix that does not exist is an empty one, as on S3 every folder is whose
            last file went.
        problems: is told of each name that no file can be read by, and why; without it the first one
            ends the listing.
        skip: says which folders need not be entered. It may not be asked: files below them may come.

    Raises:
        StorageError: the prefix or bucket does not exist or may not be listed.
    """
    kind = _kind(prefix) if must_exist else _kind_or_none(prefix)
    if kind == "file":
        yield from filter(None, [_file_info(prefix)])
    elif kind == "folder":
        with storage_errors(f"cannot list {prefix}"):
            yield from _walk(prefix, problems, skip)


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


def _kind(uri: str) -> Literal["file", "folder"]:
    kind = _kind_or_none(uri)
    if kind is None:
        raise StorageError(f"cannot read {uri}: no such file, folder or bucket")
    return kind


def _kind_or_none(uri: str) -> Literal["file", "folder"] | None:
    scheme, path = split(uri)
    with storage_errors(f"cannot read {uri}"):
        if has_bucket(scheme):
            return _kind_in_bucket(*bucket(path))
        fs, path = filesystem(uri)
        kind = fs.get_file_info(path).type
    if kind == pafs.FileType.NotFound:
        return None
    return "folder" if kind == pafs.FileType.Directory else "file"


def _kind_in_bucket(found: Bucket, key: str) -> Literal["file", "folder"] | None:
    """An empty object with others below it is a folder: some tools make one for each."""
    info = found.info(key)
    if info and info.size_bytes:
        return "file"
    if found.is_folder(key):
        return "folder"
    return "file" if info else None


def _infos_in_turn(uris: list[str]) -> list[ObjectInfo | None]:
    """A task a file would cost more than asking a disk."""
    return [_file_info(uri) for uri in uris]


def _file_info(uri: str) -> ObjectInfo | None:
    scheme, path = split(uri)
    with storage_errors(f"cannot read {uri}"):
        if scheme == "file":
            return local.info(path)
        if has_bucket(scheme):
            found, key = bucket(path)
            return found.info(key)
        return fsspec_file(uri)


def _walk(prefix: str, problem: Problem, skip: Skip) -> Iterator[ObjectInfo]:
    scheme, path = split(prefix)
    if scheme == "file":
        for name, status in local_files(path, problem, skip):
            yield local.info_of(name, status)
    elif has_bucket(scheme):
        yield from _walk_bucket(*bucket(path), problem)
    else:
        yield from fsspec_walk(scheme, path, problem, skip)


def _walk_bucket(found: Bucket, key: str, problem: Problem) -> Iterator[ObjectInfo]:
    for page in found.pages(key):
        for info in page:
            if not info.uri.endswith("/"):
                yield info
            elif info.size_bytes:  # else a folder marker
                problem(info.uri, f"its name ends with `/`, but it holds {info.size_bytes} bytes")
