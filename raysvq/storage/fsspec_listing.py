"""What other stores than S3 hold, through their fsspec clients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from raysvq.errors import StorageError
from raysvq.storage.clients import fsspec_filesystem
from raysvq.storage.names import split
from raysvq.storage.versions import ObjectInfo, plain_etag
from raysvq.storage.walk import Problem, Skip

_ETAGS = ("ETag", "etag")  # S3; Google and Azure
_TIMES = ("LastModified", "last_modified", "mtime", "updated", "modified", "created")


def fsspec_info(scheme: str, entry: dict[str, Any]) -> ObjectInfo:
    """What a client says of a file."""
    etag = next((entry[name] for name in _ETAGS if entry.get(name)), None)
    modified = next((entry[name] for name in _TIMES if entry.get(name)), None)
    name = entry["name"] if "://" in entry["name"] else f"{scheme}://{entry['name']}"
    return ObjectInfo(name, int(entry["size"] or 0), plain_etag(etag), _time(modified))


def fsspec_walk(scheme: str, path: str, problem: Problem, skip: Skip) -> Iterator[ObjectInfo]:
    """Every file below a folder, sorted within each folder."""
    entries = fsspec_filesystem(scheme).ls(path, detail=True)
    for entry in sorted(entries, key=lambda entry: str(entry["name"])):
        if entry["type"] != "directory":
            if not entry["name"].endswith("/"):  # a folder marker of an object store
                yield fsspec_info(scheme, entry)
        elif entry["name"].rstrip("/") == path.rstrip("/"):
            problem(f"{scheme}://{path}//", "it is a folder without a name")
        elif not skip(f"{scheme}://{entry['name'].rstrip('/')}/"):
            yield from fsspec_walk(scheme, entry["name"], problem, skip)


def fsspec_file(uri: str) -> ObjectInfo | None:
    """What a client says of one file, None where there is none."""
    scheme, path = split(uri)
    try:
        entry = fsspec_filesystem(scheme).info(path)
    except StorageError:  # no client
        raise
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return None if entry["type"] == "directory" else replace(fsspec_info(scheme, entry), uri=uri)


def _time(modified: Any) -> datetime | None:
    """As clients give it: a moment, seconds of 1970, ISO 8601."""
    if isinstance(modified, int | float):
        return datetime.fromtimestamp(modified, UTC)
    if isinstance(modified, str):
        try:
            modified = datetime.fromisoformat(modified)
        except ValueError:
            return None
    return modified if isinstance(modified, datetime) else None
