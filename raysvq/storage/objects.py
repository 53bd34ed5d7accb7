"""Names and versions of stored files. A version is size, ETag and time of change."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, Protocol

from raysvq.errors import StorageError

ROUNDING = timedelta(microseconds=1)  # between a time in whole microseconds and the same one read as a float

# Keys that obstore does not take as they are: from `/a` it would make `a`, another object.
_ODD = re.compile(r"(^|/)\.{0,2}(/|$)|[\x00-\x1f\x7f]")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ChangedError(StorageError):
    """A file is no longer the one that was indexed."""


@dataclass(frozen=True)
class ObjectInfo:
    """A stored file, as a listing shows it."""

    uri: str
    size_bytes: int
    etag: str | None
    mtime: datetime | None


Kind = Literal["file", "folder"]
Problem = Callable[[str, str], None]  # takes a URI, and why no file can be read by it
Skip = Callable[[str], bool]  # takes a folder's URI with a trailing slash; True if it need not be listed


class Store(Protocol):
    """Operations of each kind of store on a path in it. Callers add the file to its errors."""

    def read(self, path: str, indexed: ObjectInfo | None = None) -> bytes:
        """The whole content; ChangedError where it is not the version that was indexed."""

    def write(self, path: str, content: bytes | Path) -> None:
        """Write a file that readers see all of, or nothing."""

    def create(self, path: str, content: bytes) -> bool:
        """Whether this call created the file, which must not exist yet."""

    def remove(self, path: str) -> None:
        """Remove a file."""

    def info(self, path: str) -> ObjectInfo | None:
        """Size, time and ETag of a file, None where there is none or can be none."""

    def kind(self, path: str) -> Kind | None:
        """What is there."""

    def walk(self, path: str, problem: Problem, skip: Skip) -> Iterator[ObjectInfo]:
        """Every file below a folder."""

    def folder(self, path: str, start: str, problem: Problem) -> Iterator[ObjectInfo | str]:
        """What is directly in a folder, under names with this start: files, and URIs of folders with `/`."""


def canonical(uri: str | Path) -> str:
    """The one spelling of a URI: absolute path for local files, `scheme://…` otherwise.

    `.` and `..` are resolved as in a path; `//` stays, as it names another object.

    Raises:
        StorageError: `..` leads out of the bucket.
    """
    text = str(uri)
    scheme, path = split(text)
    if scheme != "file":
        return f"{scheme}://{_without_dots(path.rstrip('/'), text)}"
    return os.path.abspath(os.path.expanduser(path))


def _without_dots(path: str, uri: str) -> str:
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            if len(kept) < 2:  # the first is the bucket
                raise StorageError(f"{uri}: `..` leads out of the bucket")
            kept.pop()
        elif segment != ".":
            kept.append(segment)
    return "/".join(kept)


def join(base: str, *parts: str) -> str:
    """Append path parts to a URI."""
    return "/".join([base.rstrip("/"), *parts])


def image_id(uri: str) -> str:
    """128-bit hash of a canonical URI, 32 hexadecimal digits."""
    return hashlib.blake2b(uri.encode(), digest_size=16).hexdigest()


def is_odd(key: str) -> bool:
    """Whether obstore would change or refuse a key."""
    return bool(key) and _ODD.search(key) is not None


def split(uri: str) -> tuple[str, str]:
    """Scheme and path; without a scheme, `file`."""
    scheme, separator, path = uri.partition("://")
    if not separator:
        return "file", uri
    return scheme.lower(), path


def plain_etag(etag: str | None) -> str | None:
    """An ETag without quotes and weakness mark, which only some answers have."""
    return (etag or "").strip().removeprefix("W/").strip('"') or None


def from_nanoseconds(mtime_ns: int) -> datetime:
    """Convert a file's time to whole microseconds; by way of a float it could be one off."""
    return _EPOCH + timedelta(microseconds=mtime_ns // 1000)


def difference(indexed: ObjectInfo, found: ObjectInfo) -> str | None:
    """How two versions of a file differ; None if they do not.

    Sizes are compared, then ETags. Times count only where an ETag is missing: a store gives the time of one
    object with different precision in different answers.
    """
    if indexed.size_bytes != found.size_bytes:
        return f"{found.size_bytes} bytes, {indexed.size_bytes} when indexed"
    if indexed.etag and found.etag:
        if plain_etag(indexed.etag) == plain_etag(found.etag):
            return None
        return f"ETag {plain_etag(found.etag)}, {plain_etag(indexed.etag)} when indexed"
    if indexed.mtime and found.mtime and abs(indexed.mtime - found.mtime) > ROUNDING:
        return f"changed {found.mtime.isoformat()}, {indexed.mtime.isoformat()} when indexed"
    return None


def whole_seconds(info: ObjectInfo) -> ObjectInfo:
    """With the time as HTTP headers give it."""
    return replace(info, mtime=info.mtime and info.mtime.replace(microsecond=0))
