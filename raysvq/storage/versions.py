"""Which version of a file it is: size, ETag, time of change; and whether it is still that one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from raysvq.errors import StorageError

ROUNDING = timedelta(microseconds=1)  # between a time in whole microseconds and the same one read as a float

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


def plain_etag(etag: str | None) -> str | None:
    """An ETag without the quotes and the mark of weakness that some answers have and others have not."""
    return (etag or "").strip().removeprefix("W/").strip('"') or None


def from_nanoseconds(mtime_ns: int) -> datetime:
    """A file's time in whole microseconds: as a float it would be one off now and then."""
    return _EPOCH + timedelta(microseconds=mtime_ns // 1000)


def difference(indexed: ObjectInfo, found: ObjectInfo) -> str | None:
    """What tells two versions of a file apart; None where nothing does.

    Sizes do, then ETags, and only without one of those the times: the times that one store gives for
    one object differ in their digits from answer to answer.
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
