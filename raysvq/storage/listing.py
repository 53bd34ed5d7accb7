"""What is there: kinds, sizes, times and ETags."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import pyarrow.fs as pafs

from raysvq.errors import StorageError
from raysvq.storage.clients import bucket, filesystem, fsspec_filesystem, has_bucket
from raysvq.storage.failures import storage_errors
from raysvq.storage.names import split
from raysvq.storage.s3 import Bucket
from raysvq.storage.walk import Problem, Skip, all_folders, clock, local_files, refuse

if TYPE_CHECKING:  # does not exist at run time
    from obstore import ObjectMeta

ASKED_AT_ONCE = 16  # requests to an object store


@dataclass(frozen=True)
class ObjectInfo:
    """A stored file, as a listing shows it."""

    uri: str
    size_bytes: int
    etag: str | None
    mtime: datetime | None


def file_infos(uris: list[str]) -> list[ObjectInfo | None]:
    """Size and time of each file, None where there is no such file.

    Raises:
        StorageError: the store cannot be asked.
    """
    infos: dict[str, ObjectInfo | None] = {}
    for scheme in {split(uri)[0] for uri in uris}:
        mine = list(dict.fromkeys(uri for uri in uris if split(uri)[0] == scheme))
        infos |= _s3_infos(mine) if has_bucket(scheme) else _arrow_infos(mine)
    return [infos[uri] for uri in uris]


def list_objects(
    prefix: str, must_exist: bool = True, problems: Problem = refuse, skip: Skip = all_folders
) -> Iterator[ObjectInfo]:
    """Every file at or below a prefix, sorted within each folder, one folder in memory at a time.

    Args:
        must_exist: else a prefix that does not exist is an empty one, as on S3 every folder is whose
            last file went.
        problems: is told of each name that no file is read by, and why; without it the first one ends
            the listing.
        skip: says which folders need not be entered. It may not be asked: files below them may come.

    Raises:
        StorageError: the prefix or bucket does not exist or may not be listed.
    """
    scheme, path = split(prefix)
    kind = _kind(prefix) if must_exist else _kind_or_none(prefix)
    if kind is None:
        return
    if kind == "folder":
        if has_bucket(scheme):
            yield from _walk_s3(*bucket(path), skip)
        elif scheme == "file":
            for name, status in local_files(path, problems, skip):
                yield ObjectInfo(name, status.st_size, None, clock(status.st_mtime_ns))
        else:
            yield from _walk(scheme, path, prefix, skip)
        return
    if has_bucket(scheme) or scheme == "file":
        yield from filter(None, file_infos([prefix]))
    else:
        with storage_errors(f"cannot read {prefix}"):
            yield _fsspec_info(scheme, fsspec_filesystem(scheme).info(path))


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
            found, key = bucket(path)
            if found.info(key):
                return "file"
            return "folder" if found.is_folder(key) else None
        fs, path = filesystem(uri)
        kind = fs.get_file_info(path).type
    if kind == pafs.FileType.NotFound:
        return None
    return "folder" if kind == pafs.FileType.Directory else "file"


def _s3_infos(uris: list[str]) -> dict[str, ObjectInfo | None]:
    with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
        return dict(zip(uris, pool.map(_s3_info, uris), strict=True))


def _s3_info(uri: str) -> ObjectInfo | None:
    found, key = bucket(split(uri)[1])
    with storage_errors(f"cannot read {uri}"):
        meta = found.info(key)
    return _object_info(found, meta) if meta else None


def _object_info(found: Bucket, meta: ObjectMeta) -> ObjectInfo:
    etag = meta["e_tag"]
    uri = f"s3://{found.name}/{meta['path']}"
    return ObjectInfo(uri, meta["size"], etag.strip('"') if etag else None, meta["last_modified"])


def _walk_s3(found: Bucket, key: str, skip: Skip) -> Iterator[ObjectInfo]:
    with storage_errors(f"cannot list s3://{found.name}/{key}"):
        below = found.folder(key)
    files = {
        meta["path"]: meta for meta in below["objects"] if meta["path"] != key
    }  # that is a folder marker
    for path in sorted([*files, *below["common_prefixes"]]):
        if path in files:
            yield _object_info(found, files[path])
        elif not skip(f"s3://{found.name}/{path.rstrip('/')}/"):
            yield from _walk_s3(found, path, skip)


def _arrow_infos(uris: list[str]) -> dict[str, ObjectInfo | None]:
    paths = {split(uri)[1]: uri for uri in uris}
    infos: dict[str, ObjectInfo | None] = dict.fromkeys(uris)
    with storage_errors(f"cannot read {uris[0]}"):
        fs, _ = filesystem(uris[0])
        for info in _arrow_look(fs, list(paths)):
            if info.type == pafs.FileType.File:
                changed = None if info.mtime_ns is None else clock(info.mtime_ns)
                infos[paths[info.path]] = ObjectInfo(paths[info.path], info.size, None, changed)
    return infos


def _arrow_look(fs: pafs.FileSystem, paths: list[str]) -> list[pafs.FileInfo]:
    """What is known of each path; those that no file can have are left out."""
    try:
        found: list[pafs.FileInfo] = fs.get_file_info(paths)
    except ValueError:  # one impossible path fails them all
        half = len(paths) // 2
        return _arrow_look(fs, paths[:half]) + _arrow_look(fs, paths[half:]) if half else []
    return found


def _walk(scheme: str, path: str, prefix: str, skip: Skip) -> Iterator[ObjectInfo]:
    with storage_errors(f"cannot list {prefix}"):
        entries = fsspec_filesystem(scheme).ls(path, detail=True)
    for entry in sorted(entries, key=lambda entry: str(entry["name"])):
        if entry["type"] == "directory":
            if entry["name"].rstrip("/") == path.rstrip("/"):
                raise StorageError(f"cannot list {prefix}: {scheme}://{path}// is a folder without a name")
            if not skip(f"{scheme}://{entry['name'].rstrip('/')}/"):
                yield from _walk(scheme, entry["name"], prefix, skip)
        elif not entry["name"].endswith("/"):  # a folder marker of an object store
            yield _fsspec_info(scheme, entry)


def _fsspec_info(scheme: str, entry: dict[str, Any]) -> ObjectInfo:
    name = entry["name"]
    modified = entry.get("LastModified") or entry.get("mtime")
    if isinstance(modified, int | float):
        modified = datetime.fromtimestamp(modified, UTC)
    etag = entry.get("ETag")
    return ObjectInfo(
        uri=name if scheme == "file" else f"{scheme}://{name}",
        size_bytes=int(entry["size"]),
        etag=etag.strip('"') if etag else None,
        mtime=modified,
    )
