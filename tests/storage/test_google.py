"""Google's buckets, through obstore, on a server that speaks their XML interface."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from devtools.fake_s3 import BUCKET, FakeS3, fake_s3
from devtools.faulty_store import FaultyStore, faulty_store
from raysvq import storage
from raysvq.errors import StorageError
from raysvq.settings import StorageSettings
from raysvq.storage import (
    ChangedError,
    bucket,
    create_file,
    exists,
    file_infos,
    filesystem,
    is_folder,
    list_folder,
    list_objects,
    put_file,
    read_bytes,
    read_version,
    remove_file,
    remove_folder,
    require_put_if_absent,
    write_bytes,
)

ROOT = f"gs://{BUCKET}"


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[FakeS3, FaultyStore]]:
    """The server, and what lies between it and the clients, which try again for a second."""
    with fake_s3() as server, faulty_store(server.endpoint) as link:
        true, server.endpoint = server.endpoint, link.endpoint
        monkeypatch.setenv(
            "GOOGLE_SERVICE_ACCOUNT_KEY", server.google_environment["GOOGLE_SERVICE_ACCOUNT_KEY"]
        )
        server.endpoint = true
        storage.forget_clients()
        storage.configure(StorageSettings(retry_s=1), reached=True)
        yield server, link
    storage.configure(StorageSettings())
    storage.forget_clients()


def test_files_are_written_read_listed_and_removed(
    google: tuple[FakeS3, FaultyStore], tmp_path: Path
) -> None:
    names = [f"{ROOT}/p/{name}" for name in ("a #1%20.png", "größe.png", "inner/b.png")]
    for name in names:
        write_bytes(name, name.encode())
    assert [read_bytes(name) for name in names] == [name.encode() for name in names]
    infos = list(list_objects(f"{ROOT}/p"))
    assert {info.uri for info in infos} == set(names)
    assert all(info.etag and info.mtime and info.size_bytes for info in infos)
    [asked, missing] = file_infos([infos[0].uri, f"{ROOT}/p/none"])
    assert asked is not None
    assert (asked.uri, asked.etag, missing) == (infos[0].uri, infos[0].etag, None)
    assert (is_folder(f"{ROOT}/p"), is_folder(names[0]), exists(f"{ROOT}/q")) == (True, False, False)
    (tmp_path / "large").write_bytes(bytes(20_000_000))
    put_file(tmp_path / "large", f"{ROOT}/large")
    assert len(read_bytes(f"{ROOT}/large")) == 20_000_000
    remove_file(names[0])
    remove_folder(f"{ROOT}/p/inner")
    assert [info.uri for info in list_objects(f"{ROOT}/p")] == [names[1]]


def test_a_level_of_folders_is_listed(google: tuple[FakeS3, FaultyStore]) -> None:
    for name in ("p/2026-05-04/a.png", "p/2026-05-05/a.png", "p/2026-05-04.png", "p/z.png", "q.png"):
        google[0].put(name, b"x")
    assert [getattr(each, "uri", each) for each in list_folder(f"{ROOT}/p", "2026-05-04")] == [
        f"{ROOT}/p/2026-05-04.png",
        f"{ROOT}/p/2026-05-04/",
    ]
    assert [getattr(each, "uri", each) for each in list_folder(ROOT)] == [f"{ROOT}/p/", f"{ROOT}/q.png"]
    assert list(list_folder(f"{ROOT}/none")) == []


def test_a_file_is_created_once(google: tuple[FakeS3, FaultyStore]) -> None:
    assert (create_file(f"{ROOT}/c", b"one"), create_file(f"{ROOT}/c", b"two")) == (True, False)
    require_put_if_absent(f"{ROOT}/out")
    google[0].ignores_if_none_match = True
    with pytest.raises(StorageError, match="does not honour put-if-absent"):
        require_put_if_absent(f"{ROOT}/out")


def test_another_version_is_not_read(google: tuple[FakeS3, FaultyStore]) -> None:
    write_bytes(f"{ROOT}/a.png", b"good")
    [info] = list_objects(f"{ROOT}/a.png")
    write_bytes(f"{ROOT}/a.png", b"evil")
    with pytest.raises(ChangedError, match="when indexed"):
        read_version(info.uri, info.size_bytes, info.etag, info.mtime)


def test_a_listing_goes_on_behind_what_has_come(
    google: tuple[FakeS3, FaultyStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, link = google
    server.page_size = 5
    monkeypatch.setattr(bucket, "PAGE", 5)
    names = [f"p/{number:03d}.png" for number in range(23)]
    for name in names:
        server.put(name, b"x")
    numbers = iter(range(1000))

    def rule(_: str, target: str) -> object:
        fails = "list-type=2" in target and next(numbers) % 3 == 2
        return (lambda handler: handler.answer(503, "SlowDown")) if fails else None

    link.rule = rule  # type: ignore[assignment]
    assert [info.uri for info in list_objects(f"{ROOT}/p")] == [f"{ROOT}/{name}" for name in names]
    assert next(numbers) > 6


def test_what_is_transient_is_tried_again_and_what_is_not_is_told(
    google: tuple[FakeS3, FaultyStore],
) -> None:
    server, link = google
    server.put("a.png", b"x")
    link.answer(503, "SlowDown", times=2)
    assert read_bytes(f"{ROOT}/a.png") == b"x"
    link.answer(403, "AccessDenied")
    with pytest.raises(PermissionError, match="permission denied"):
        read_bytes(f"{ROOT}/a.png")
    with pytest.raises(FileNotFoundError):
        read_bytes(f"{ROOT}/none.png")
    link.answer(503, "SlowDown", times=1000)
    with pytest.raises(StorageError, match=r"cannot read gs://fake/a\.png: the store answered 503"):
        read_bytes(f"{ROOT}/a.png")


def test_a_name_that_is_no_path_ends_the_listing(google: tuple[FakeS3, FaultyStore]) -> None:
    google[0].put("p//doubled.png", b"x")
    google[0].put("p/a.png", b"x")
    with pytest.raises(StorageError, match=r"cannot list gs://fake/p: .*[eE]mpty path segment"):
        list(list_objects(f"{ROOT}/p"))
    with pytest.raises(StorageError, match="empty path segment"):
        write_bytes(f"{ROOT}/p//b.png", b"x")


def test_tables_are_streamed(google: tuple[FakeS3, FaultyStore]) -> None:
    fs, path = filesystem(f"{ROOT}/t/a.parquet")
    pq.write_table(pa.table({"x": [1, 2, 3]}), path, filesystem=fs)
    assert pq.read_table(path, filesystem=fs)["x"].to_pylist() == [1, 2, 3]
    assert [info.uri for info in list_objects(f"{ROOT}/t")] == [f"{ROOT}/t/a.parquet"]
