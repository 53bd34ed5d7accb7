"""Whole files: the same promises on local disk and on a real S3 server."""

from __future__ import annotations

import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from raysvq.errors import StorageError
from raysvq.storage import (
    exists,
    file_infos,
    is_folder,
    join,
    list_objects,
    put_file,
    read_bytes,
    remove_folder,
    require_writable,
    write_bytes,
)

ODD_NAMES = [
    "two words.png",
    " leading and trailing .png ",
    "größe-画像-🔩.png",
    "part#7.png",
    "what?.png",
    "100%.png",
    "a%20b.png",
    "a+b&c=d;e,f.png",
    "[x]{y}*!'\"~.png",
]


@contextmanager
def _disk_full_after(size: int) -> Iterator[None]:
    """The system refuses to let a file grow beyond `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _write_whole(local: Path, uri: str) -> None:
    write_bytes(uri, local.read_bytes())


def _names(prefix: str) -> list[str]:
    return [info.uri.removeprefix(prefix + "/") for info in list_objects(prefix)]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_names_are_taken_literally(place: str, name: str, tmp_path: Path) -> None:
    uri = join(place, name)
    write_bytes(uri, b"first")
    assert read_bytes(uri) == b"first"
    (tmp_path / "local").write_bytes(b"second")
    put_file(tmp_path / "local", uri)
    assert read_bytes(uri) == b"second"
    assert [info.uri for info in list_objects(place)] == [uri]
    assert [info.uri for info in list_objects(uri)] == [uri]
    assert exists(uri)
    assert not is_folder(uri)
    [info] = file_infos([uri])
    assert info is not None
    assert info.size_bytes == 6


def test_neighbours_that_differ_only_in_escapes_stay_apart(place: str) -> None:
    for name in ("a b.png", "a%20b.png", "a+b.png"):
        write_bytes(join(place, name), name.encode())
    assert {name: read_bytes(join(place, name)).decode() for name in _names(place)} == {
        "a b.png": "a b.png",
        "a%20b.png": "a%20b.png",
        "a+b.png": "a+b.png",
    }


@pytest.mark.parametrize("size", [0, 1, 70_000, 12_000_000])
def test_content_of_any_size_comes_back(place: str, size: int, tmp_path: Path) -> None:
    content = bytes(range(251)) * (size // 251) + bytes(size % 251)
    local = tmp_path / "local.bin"
    local.write_bytes(content)
    write_bytes(join(place, "written"), content)
    put_file(local, join(place, "put"))
    assert read_bytes(join(place, "written")) == content
    assert read_bytes(join(place, "put")) == content
    assert [info.size_bytes for info in list_objects(place)] == [size, size]


def test_a_removed_folder_is_gone_and_its_neighbour_is_not(place: str) -> None:
    for name in ("gone/a.png", "gone/b/c.png", "gone-not/a.png"):
        write_bytes(join(place, name), b"x")
    remove_folder(join(place, "gone"))
    assert not exists(join(place, "gone"))
    assert _names(place) == ["gone-not/a.png"]
    with pytest.raises(StorageError, match="cannot remove"):
        remove_folder(join(place, "gone"))


def test_a_writable_folder_is_left_as_it_was(place: str) -> None:
    write_bytes(join(place, "a.png"), b"x")
    require_writable(place)
    assert _names(place) == ["a.png"]


def test_readers_see_the_old_or_the_new_content_only(place: str) -> None:
    uri, contents = join(place, "state.bin"), [bytes([value]) * 300_000 for value in range(2)]
    write_bytes(uri, contents[0])

    def write() -> None:
        for turn in range(25):
            write_bytes(uri, contents[turn % 2])

    writer = threading.Thread(target=write)
    writer.start()
    seen = []
    while writer.is_alive() or len(seen) < 3:
        seen.append(read_bytes(uri))
    assert all(content in contents for content in seen)
    assert read_bytes(uri) == contents[0]


@pytest.mark.parametrize("write", [put_file, _write_whole])
@pytest.mark.parametrize("before", [b"the old content", None], ids=["replaced", "new"])
def test_an_interrupted_write_leaves_what_was_there(
    tmp_path: Path, write: Callable[[Path, str], None], before: bytes | None
) -> None:
    source, target = tmp_path / "source.bin", tmp_path / "place" / "target.bin"
    source.write_bytes(b"new" * 50_000)
    target.parent.mkdir()
    if before is not None:
        target.write_bytes(before)
    with (
        _disk_full_after(20_000),
        pytest.raises(StorageError, match=r"cannot write .*target\.bin: File too large"),
    ):
        write(source, str(target))
    assert {path.name: path.read_bytes() for path in target.parent.iterdir()} == (
        {"target.bin": before} if before is not None else {}
    )


@pytest.mark.parametrize("folder", ["/proc/nowhere", "a regular file"])
def test_a_place_that_takes_no_files_is_named(tmp_path: Path, folder: str) -> None:
    (tmp_path / "a regular file").write_bytes(b"")
    target = join(folder if folder.startswith("/") else str(tmp_path / folder), "below")
    (tmp_path / "source").write_bytes(b"x")
    with pytest.raises(StorageError, match=rf"cannot write {target}/x: \w+"):
        write_bytes(join(target, "x"), b"x")
    with pytest.raises(StorageError, match=f"cannot write {target}/x"):
        put_file(tmp_path / "source", join(target, "x"))
    with pytest.raises(StorageError, match="cannot write"):
        require_writable(target)
    with pytest.raises(StorageError, match="no such file, folder or bucket"):
        is_folder(target)


@pytest.mark.parametrize("letter", ["n", "検"])
def test_a_very_long_name_can_be_written(tmp_path: Path, letter: str) -> None:
    uri = str(tmp_path / (letter * (251 // len(letter.encode())) + ".png"))
    write_bytes(uri, b"x")
    assert read_bytes(uri) == b"x"


def test_any_other_store_works_through_its_client() -> None:
    write_bytes("memory://fleet/a/1.png", b"one")
    assert read_bytes("memory://fleet/a/1.png") == b"one"
    assert is_folder("memory://fleet/a")
    assert [
        info and info.size_bytes for info in file_infos(["memory://fleet/a/1.png", "memory://fleet/no"])
    ] == [
        3,
        None,
    ]
