"""Every other store, through its fsspec client."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from raysvq.storage.objects import ChangedError, Kind, ObjectInfo, Problem, Skip, difference, plain_etag

_ETAGS = ("ETag", "etag")
_TIMES = ("LastModified", "last_modified", "mtime", "updated", "modified", "created")


@dataclass(frozen=True)
class FsspecStore:
    """A store behind an fsspec client, which retries by its own rules and lists a whole folder at once."""

    scheme: str
    client: Any

    def read(self, path: str, indexed: ObjectInfo | None = None) -> bytes:
        """The whole content; its version is looked at after it was read."""
        content: bytes = self.client.cat_file(path)
        if indexed:
            now = replace(self._of(self.client.info(path)), size_bytes=len(content))
            if change := difference(indexed, now):
                raise ChangedError(change)
        return content

    def write(self, path: str, content: bytes | Path) -> None:
        """Write a file, as atomically as the client can."""
        if isinstance(content, Path):
            self.client.put_file(str(content), path)
        else:
            self.client.pipe_file(path, content)

    def create(self, path: str, content: bytes) -> bool:
        """Whether this call created the file."""
        try:
            self.client.pipe_file(path, content, mode="create")
        except OSError:
            if self.client.exists(path):  # not every client raises FileExistsError
                return False
            raise
        return True

    def remove(self, path: str) -> None:
        """Remove a file."""
        self.client.rm_file(path)

    def info(self, path: str) -> ObjectInfo | None:
        """Size, time and ETag of one file."""
        entry = self._entry(path)
        found = entry and entry["type"] != "directory"
        return replace(self._of(entry), uri=f"{self.scheme}://{path}") if entry and found else None

    def kind(self, path: str) -> Kind | None:
        """What is there."""
        entry = self._entry(path)
        return entry and ("folder" if entry["type"] == "directory" else "file")

    def walk(self, path: str, problem: Problem, skip: Skip) -> Iterator[ObjectInfo]:
        """Every file below a folder, sorted within each folder."""
        entries = self.client.ls(path, detail=True)
        for entry in sorted(entries, key=lambda entry: str(entry["name"])):
            if entry["type"] != "directory":
                if not entry["name"].endswith("/"):  # a folder marker of an object store
                    yield self._of(entry)
            elif entry["name"].rstrip("/") == path.rstrip("/"):
                problem(f"{self.scheme}://{path}//", "it is a folder without a name")
            elif not skip(f"{self.scheme}://{entry['name'].rstrip('/')}/"):
                yield from self.walk(entry["name"], problem, skip)

    def folder(self, path: str, start: str, problem: Problem) -> Iterator[ObjectInfo | str]:
        """What is directly in a folder, sorted; it is listed whole, whatever the start of the names."""
        try:
            entries = self.client.ls(path, detail=True)
        except FileNotFoundError:
            return
        for entry in sorted(entries, key=lambda entry: str(entry["name"])):
            name = entry["name"].rstrip("/")
            if name == path.rstrip("/") or not name.rpartition("/")[2].startswith(start):
                continue
            yield f"{self.scheme}://{name}/" if entry["type"] == "directory" else self._of(entry)

    def _entry(self, path: str) -> Any:
        try:
            return self.client.info(path)
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None

    def _of(self, entry: dict[str, Any]) -> ObjectInfo:
        etag = next((entry[name] for name in _ETAGS if entry.get(name)), None)
        modified = next((entry[name] for name in _TIMES if entry.get(name)), None)
        name = entry["name"] if "://" in entry["name"] else f"{self.scheme}://{entry['name']}"
        return ObjectInfo(name, int(entry["size"] or 0), plain_etag(etag), _time(modified))


def _time(modified: Any) -> datetime | None:
    """Parse a time of a client: a datetime, seconds since 1970, or ISO 8601."""
    if isinstance(modified, int | float):
        return datetime.fromtimestamp(modified, UTC)
    if isinstance(modified, str):
        try:
            modified = datetime.fromisoformat(modified)
        except ValueError:
            return None
    return modified if isinstance(modified, datetime) else None
