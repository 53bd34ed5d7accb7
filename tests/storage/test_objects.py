"""How files are named; and that one is read as it was indexed, or not at all."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import fsspec
import pytest

from devtools.fake_s3 import BUCKET, FakeS3
from raysvq.storage import (
    ChangedError,
    ObjectInfo,
    canonical,
    file_infos,
    image_id,
    join,
    list_objects,
    local,
    read_version,
    write_bytes,
)
from raysvq.storage.objects import difference, from_nanoseconds, plain_etag

URI = f"s3://{BUCKET}/images/a.png"
NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)


def _read(info: ObjectInfo) -> bytes:
    return read_version(info.uri, info.size_bytes, info.etag, info.mtime)


def _indexed(uri: str) -> ObjectInfo:
    [info] = list_objects(uri)
    return info


@pytest.mark.parametrize("key", ["images/a.png", "images//a.png"])
@pytest.mark.parametrize("if_match", ["heeded", "ignored"])
def test_an_object_overwritten_in_its_size_has_changed(fake: FakeS3, key: str, if_match: str) -> None:
    fake.ignores_if_match = if_match == "ignored"
    fake.put(key, b"good")
    info = _indexed(f"s3://{BUCKET}/{key}")
    assert _read(info) == b"good"
    fake.put(key, b"evil")
    with pytest.raises(ChangedError, match=r"^ETag \w{32}, \w{32} when indexed$"):
        _read(info)


@pytest.mark.parametrize("etag", ['"abc"', 'W/"abc"', '"abc-12"', "abc"])
@pytest.mark.parametrize("indexed", ["abc", '"abc"', 'W/"abc"'])
def test_etags_are_one_however_they_are_spelt(fake: FakeS3, etag: str, indexed: str) -> None:
    fake.put("images/a.png", b"good", etag)
    if etag == '"abc-12"':  # of an upload in parts
        indexed = indexed.replace("abc", "abc-12")
    assert read_version(URI, 4, indexed, NOON) == b"good"
    with pytest.raises(ChangedError, match="when indexed"):
        read_version(URI, 4, indexed.replace("abc", "xyz"), NOON)


def test_with_equal_etags_no_time_decides_and_without_them_whole_seconds_do(fake: FakeS3) -> None:
    etag = fake.put("images/a.png", b"good")
    modified = datetime.fromtimestamp(int(fake.objects["images/a.png"].modified), UTC)
    assert read_version(URI, 4, etag, NOON) == b"good"
    assert read_version(URI, 4, None, modified + timedelta(milliseconds=123)) == b"good"
    with pytest.raises(ChangedError, match=r"changed .*, .* when indexed"):
        read_version(URI, 4, None, modified - timedelta(seconds=1))
    fake.etags = False
    assert read_version(URI, 4, etag, modified) == b"good"
    with pytest.raises(ChangedError, match=r"changed .*, .* when indexed"):
        read_version(URI, 4, etag, NOON)


def test_what_was_listed_without_a_version_is_read_as_it_is(fake: FakeS3, tmp_path: Path) -> None:
    fake.put("images/a.png", b"good")
    write_bytes(str(tmp_path / "a.png"), b"good")
    for uri in (URI, str(tmp_path / "a.png")):
        assert read_version(uri, 4, None, None) == b"good"
        with pytest.raises(ChangedError, match="4 bytes, 0 when indexed"):
            read_version(uri, 0, None, None)


def test_another_size_is_told_before_the_content_is_fetched(fake: FakeS3) -> None:
    fake.put("images/a.png", b"x" * 50_000_000)
    with pytest.raises(ChangedError, match="50000000 bytes, 4 when indexed"):
        read_version(URI, 4, None, None)


def test_a_local_file_overwritten_in_its_size_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"good")
    info = _indexed(str(path))
    assert _read(info) == b"good"
    path.write_bytes(b"evil")
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 2000))
    with pytest.raises(ChangedError, match=r"changed .*, .* when indexed"):
        _read(info)


class _Meanwhile:
    """A file that something happens to after it is opened and looked at."""

    def __init__(self, path: Path, happens: Callable[[], None]) -> None:
        self.file = path.open("rb")
        self.happens = happens

    def __enter__(self) -> _Meanwhile:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def fileno(self) -> int:
        return self.file.fileno()

    def read(self) -> bytes:
        self.happens()
        return self.file.read()


def _read_while(
    path: Path, info: ObjectInfo, monkeypatch: pytest.MonkeyPatch, happens: Callable[[], None]
) -> bytes:
    opened = _Meanwhile(path, happens)
    monkeypatch.setattr(local.Path, "open", lambda *_: opened)
    return local.read(str(path), info)


def test_a_file_written_to_while_it_is_read_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"good")
    info = _indexed(str(path))

    def write_in_place() -> None:
        descriptor = os.open(path, os.O_WRONLY)
        os.write(descriptor, b"ev")
        os.close(descriptor)
        os.utime(path, ns=(0, time.time_ns() + 10**9))

    with pytest.raises(ChangedError, match="written to while it was read"):
        _read_while(path, info, monkeypatch, write_in_place)


def test_a_file_replaced_while_it_is_read_is_the_one_that_was_indexed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = tmp_path / "a.png", tmp_path / "b.png"
    path.write_bytes(b"good")
    other.write_bytes(b"evil")
    info = _indexed(str(path))
    assert _read_while(path, info, monkeypatch, lambda: os.replace(other, path)) == b"good"


@pytest.mark.parametrize("nanoseconds", [1_700_000_000_123_456_789, 1_784_812_923_999_999_999, 999, 0])
def test_a_file_has_one_time_however_it_is_listed(tmp_path: Path, nanoseconds: int) -> None:
    path = tmp_path / "images" / "a.png"
    write_bytes(str(path), b"x")
    os.utime(path, ns=(nanoseconds, nanoseconds))
    [asked], [below], [alone] = (
        file_infos([str(path)]),
        list_objects(str(path.parent)),
        list_objects(str(path)),
    )
    assert asked == below == alone
    assert below.mtime == from_nanoseconds(nanoseconds)
    assert (
        int((below.mtime - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))
        == nanoseconds // 1000
    )
    assert _read(below) == b"x"


def test_another_store_s_file_is_looked_at_after_it_was_read() -> None:
    uri = "memory://versions/a.png"
    write_bytes(uri, b"good")
    [info] = file_infos([uri])
    assert info is not None
    assert _read(info) == b"good"
    write_bytes(uri, b"evil")
    fsspec.filesystem("memory").store["/versions/a.png"].modified += timedelta(seconds=1)
    fsspec.filesystem("memory").store["/versions/a.png"].created += timedelta(seconds=1)
    with pytest.raises(ChangedError, match=r"changed .*, .* when indexed"):
        _read(info)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, None),
        ({"size_bytes": 5}, "5 bytes, 4 when indexed"),
        ({"etag": "b"}, "ETag b, a when indexed"),
        ({"mtime": NOON + timedelta(seconds=9)}, None),
        ({"etag": None}, None),
        ({"etag": None, "mtime": None}, None),
        ({"etag": None, "mtime": NOON + timedelta(microseconds=1)}, None),
        ({"etag": None, "mtime": NOON + timedelta(microseconds=2)}, "changed 2026-05-04T12:00:00.000002"),
    ],
    ids=str,
)
def test_size_then_etag_then_time_tell_versions_apart(
    changes: dict[str, object], expected: str | None
) -> None:
    base = {"uri": "u", "size_bytes": 4, "etag": "a", "mtime": NOON}
    found = difference(ObjectInfo(**base), ObjectInfo(**(base | changes)))  # type: ignore[arg-type]
    assert found == expected or (expected and found and found.startswith(expected))


def test_no_etag_is_none() -> None:
    assert [plain_etag(text) for text in (None, "", '""', ' W/"a" ', '"a"', "a")] == [
        None,
        None,
        None,
        "a",
        "a",
        "a",
    ]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("/data/images/", "/data/images"),
        ("/data/./a/../images", "/data/images"),
        ("file:///data/images", "/data/images"),
        ("FILE:///data/images", "/data/images"),
        ("s3://bucket/images/", "s3://bucket/images"),
        ("s3://bucket/a b#c?d%20e", "s3://bucket/a b#c?d%20e"),
        ("S3://Bucket/Images", "s3://Bucket/Images"),
        ("gs://bucket/x", "gs://bucket/x"),
    ],
)
def test_canonical_is_the_one_spelling(given: str, expected: str) -> None:
    assert canonical(given) == expected
    assert canonical(canonical(given)) == expected


def test_canonical_resolves_against_folder_and_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    assert canonical("a/b.png") == str(tmp_path / "a/b.png")
    assert canonical(Path("a")) == str(tmp_path / "a")
    assert canonical("~/a") == "/home/someone/a"


def test_join_takes_no_account_of_a_trailing_slash() -> None:
    assert join("s3://bucket/a/", "b", "c d#.png") == "s3://bucket/a/b/c d#.png"
    assert join("/data", "x") == "/data/x"


def test_image_id_depends_on_the_uri_alone() -> None:
    assert image_id("s3://b/größe.png") == image_id("s3://b/größe.png")
    assert image_id("s3://b/a.png") != image_id("s3://b/b.png")
    assert len(image_id("x")) == 32
    assert int(image_id("x"), 16) < 2**128
