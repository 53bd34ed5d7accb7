"""S3 buckets through obstore, whose own retries are off: raysvq.storage.retry has the say."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store

from raysvq.storage.retry import Contact, TransientError

if TYPE_CHECKING:  # they do not exist at run time
    from obstore import ListResult, ObjectMeta

_STATUS = re.compile(r"status code: (\d{3} [\w ]+)")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_CAUSE = re.compile(r'message: "([^"]+)"|kind: (TimedOut|Timeout)')
_LATER = ("RequestTimeout", "OperationAborted", "SlowDown")  # S3's codes, whatever their status
_ROLE_OF_THE_MACHINE = "169.254."  # where its credentials would come from

Result = TypeVar("Result")


@dataclass(frozen=True)
class Bucket:
    """A bucket; every method asks again while the problem is transient.

    Raises:
        FileNotFoundError: there is no such object or bucket.
        PermissionError: it may not be done.
        TransientError: the store did not do it within `retry_s` seconds.
        OSError: no object can have this name, or anything else.
    """

    name: str
    client: S3Store
    contact: Contact
    retry_s: float

    def read(self, key: str) -> bytes:
        """The whole object, in one request."""

        def get() -> bytes:
            found = obstore.get(self.client, key)
            content = found.bytes().to_bytes()
            if len(content) != found.meta["size"]:
                raise TransientError(f"{len(content)} of {found.meta['size']} bytes came")
            return content

        return self._ask(key, get)

    def write(self, key: str, content: bytes | Path) -> None:
        """Write an object; readers see all of it or nothing."""
        self._ask(key, lambda: obstore.put(self.client, key, content))

    def create(self, key: str, content: bytes) -> bool:
        """Whether this call created the object, which must not exist yet.

        An attempt whose answer was lost may have created it, so then the content decides.
        """
        attempts = 0

        def put() -> None:
            nonlocal attempts
            attempts += 1
            obstore.put(self.client, key, content, mode="create", use_multipart=False)

        try:
            self._ask(key, put)
        except FileExistsError:
            return attempts > 1 and self.read(key) == content
        return True

    def remove(self, key: str) -> None:
        """Remove an object; one that is gone already is no error."""
        self._ask(key, lambda: obstore.delete(self.client, key))

    def info(self, key: str) -> ObjectMeta | None:
        """Size, time and ETag of an object, None where there is none or can be none."""
        try:
            return self._ask(key, lambda: obstore.head(self.client, key)) if key else None
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINVAL):
                return None
            raise

    def is_folder(self, key: str) -> bool:
        """Whether anything is below a key."""
        try:
            first = self._ask(key, lambda: next(iter(obstore.list(self.client, key)), None))
        except FileNotFoundError:
            return False
        return bool(first) or not key

    def folder(self, key: str) -> ListResult[Sequence[ObjectMeta]]:
        """What is right below a key."""
        return self._ask(key, lambda: obstore.list_with_delimiter(self.client, key))

    def _ask(self, key: str, call: Callable[[], Result]) -> Result:
        uri = f"s3://{self.name}/{key}"

        def once() -> Result:
            try:
                return call()
            except (BaseError, FileNotFoundError, ValueError) as error:
                raise translated(error, uri) from None

        return self.contact.persist(uri, once, self.retry_s)


def translated(error: Exception, uri: str) -> OSError:
    """An OSError of the right kind, in few words: the client's own message is a page long."""
    text = str(error)
    status, code = _STATUS.search(text), _CODE.search(text)
    answer = " ".join(found[1] for found in (status, code) if found)
    number = int(answer[:3]) if status else None
    if isinstance(error, AlreadyExistsError):
        return FileExistsError(errno.EEXIST, "exists already", uri)
    if isinstance(error, ValueError):
        return OSError(errno.EINVAL, text.splitlines()[0], uri)
    if _ROLE_OF_THE_MACHINE in text.splitlines()[0]:
        reason = "no credentials in the settings storage.*, in the environment or from the machine's role"
        return TransientError(reason) if number is None else PermissionError(errno.EACCES, reason, uri)
    if isinstance(error, FileNotFoundError) or number == 404:
        return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), uri)
    if number in (401, 403):
        return PermissionError(errno.EACCES, f"permission denied ({answer})", uri)
    if number is None:
        cause = _CAUSE.search(text)
        reason = text.splitlines()[0].rpartition(" - ")[2].removeprefix("Generic S3 error: ")
        return TransientError(f"{reason} ({cause[1] or 'timed out'})" if cause else reason)
    if number >= 500 or number in (408, 429) or (code and code[1] in _LATER):
        return TransientError(f"the store answered {answer}")
    return OSError(errno.EIO, f"the store answered {answer}", uri)
