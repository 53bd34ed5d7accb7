"""One level of folders, on local disk, on a real S3 server, and where a server is asked page by page."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from devtools.fake_s3 import BUCKET, FakeS3
from raysvq.errors import StorageError
from raysvq.storage import ObjectInfo, join, list_folder, write_bytes

NAMES = ["b/1.png", "B.png", "a.png", "a/x/2.png", "ä/3.png", "c<b>.png", "a b.png"]


def _names(folder: str, start: str = "") -> list[str]:
    found = (each.uri if isinstance(each, ObjectInfo) else each for each in list_folder(folder, start))
    return [uri.removeprefix(f"{folder}/") for uri in found]


def test_files_and_folders_of_one_level_are_listed_in_order(place: str) -> None:
    for name in NAMES:
        write_bytes(join(place, name), b"x")
    assert sorted(_names(place)) == sorted(["B.png", "a b.png", "a.png", "a/", "b/", "c<b>.png", "ä/"])
    assert _names(join(place, "a")) == ["x/"]
    assert sorted(_names(place, "a")) == sorted(["a b.png", "a.png", "a/"])
    assert _names(join(place, "a", "x")) == ["2.png"]


def test_a_folder_that_does_not_exist_is_empty(place: str) -> None:
    assert _names(join(place, "nowhere")) == []


def test_a_bucket_that_does_not_exist_is_an_error(s3: str) -> None:
    with pytest.raises(StorageError, match=r"cannot list s3://no-such-bucket/p: no such"):
        list(list_folder("s3://no-such-bucket/p"))


def test_a_folder_that_may_not_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("raysvq.storage.walk.os.scandir", forbidden)
    with pytest.raises(StorageError, match="permission denied"):
        list(list_folder(str(tmp_path)))


def test_a_link_to_a_folder_is_a_folder_and_one_to_nowhere_a_problem(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "link").symlink_to(tmp_path / "real")
    (tmp_path / "set" / "lost.png").symlink_to(tmp_path / "gone.png")
    problems: dict[str, str] = {}
    found = list(list_folder(str(tmp_path / "set"), problems=problems.__setitem__))
    assert found == [f"{tmp_path}/set/link/"]
    assert problems == {f"{tmp_path}/set/lost.png": "links that lead nowhere"}


def test_only_names_with_the_start_are_asked_for_page_by_page(fake: FakeS3) -> None:
    fake.page_size = 3
    for number in range(8):
        fake.put(f"p/2026-05-0{number}/a.png", b"x")
        fake.put(f"p/2026-05-0{number}.png", b"x")
    fake.put("p/2026-05-03/", b"")  # a folder marker
    folders = [f"2026-05-0{number}/" for number in range(8)]
    files = [f"2026-05-0{number}.png" for number in range(8)]
    assert _names(f"s3://{BUCKET}/p") == sorted([*files, *folders])
    before = len(fake.requests)
    assert _names(f"s3://{BUCKET}/p", "2026-05-07") == ["2026-05-07.png", "2026-05-07/"]
    assert len(fake.requests) == before + 1


def test_other_stores_list_a_folder_through_their_client() -> None:
    memory = fsspec.filesystem("memory")
    for name in ("/level/a.png", "/level/b/c.png", "/level/b2.png"):
        memory.pipe_file(name, b"x")
    found = [
        each.uri if isinstance(each, ObjectInfo) else each for each in list_folder("memory://level", "b")
    ]
    assert [uri.rpartition("level/")[2] for uri in found] == ["b/", "b2.png"]
    assert list(list_folder("memory://nowhere")) == []
