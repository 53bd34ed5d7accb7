"""S3 buckets.

obstore reads, writes and asks for single objects: it costs the least by far. botocore lists, uploads in
parts, and reads the objects whose keys obstore cannot address: obstore ends a listing at the first of
them. The retries of both are off: raysvq.storage.retry has the say, request by request.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import obstore
from obstore.exceptions import InvalidPathError
from obstore.store import S3Store

from raysvq.storage.retry import Contact
from raysvq.storage.s3_download import Download, Part
from raysvq.storage.s3_errors import s3_errors
from raysvq.storage.s3_upload import PART, upload
from raysvq.storage.versions import ChangedError, ObjectInfo, difference, plain_etag, whole_seconds

if TYPE_CHECKING:  # they do not exist at run time
    from obstore import GetOptions

CHUNK = 2**20  # bytes; what is lost of a connection that breaks is less

# No path for obstore; from `/a` it would make `a`, another object.
_ODD = re.compile(r"(^|/)\.{0,2}(/|$)|[\x00-\x1f\x7f]")

Result = TypeVar("Result")


@dataclass(frozen=True)
class Bucket:
    """A bucket; every method asks again while the problem is transient.

    Raises:
        FileNotFoundError: there is no such object or bucket.
        PermissionError: it may not be done.
        TransientError: the store has made no progress with it for `retry_s` seconds.
        OSError: no object can have this name, or anything else.
    """

    name: str
    client: S3Store
    exact: Callable[[], Any]  # botocore's client, made when it is first needed: most processes never do
    contact: Contact
    retry_s: float

    def read(self, key: str, indexed: ObjectInfo | None = None) -> bytes:
        """The whole object, in one request where nothing breaks.

        A connection that breaks is taken up where it broke off.

        Args:
            indexed: the version that it must be.

        Raises:
            ChangedError: it is not that version.
        """
        require = partial(_require, whole_seconds(indexed)) if indexed else None
        download = Download(f"s3://{self.name}/{key}", partial(self._open, key), require)
        while not download.complete:
            self.ask(key, download.advance)
        return download.content()

    def write(self, key: str, content: bytes | Path) -> None:
        """Write an object; readers see all of it or nothing."""
        _require_writable(key)
        size = content.stat().st_size if isinstance(content, Path) else len(content)
        if size > PART:
            upload(self, key, content, size)
        else:
            self.ask(key, lambda: obstore.put(self.client, key, content, use_multipart=False))

    def create(self, key: str, content: bytes) -> bool:
        """Whether this call created the object, which must not exist yet.

        An attempt whose answer was lost may have created it, so then the content decides.
        """
        _require_writable(key)
        attempts = 0

        def put() -> None:
            nonlocal attempts
            attempts += 1
            obstore.put(self.client, key, content, mode="create", use_multipart=False)

        try:
            self.ask(key, put)
        except FileExistsError:
            return attempts > 1 and self.read(key) == content
        return True

    def remove(self, key: str) -> None:
        """Remove an object; one that is gone already is no error."""
        _require_writable(key)
        self.ask(key, lambda: obstore.delete(self.client, key))

    def info(self, key: str) -> ObjectInfo | None:
        """Size, time and ETag of an object, None where there is none or can be none."""
        try:
            return self.ask(key, lambda: self._head(key)) if key else None
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINVAL):
                return None
            raise

    def is_folder(self, key: str) -> bool:
        """Whether anything is below a key."""
        try:
            return self.ask(key, lambda: self._has_any(key)) or not key
        except FileNotFoundError:
            return False

    def pages(self, key: str) -> Iterator[list[ObjectInfo]]:
        """What is below a key, at any depth and in the store's order: S3's is that of the keys."""
        prefix, token = key and f"{key}/", None
        while True:
            page = self.ask(key, partial(self._page, prefix, token))
            yield [_listed(self.name, entry) for entry in page.get("Contents", ())]
            if not page.get("IsTruncated"):
                return
            before, token = token, page.get("NextContinuationToken")
            if token is None or token == before:
                raise OSError(errno.EIO, "the store ends a page of a listing without the way to the next one")

    def ask(self, key: str, call: Callable[[], Result]) -> Result:
        """The result of one request."""
        uri = f"s3://{self.name}/{key}"

        def once() -> Result:
            with s3_errors(uri):
                return call()

        return self.contact.persist(uri, once, self.retry_s)

    def _open(self, key: str, start: int, etag: str | None) -> Part:
        """An object from a byte on; beyond the first only if it still has this ETag."""
        if _is_odd(key):
            more = {"Range": f"bytes={start}-"} | ({"IfMatch": etag} if etag else {}) if start else {}
            answer = self.exact().get_object(Bucket=self.name, Key=key, **more)
            size = int(answer.get("ContentRange", f"/{answer['ContentLength']}").rpartition("/")[2])
            info = ObjectInfo(key, size, answer.get("ETag"), answer.get("LastModified"))
            return info, answer["Body"].iter_chunks(CHUNK)
        options: GetOptions = {"range": {"offset": start}} if start else {}
        if etag:
            options["if_match"] = etag
        found = obstore.get(self.client, key, options=options)
        meta = found.meta
        info = ObjectInfo(key, meta["size"], meta["e_tag"], meta["last_modified"])
        small = info.size_bytes - start <= CHUNK  # one call costs less than a stream of one piece
        return info, (found.bytes().to_bytes(),) if small else found.stream(min_chunk_size=CHUNK)

    def _head(self, key: str) -> ObjectInfo:
        if not _is_odd(key):
            meta = obstore.head(self.client, key)
            etag = plain_etag(meta["e_tag"])
            return ObjectInfo(f"s3://{self.name}/{key}", meta["size"], etag, meta["last_modified"])
        answer = self.exact().head_object(Bucket=self.name, Key=key)
        found = {"Key": key, "Size": answer["ContentLength"], "ETag": answer.get("ETag")}
        return _listed(self.name, found | {"LastModified": answer.get("LastModified")})

    def _has_any(self, key: str) -> bool:
        if _is_odd(key):
            return bool(self._page(f"{key}/", None, MaxKeys=1).get("Contents"))
        try:
            return bool(next(iter(obstore.list(self.client, key, chunk_size=1)), None))
        except InvalidPathError:  # of an object that was listed
            return True

    def _page(self, prefix: str, token: str | None, **limits: int) -> dict[str, Any]:
        more = {"ContinuationToken": token} if token else {}
        page: dict[str, Any] = self.exact().list_objects_v2(Bucket=self.name, Prefix=prefix, **more, **limits)
        return page


def _is_odd(key: str) -> bool:
    return bool(key) and _ODD.search(key) is not None


def _require_writable(key: str) -> None:
    if _is_odd(key):
        why = "empty path segment, `.`, `..` or control character in the name; choose another"
        raise OSError(errno.EINVAL, why)


def _require(indexed: ObjectInfo, found: ObjectInfo) -> None:
    if change := difference(indexed, whole_seconds(found)):
        raise ChangedError(change)


def _listed(bucket: str, entry: dict[str, Any]) -> ObjectInfo:
    uri, etag = f"s3://{bucket}/{entry['Key']}", plain_etag(entry.get("ETag"))
    return ObjectInfo(uri, entry["Size"], etag, entry.get("LastModified"))
