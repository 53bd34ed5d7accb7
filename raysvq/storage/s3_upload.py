"""Large objects, part by part: a part that fails is sent again, the others are not."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from raysvq.storage.versions import ObjectInfo

PART = 16 * 2**20  # bytes of a part, unless there would be more than MOST_PARTS
MOST_PARTS = 10_000  # S3's limit
AT_ONCE = 4

Result = TypeVar("Result")


class Target(Protocol):
    """Where to: see raysvq.storage.s3.Bucket."""

    @property
    def name(self) -> str: ...
    @property
    def exact(self) -> Callable[[], Any]: ...
    def ask(self, key: str, call: Callable[[], Result]) -> Result: ...
    def info(self, key: str) -> ObjectInfo | None: ...


def upload(target: Target, key: str, content: bytes | Path, size: int) -> None:
    """Write an object of `size` bytes, which readers see when all parts have come."""
    client, place = target.exact(), {"Bucket": target.name, "Key": key}
    place["UploadId"] = target.ask(key, lambda: client.create_multipart_upload(**place))["UploadId"]
    length = max(PART, -(-size // MOST_PARTS))

    def send(number: int) -> dict[str, Any]:
        body = _part(content, number * length, length)
        answer = target.ask(key, lambda: client.upload_part(**place, PartNumber=number + 1, Body=body))
        return {"PartNumber": number + 1, "ETag": answer["ETag"]}

    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        parts = list(pool.map(send, range(-(-size // length))))
        done = partial(client.complete_multipart_upload, **place, MultipartUpload={"Parts": parts})
        _complete(target, key, done, size)
    except BaseException:
        pool.shutdown(cancel_futures=True)
        _abort(partial(client.abort_multipart_upload, **place))
        raise
    pool.shutdown()


def _complete(target: Target, key: str, call: Callable[[], Any], size: int) -> None:
    """An attempt whose answer was lost may have done it; the store no longer knows the parts then."""
    attempts = 0

    def once() -> None:
        nonlocal attempts
        attempts += 1
        call()

    try:
        target.ask(key, once)
    except FileNotFoundError:
        found = target.info(key) if attempts > 1 else None
        if found is None or found.size_bytes != size:
            raise


def _abort(call: Callable[[], Any]) -> None:
    """Have the store forget the parts; one attempt, as the upload's own error is what matters."""
    with suppress(Exception):
        call()


def _part(content: bytes | Path, start: int, length: int) -> bytes:
    if isinstance(content, bytes):
        return content[start : start + length]
    with content.open("rb") as file:
        file.seek(start)
        return file.read(length)
