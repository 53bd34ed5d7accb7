"""Files read ahead of the scorer, in order, as far as memory allows."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from raysvq.data.manifest import Row
from raysvq.imaging.decode import DecodeError
from raysvq.storage import ChangedError, read_version

FILES_AHEAD = 8
BYTES_AHEAD = 64 * 2**20  # of the files read ahead; one may be larger

Content = bytes | DecodeError | OSError


def fetch(sources: list[Row]) -> Iterator[tuple[Row, Content]]:
    """Each image's manifest row with its bytes, or with why they cannot be had."""
    waiting = deque(sources)
    ahead: deque[tuple[Row, Future[Content]]] = deque()
    with ThreadPoolExecutor(FILES_AHEAD) as pool:
        while waiting or ahead:
            while waiting and _has_room(ahead, waiting[0]):
                source = waiting.popleft()
                ahead.append((source, pool.submit(_read, source)))
            source, content = ahead.popleft()
            yield source, content.result()


def in_groups(fetched: Iterator[tuple[Row, Content]], max_images: int) -> Iterator[list[tuple[Row, Content]]]:
    """Consecutive images, `max_images` together, or fewer where their files are large."""
    group: list[tuple[Row, Content]] = []
    for source, content in fetched:
        group.append((source, content))
        if len(group) == max_images or sum(row["size_bytes"] for row, _ in group) > BYTES_AHEAD:
            yield group
            group = []
    if group:
        yield group


def read_row(source: Row) -> bytes:
    """The content of a manifest row's image, as it was indexed.

    Raises:
        DecodeError: it has changed since.
        OSError: it cannot be had.
    """
    try:
        return read_version(source["uri"], source["size_bytes"], source["etag"], source["mtime"])
    except ChangedError as error:
        raise DecodeError("changed", f"{error}; index again") from None


def _has_room(ahead: deque[tuple[Row, Future[Content]]], source: Row) -> bool:
    held = sum(row["size_bytes"] for row, _ in ahead)
    return not ahead or (len(ahead) < FILES_AHEAD and held + source["size_bytes"] <= BYTES_AHEAD)


def _read(source: Row) -> Content:
    try:
        return read_row(source)
    except (DecodeError, OSError) as error:
        return error
