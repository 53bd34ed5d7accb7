"""Files read ahead of the scorer: in order, within bounds, and as they were indexed."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from raysvq.errors import StorageError
from raysvq.imaging.decode import DecodeError
from raysvq.scoring import fetch as module
from raysvq.scoring.fetch import fetch
from raysvq.scoring.rows import Row
from raysvq.storage import file_infos, join, list_objects, remove_file, write_bytes

Source = Callable[..., Row]


class Store:
    """Hands out zeros, after a while, and notes how much it was asked for ahead of its reader."""

    def __init__(self, sizes: dict[str, int]) -> None:
        self.sizes = sizes
        self.begun: list[int] = []
        self.handed: list[int] = []
        self.most_files = self.most_bytes = 0
        self._lock = threading.Lock()

    def read(self, uri: str, *_: object) -> bytes:
        with self._lock:
            self.begun.append(self.sizes[uri])
            self.most_files = max(self.most_files, len(self.begun) - len(self.handed))
            self.most_bytes = max(self.most_bytes, sum(self.begun) - sum(self.handed))
        time.sleep(random.uniform(0, 0.01))
        return bytes(self.sizes[uri])


def _files(folder: str, source: Source, count: int) -> list[Row]:
    rows = []
    for number in range(count):
        content = bytes([number]) * (10 + number)
        uri = join(folder, f"{number}.png")
        write_bytes(uri, content)
        rows.append(_indexed(uri, source(number)))
    return rows


def _indexed(uri: str, row: Row) -> Row:
    [info] = list_objects(uri)
    return row | {"uri": uri, "size_bytes": info.size_bytes, "etag": info.etag, "mtime": info.mtime}


def _stored(monkeypatch: pytest.MonkeyPatch, source: Source, sizes: list[int]) -> tuple[Store, list[Row]]:
    rows = [source(number, size_bytes=size) for number, size in enumerate(sizes)]
    store = Store({row["uri"]: row["size_bytes"] for row in rows})
    monkeypatch.setattr(module, "read_version", store.read)
    return store, rows


def test_files_come_in_order_with_their_rows(place: str, source: Source) -> None:
    rows = _files(place, source, 30)
    assert list(fetch(rows)) == [(row, bytes([number]) * (10 + number)) for number, row in enumerate(rows)]


def test_nothing_is_fetched_of_nothing() -> None:
    assert list(fetch([])) == []


def test_a_file_that_is_gone_or_has_another_size_does_not_stop_the_others(place: str, source: Source) -> None:
    rows = _files(place, source, 5)
    remove_file(rows[1]["uri"])
    write_bytes(rows[3]["uri"], b"longer than it was when indexed")
    contents = [content for _, content in fetch(rows)]
    assert [type(content) for content in contents] == [bytes, FileNotFoundError, bytes, DecodeError, bytes]
    assert str(contents[3]) == "changed: 31 bytes, 13 when indexed; index again"


def test_a_file_overwritten_in_its_size_has_changed(place: str, source: Source) -> None:
    rows = _files(place, source, 3)
    if not place.startswith("s3://"):
        time.sleep(0.02)  # a disk's clock ticks every few milliseconds
    write_bytes(rows[1]["uri"], bytes([9]) * rows[1]["size_bytes"])
    contents = [content for _, content in fetch(rows)]
    assert [type(content) for content in contents] == [bytes, DecodeError, bytes]
    assert str(contents[1]).startswith(
        "changed: ETag " if place.startswith("s3://") else "changed: changed 20"
    )
    assert str(contents[1]).endswith(" when indexed; index again")


def test_files_indexed_by_folder_and_by_listing_are_the_same(place: str, source: Source) -> None:
    rows = _files(place, source, 3)
    below = {info.uri: info for info in list_objects(place)}
    assert [below[row["uri"]] for row in rows] == file_infos([row["uri"] for row in rows])


def test_a_listed_file_that_came_later_has_changed(tmp_path: Path, source: Source) -> None:
    (row,) = _files(str(tmp_path), source, 1)
    ((_, content),) = fetch([row | {"size_bytes": 0, "mtime": None}])
    assert isinstance(content, DecodeError)
    assert content.reason == "changed"


def test_a_store_that_gives_up_is_told_of_each_file(source: Source) -> None:
    rows = [source(number, uri=f"nowhere://{number}.png") for number in range(3)]
    assert all(isinstance(content, StorageError) for _, content in fetch(rows))


@pytest.mark.parametrize("size", [1, 30, 99, 100, 250])
def test_no_more_is_read_ahead_than_memory_has_room_for(
    monkeypatch: pytest.MonkeyPatch, source: Source, size: int
) -> None:
    monkeypatch.setattr(module, "BYTES_AHEAD", 100)
    store, rows = _stored(monkeypatch, source, [size] * 30)
    for _, content in fetch(rows):
        store.handed.append(len(content))
    assert len(store.handed) == 30
    assert store.most_files <= module.FILES_AHEAD
    assert store.most_bytes <= max(100, size)


def test_a_file_larger_than_the_room_waits_for_those_before_and_is_read_alone(
    monkeypatch: pytest.MonkeyPatch, source: Source
) -> None:
    monkeypatch.setattr(module, "BYTES_AHEAD", 100)
    store, rows = _stored(monkeypatch, source, [40, 40, 1000, 40, 40])
    for _, content in fetch(rows):
        store.handed.append(len(content))
    assert store.handed == [40, 40, 1000, 40, 40]
    assert store.most_bytes == 1000


def test_files_are_read_at_the_same_time(monkeypatch: pytest.MonkeyPatch, source: Source) -> None:
    together = threading.Barrier(module.FILES_AHEAD)

    def read(*_: object) -> bytes:
        together.wait(timeout=60)
        return b"x"

    monkeypatch.setattr(module, "read_version", read)
    rows = [source(number, size_bytes=1) for number in range(module.FILES_AHEAD)]
    assert [content for _, content in fetch(rows)] == [b"x"] * len(rows)
