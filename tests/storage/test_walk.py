"""Local folders with links, broken names and files that are none."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest

from raysvq.errors import StorageError
from raysvq.storage import file_infos, list_objects, walk
from raysvq.storage.walk import NO_FILE, NOWHERE, TWICE


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("set/a/1.png", "set/b/2.png", "pool/lot/3.png", "pool/4.png", "set/.store/5.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path / "set"


def _walk(root: Path) -> tuple[list[str], dict[str, str]]:
    """Files found, and names that no file is read by; below the root."""
    problems: dict[str, str] = {}
    files = list_objects(str(root), problems=problems.__setitem__, skip=lambda folder: "/." in folder)
    start = f"{root}/"
    return [info.uri.removeprefix(start) for info in files], {
        uri.removeprefix(start): why for uri, why in problems.items()
    }


def test_links_to_folders_are_followed(root: Path) -> None:
    (root / "c").symlink_to(root.parent / "pool")
    (root / "d.png").symlink_to(root.parent / "pool/4.png")
    assert _walk(root) == (["a/1.png", "b/2.png", "c/4.png", "c/lot/3.png", "d.png"], {})


@pytest.mark.parametrize("target", [".", "..", "a", "../pool/back"])
def test_no_folder_is_read_twice_nor_for_ever(root: Path, target: str) -> None:
    (root.parent / "pool/back").symlink_to(root)
    (root / "c").symlink_to(root / target)
    assert _walk(root) == (["a/1.png", "b/2.png"], {"c/": TWICE})


def test_two_links_to_one_folder_give_its_files_once(root: Path) -> None:
    for name, target in (("c", "pool/lot"), ("d", "pool"), ("e", "pool")):
        (root / name).symlink_to(root.parent / target)
    assert _walk(root) == (
        ["a/1.png", "b/2.png", "c/3.png", "d/4.png"],
        {"d/lot/": TWICE, "e/": TWICE},
    )


def test_a_link_into_a_folder_that_is_left_out_is_followed(root: Path) -> None:
    (root / "c").symlink_to(root / ".store")
    assert _walk(root) == (["a/1.png", "b/2.png", "c/5.png"], {})


def test_what_leads_nowhere_or_is_no_file_is_reported(root: Path) -> None:
    (root / "gone.png").symlink_to(root / "nowhere.png")
    (root / "loop").symlink_to(root / "loop")
    os.mkfifo(root / "pipe.png")
    assert _walk(root) == (
        ["a/1.png", "b/2.png"],
        {"gone.png": NOWHERE, "loop": NOWHERE, "pipe.png": NO_FILE},
    )
    with pytest.raises(StorageError, match=r"cannot list \S+: \S+gone\.png: links that lead nowhere"):
        list(list_objects(str(root)))


def test_a_folder_that_may_not_be_read_ends_the_listing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = os.scandir

    def guarded(path: str) -> object:
        if path.endswith("/b"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr("raysvq.storage.walk.os.scandir", guarded)
    with pytest.raises(StorageError, match=r"cannot list \S+/b: permission denied"):
        _walk(root)


@pytest.mark.parametrize("nanoseconds", [1_234_567_890_123_456_789, 1_699_999_999_999_999_999, 1, -1])
def test_a_listing_and_a_look_read_one_clock(root: Path, nanoseconds: int) -> None:
    os.utime(root / "a/1.png", ns=(nanoseconds, nanoseconds))
    listed = next(list_objects(str(root)))
    assert file_infos([listed.uri]) == [listed] == list(list_objects(listed.uri))


def test_a_large_folder_is_sorted_on_disk(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "RUN", 7)
    monkeypatch.setattr(walk, "_BLOCK", 3)
    names = [f"{number * 37 % 100:02d}.png" for number in range(100)]
    names += ["new\nline.png", "größe.png", os.fsdecode(b"\xff.png"), '"quoted".png', "画像.png", " .png"]
    for name in names:
        (root / "b" / name).write_bytes(b"")
    (root / "b" / "50").mkdir()
    for name in names[:20]:
        (root / "b" / "50" / name).write_bytes(b"")
    files, problems = _walk(root)
    assert not problems
    inner = [f"b/50/{name}" for name in sorted(names[:20])]
    outer = [f"b/{name}" for name in sorted(["50", "2.png", *names])]
    outer[outer.index("b/50") : outer.index("b/50") + 1] = inner
    assert files == ["a/1.png", *outer]


def test_memory_does_not_grow_with_the_names_of_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the Python objects, which were two thirds of a kibibyte for each name."""
    monkeypatch.setattr(walk, "RUN", 500)
    monkeypatch.setattr(walk, "_BLOCK", 10)
    peaks = []
    for count in (2_000, 20_000):
        folder = tmp_path / str(count)
        folder.mkdir()
        for number in range(count):
            os.close(os.open(folder / f"{number:09d}.png", os.O_CREAT))
        tracemalloc.start()
        assert sum(1 for _ in list_objects(str(folder))) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 18_000 * 64
