"""Download of an object that resumes when the connection breaks, as long as there is progress."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from raysvq.storage.errors import TransientError, bucket_errors
from raysvq.storage.objects import ChangedError, ObjectInfo, difference

MAX_BEGUN = 5  # starts from the beginning, if the object is replaced while it is read

Part = tuple[ObjectInfo, Iterable[bytes]]


@dataclass
class Download:
    """The part of an object received so far."""

    uri: str
    open: Callable[[int, str | None], Part]  # opens the object from a byte on, if it still has this ETag
    require: Callable[[ObjectInfo], None] | None  # raises ChangedError for another version
    version: ObjectInfo | None = None  # version of the part received
    begun: int = 0
    _content: io.BytesIO = field(default_factory=io.BytesIO)

    @property
    def complete(self) -> bool:
        """Whether all of it was received."""
        return self.version is not None and self._content.tell() == self.version.size_bytes

    def content(self) -> bytes:
        """The content, without a copy."""
        return self._content.getvalue()

    def advance(self) -> None:
        """Read on from the byte reached, to the end or until the connection breaks.

        Raises:
            ChangedError: it is not the version wanted, or is replaced again and again.
            TransientError: nothing was received.
        """
        start = self._content.tell()
        try:
            with bucket_errors(self.uri):
                self._read_on(start)
            if not self.complete and self._content.tell() == start:
                raise TransientError(f"the answer ended after {start} bytes")
        except ChangedError as error:
            if self.require or self.begun == MAX_BEGUN:
                raise
            self._content, self.version = io.BytesIO(), None
            raise TransientError(str(error)) from None
        except TransientError:
            if self._content.tell() == start:
                raise

    def _read_on(self, start: int) -> None:
        before = self.version
        self.begun += before is None
        strong = before and before.etag and not before.etag.startswith("W/")  # weak ones match no condition
        found, chunks = self.open(start, before.etag if before and strong else None)
        if self.require:
            self.require(found)
        if before and (change := difference(before, found)):
            raise ChangedError(f"replaced while it was read: {change}")
        self.version = found
        for chunk in chunks:
            self._content.write(chunk)
        if self._content.tell() > found.size_bytes:
            raise ChangedError(f"more came than the {found.size_bytes} bytes that were announced")
