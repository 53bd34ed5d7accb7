"""Buckets through obstore: S3, Google, Azure. Its own retries are off; see raysvq.storage.retry.

A listing goes on behind the last name that came, a download at the byte where it broke off; an upload whose
answer does not come is made again as a whole.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import obstore
from obstore.exceptions import InvalidPathError

from raysvq.storage.download import Download, Part
from raysvq.storage.errors import bucket_errors
from raysvq.storage.objects import (
    ChangedError,
    Kind,
    ObjectInfo,
    Problem,
    Skip,
    difference,
    is_odd,
    plain_etag,
    whole_seconds,
)
from raysvq.storage.retry import Contact

if TYPE_CHECKING:  # stubs only, absent at run time
    from obstore import GetOptions

LARGE = 16 * 2**20  # bytes; larger objects are sent in parts
CHUNK = 2**20  # bytes read at a time; a broken connection loses less than that
PAGE = 1000  # objects per listing page

Result = TypeVar("Result")


@dataclass(frozen=True)
class Bucket:
    """A bucket; every method asks again while the problem is transient. Paths are keys.

    Raises:
        FileNotFoundError: there is no such object or bucket.
        PermissionError: it may not be done.
        TransientError: no progress for `retry_s` seconds.
        OSError: no object can have this name, or anything else.
    """

    uri: str  # without a slash behind it
    client: Any  # an obstore store
    contact: Contact
    retry_s: float

    def read(self, path: str, indexed: ObjectInfo | None = None) -> bytes:
        """The whole object, in one request unless the connection breaks; then reading resumes there.

        Args:
            indexed: the version that it must be.

        Raises:
            ChangedError: it is not that version.
        """
        require = partial(_require, whole_seconds(indexed)) if indexed else None
        download = Download(f"{self.uri}/{path}", partial(self._open, path), require)
        while not download.complete:
            self.ask(path, download.advance)
        return download.content()

    def write(self, path: str, content: bytes | Path) -> None:
        """Write an object; readers see all of it or nothing."""
        _require_writable(path)
        size = content.stat().st_size if isinstance(content, Path) else len(content)
        if size > LARGE:
            self._write_large(path, content, size)
        else:
            self.ask(path, lambda: obstore.put(self.client, path, content, use_multipart=False))

    def create(self, path: str, content: bytes) -> bool:
        """Whether this call created the object, which must not exist yet.

        An attempt whose answer was lost may have created it, so then the content decides.
        """
        _require_writable(path)
        attempts = 0

        def put() -> None:
            nonlocal attempts
            attempts += 1
            obstore.put(self.client, path, content, mode="create", use_multipart=False)

        try:
            self.ask(path, put)
        except FileExistsError:
            return attempts > 1 and self.read(path) == content
        return True

    def remove(self, path: str) -> None:
        """Remove an object; one that is gone already is no error."""
        _require_writable(path)
        self.ask(path, lambda: obstore.delete(self.client, path))

    def info(self, path: str) -> ObjectInfo | None:
        """Size, time and ETag of an object, None where there is none or can be none."""
        try:
            return self.ask(path, lambda: self._head(path)) if path else None
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINVAL):
                return None
            raise

    def kind(self, path: str) -> Kind | None:
        """An empty object with others below it is a folder: some tools make one for each."""
        info = self.info(path)
        if info and info.size_bytes:
            return "file"
        if self.is_folder(path):
            return "folder"
        return "file" if info else None

    def is_folder(self, path: str) -> bool:
        """Whether anything is below a key."""
        try:
            return self.ask(path, lambda: self._has_any(path)) or not path
        except FileNotFoundError:
            return False

    def walk(self, path: str, problem: Problem, skip: Skip) -> Iterator[ObjectInfo]:
        """What is below a key, in the order of the keys and a page in memory; `skip` is not asked."""
        for page in self.pages(path):
            for info in page:
                if not info.uri.endswith("/"):  # obstore gives no such names
                    yield info
                elif info.size_bytes:  # else a folder marker
                    problem(info.uri, f"its name ends with `/`, but it holds {info.size_bytes} bytes")

    def folder(self, path: str, start: str, problem: Problem) -> Iterator[ObjectInfo | str]:
        """What is directly below a key, in the order of keys; an object with a folder's name is a problem."""
        for page in self.levels(path, start):
            for each in page:
                if isinstance(each, str) or not each.uri.endswith("/"):
                    yield each
                elif each.size_bytes:
                    problem(each.uri, f"its name ends with `/`, but it holds {each.size_bytes} bytes")

    def levels(self, path: str, start: str) -> Iterator[list[ObjectInfo | str]]:
        """Objects and folders directly below a key. obstore asks for the whole level, whatever the start."""
        found: Any = self.ask(path, lambda: obstore.list_with_delimiter(self.client, path or None))
        level: list[ObjectInfo | str] = [self._of(meta) for meta in found["objects"] if meta["path"] != path]
        level += [f"{self.uri}/{name}/" for name in found["common_prefixes"]]
        begins = f"{self.uri}/{path}/{start}" if path else f"{self.uri}/{start}"
        yield sorted((each for each in level if _uri(each).startswith(begins)), key=_uri)

    def pages(self, path: str) -> Iterator[list[ObjectInfo]]:
        """What is below a key, at any depth and in the store's order."""
        last: str | None = None
        coming: Any = None

        def page() -> Any:
            nonlocal coming
            coming = coming or iter(obstore.list(self.client, path or None, offset=last, chunk_size=PAGE))
            try:
                return next(coming, None)
            except BaseException:
                coming = None
                raise

        while found := self.ask(path, page):
            yield [self._of(meta) for meta in found if meta["path"] != path]
            last = found[-1]["path"]

    def ask(self, path: str, call: Callable[[], Result]) -> Result:
        """The result of one request, retried while it fails transiently."""
        uri = f"{self.uri}/{path}"

        def once() -> Result:
            with bucket_errors(uri):
                return call()

        return self.contact.persist(uri, once, self.retry_s)

    def _open(self, path: str, start: int, etag: str | None) -> Part:
        """An object from a byte on; beyond the first only if it still has this ETag."""
        options: GetOptions = {"range": {"offset": start}} if start else {}
        if etag:
            options["if_match"] = etag
        found = obstore.get(self.client, path, options=options)
        meta = found.meta
        info = ObjectInfo(path, meta["size"], meta["e_tag"], meta["last_modified"])
        small = info.size_bytes - start <= CHUNK  # one call is cheaper than a stream of one chunk
        return info, (found.bytes().to_bytes(),) if small else found.stream(min_chunk_size=CHUNK)

    def _write_large(self, path: str, content: bytes | Path, size: int) -> None:
        self.ask(path, lambda: obstore.put(self.client, path, content))

    def _head(self, path: str) -> ObjectInfo:
        return self._of(obstore.head(self.client, path))

    def _has_any(self, path: str) -> bool:
        try:
            return bool(next(iter(obstore.list(self.client, path, chunk_size=1)), None))
        except InvalidPathError:  # of an object that was listed
            return True

    def _of(self, meta: Any) -> ObjectInfo:
        uri, etag = f"{self.uri}/{meta['path']}", plain_etag(meta["e_tag"])
        return ObjectInfo(uri, meta["size"], etag, meta["last_modified"])


def _uri(each: ObjectInfo | str) -> str:
    return each if isinstance(each, str) else each.uri


def _require_writable(path: str) -> None:
    if is_odd(path):
        why = "empty path segment, `.`, `..` or control character in the name; choose another"
        raise OSError(errno.EINVAL, why)


def _require(indexed: ObjectInfo, found: ObjectInfo) -> None:
    if change := difference(indexed, whole_seconds(found)):
        raise ChangedError(change)
