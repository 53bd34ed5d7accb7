"""What is there, on local disk and on a real S3 server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import fsspec
import pytest

from raysvq.errors import StorageError
from raysvq.storage import (
    exists,
    file_infos,
    filesystem,
    is_folder,
    join,
    list_objects,
    read_bytes,
    write_bytes,
)


def _names(prefix: str) -> list[str]:
    return [info.uri.removeprefix(prefix + "/") for info in list_objects(prefix)]


def test_listing_is_sorted_within_each_folder_and_goes_deep(place: str) -> None:
    names = ["b.png", "c/10.png", "ä.png", "a/z.png", "c/2.png", "a.png", "c/d/e/x.png", "A.png"]
    for name in names:
        write_bytes(join(place, name), b"x")
    expected = ["A.png", "a/z.png", "a.png", "b.png", "c/10.png", "c/2.png", "c/d/e/x.png", "ä.png"]
    assert _names(place) == expected
    assert _names(join(place, "c")) == ["10.png", "2.png", "d/e/x.png"]


def test_a_prefix_is_a_folder_not_the_start_of_a_name(place: str) -> None:
    for name in ("run/1.png", "run-2/1.png", "runner.png"):
        write_bytes(join(place, name), b"x")
    assert _names(join(place, "run")) == ["1.png"]


def test_listing_tells_size_and_time(place: str) -> None:
    write_bytes(join(place, "a.png"), b"12345")
    [info] = list_objects(place)
    assert info.size_bytes == 5
    assert info.mtime is not None
    assert abs(info.mtime - datetime.now(UTC)) < timedelta(minutes=5)
    assert (info.etag is not None) == place.startswith("s3://")


def test_another_content_has_another_etag(s3: str) -> None:
    uri = join(s3, "etag", "a.png")
    etags = []
    for content in (b"one", b"two"):
        write_bytes(uri, content)
        etags += [info.etag for info in list_objects(uri)]
    assert len(set(etags)) == 2
    assert all(etag and '"' not in etag for etag in etags)


def test_file_infos_answer_in_order_and_none_where_no_file_is(place: str) -> None:
    write_bytes(join(place, "a/1.png"), b"1")
    write_bytes(join(place, "a/22.png"), b"22")
    uris = [join(place, name) for name in ("a/22.png", "missing.png", "a", "a/1.png", "a/22.png")]
    infos = file_infos(uris)
    assert [info and info.size_bytes for info in infos] == [2, None, None, 1, 2]
    assert [info and info.uri for info in infos] == [uris[0], None, None, uris[3], uris[0]]
    assert all(info.mtime for info in infos if info)


def test_file_infos_of_several_stores_at_once(s3: str, tmp_path: Path) -> None:
    here, there = str(tmp_path / "here.png"), join(s3, "mixed", "there.png")
    write_bytes(here, b"1")
    write_bytes(there, b"22")
    assert [info and info.size_bytes for info in file_infos([there, here])] == [2, 1]


def test_no_uris_no_infos() -> None:
    assert file_infos([]) == []


def test_a_path_no_file_can_have_does_not_take_its_neighbours_along(place: str) -> None:
    write_bytes(join(place, "good.png"), b"1")
    bad = join(place, "nul\0byte.png") if not place.startswith("s3://") else place + "//doubled.png"
    infos = file_infos([bad, join(place, "good.png"), bad])
    assert [info is not None for info in infos] == [False, True, False]
    with pytest.raises(OSError, match=r"null byte|No such file"):
        read_bytes(bad)
    with pytest.raises(StorageError, match="cannot write"):
        write_bytes(bad, b"")


def test_folders_and_files_are_told_apart(place: str) -> None:
    write_bytes(join(place, "folder", "file.png"), b"x")
    assert is_folder(place)
    assert is_folder(join(place, "folder"))
    assert not is_folder(join(place, "folder", "file.png"))
    assert exists(join(place, "folder"))
    assert not exists(join(place, "nowhere"))


def test_a_missing_path_is_named(place: str) -> None:
    missing = join(place, "nowhere", "x")
    for look in (is_folder, lambda uri: list(list_objects(uri))):
        with pytest.raises(StorageError) as failure:
            look(missing)
        assert str(failure.value) == f"cannot read {missing}: no such file, folder or bucket"
    with pytest.raises(FileNotFoundError):
        read_bytes(missing)


def test_a_folder_that_need_not_be_there_is_empty(place: str) -> None:
    assert list(list_objects(join(place, "nowhere"), must_exist=False)) == []
    write_bytes(join(place, "there", "a.png"), b"x")
    assert len(list(list_objects(join(place, "there"), must_exist=False))) == 1


def test_a_folder_marker_is_no_file(s3: str) -> None:
    fs, path = filesystem(join(s3, "marked"))
    fs.create_dir(f"{path}/inner")
    write_bytes(join(s3, "marked", "inner", "a.png"), b"x")
    assert is_folder(join(s3, "marked", "inner"))
    assert _names(join(s3, "marked")) == ["inner/a.png"]


def test_a_folder_without_a_name_ends_the_listing() -> None:
    write_bytes("memory://nameless/a/1.png", b"x")
    store = fsspec.filesystem("memory").store
    store["/nameless/a//2.png"] = store["/nameless/a/1.png"]
    with pytest.raises(StorageError, match="is a folder without a name"):
        list(list_objects("memory://nameless"))
