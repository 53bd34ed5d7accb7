"""S3 buckets: obstore, and botocore for what obstore cannot do.

botocore takes keys as they are, so it lists, and reads objects whose keys are no paths. It also uploads large
objects, as it can send a failed part again alone.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from raysvq.storage.bucket import CHUNK, LARGE, Bucket
from raysvq.storage.download import Part
from raysvq.storage.objects import ObjectInfo, is_odd, plain_etag

MAX_PARTS = 10_000  # S3's limit; parts have LARGE bytes, or more in objects that would exceed it
PARTS_AT_ONCE = 4


@dataclass(frozen=True)
class S3Bucket(Bucket):
    """A bucket that holds any key that S3 takes."""

    exact: Callable[[], Any]  # makes botocore's client when first needed; most processes never do

    @property
    def name(self) -> str:
        """The bucket's name."""
        return self.uri.rpartition("/")[2]

    def pages(self, path: str) -> Iterator[list[ObjectInfo]]:
        """What is below a key, at any depth and in the order of the keys."""
        for page in self._pages(path, ""):
            yield [self._listed(entry) for entry in page.get("Contents", ())]

    def levels(self, path: str, start: str) -> Iterator[list[ObjectInfo | str]]:
        """Objects and folders directly below a key, a page at a time."""
        for page in self._pages(path, start, Delimiter="/"):
            level: dict[str, ObjectInfo | str] = {
                entry["Key"]: self._listed(entry) for entry in page.get("Contents", ())
            }
            folders = [common["Prefix"] for common in page.get("CommonPrefixes", ())]
            level |= {key: f"{self.uri}/{key}" for key in folders}
            yield [level[key] for key in sorted(level)]

    def _pages(self, path: str, start: str, **more: Any) -> Iterator[dict[str, Any]]:
        prefix, token = (f"{path}/" if path else "") + start, None
        while True:
            page = self.ask(path, partial(self._page, prefix, token, **more))
            yield page
            if not page.get("IsTruncated"):
                return
            before, token = token, page.get("NextContinuationToken")
            if token is None or token == before:
                raise OSError(errno.EIO, "the store ends a page of a listing without the way to the next one")

    def _open(self, path: str, start: int, etag: str | None) -> Part:
        if not is_odd(path):
            return super()._open(path, start, etag)
        more = {"Range": f"bytes={start}-"} | ({"IfMatch": etag} if etag else {}) if start else {}
        answer = self.exact().get_object(Bucket=self.name, Key=path, **more)
        size = int(answer.get("ContentRange", f"/{answer['ContentLength']}").rpartition("/")[2])
        info = ObjectInfo(path, size, answer.get("ETag"), answer.get("LastModified"))
        return info, answer["Body"].iter_chunks(CHUNK)

    def _write_large(self, path: str, content: bytes | Path, size: int) -> None:
        """Readers see the object when all parts have come."""
        client, place = self.exact(), {"Bucket": self.name, "Key": path}
        place["UploadId"] = self.ask(path, lambda: client.create_multipart_upload(**place))["UploadId"]
        length = max(LARGE, -(-size // MAX_PARTS))

        def send(number: int) -> dict[str, Any]:
            body = _part(content, number * length, length)
            answer = self.ask(path, lambda: client.upload_part(**place, PartNumber=number + 1, Body=body))
            return {"PartNumber": number + 1, "ETag": answer["ETag"]}

        pool = ThreadPoolExecutor(PARTS_AT_ONCE)
        try:
            parts = list(pool.map(send, range(-(-size // length))))
            done = partial(client.complete_multipart_upload, **place, MultipartUpload={"Parts": parts})
            self._complete(path, done, size)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            with suppress(Exception):  # one attempt to forget the parts: the upload's own error matters
                client.abort_multipart_upload(**place)
            raise
        pool.shutdown()

    def _complete(self, path: str, call: Callable[[], Any], size: int) -> None:
        """An attempt whose answer was lost may have done it; the store no longer knows the parts then."""
        attempts = 0

        def once() -> None:
            nonlocal attempts
            attempts += 1
            call()

        try:
            self.ask(path, once)
        except FileNotFoundError:
            found = self.info(path) if attempts > 1 else None
            if found is None or found.size_bytes != size:
                raise

    def _head(self, path: str) -> ObjectInfo:
        if not is_odd(path):
            return super()._head(path)
        answer = self.exact().head_object(Bucket=self.name, Key=path)
        found = {"Key": path, "Size": answer["ContentLength"], "ETag": answer.get("ETag")}
        return self._listed(found | {"LastModified": answer.get("LastModified")})

    def _has_any(self, path: str) -> bool:
        if not is_odd(path):
            return super()._has_any(path)
        return bool(self._page(f"{path}/", None, MaxKeys=1).get("Contents"))

    def _page(self, prefix: str, token: str | None, **limits: Any) -> dict[str, Any]:
        more = {"ContinuationToken": token} if token else {}
        page: dict[str, Any] = self.exact().list_objects_v2(Bucket=self.name, Prefix=prefix, **more, **limits)
        return page

    def _listed(self, entry: dict[str, Any]) -> ObjectInfo:
        uri, etag = f"{self.uri}/{entry['Key']}", plain_etag(entry.get("ETag"))
        return ObjectInfo(uri, entry["Size"], etag, entry.get("LastModified"))


def _part(content: bytes | Path, start: int, length: int) -> bytes:
    if isinstance(content, bytes):
        return content[start : start + length]
    with content.open("rb") as file:
        file.seek(start)
        return file.read(length)
