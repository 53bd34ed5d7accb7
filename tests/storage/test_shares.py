"""File systems that are mounted: they lack links, keep files open, cannot flush."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from raysvq.errors import StorageError
from raysvq.storage import create_file, exists, list_objects, local, read_bytes, read_version, write_bytes

NO_LINKS = ["EPERM", "EACCES", "EOPNOTSUPP", "ENOSYS", "EXDEV", "EINVAL"]


def _failing(name: str, times: int = 10**9) -> Any:
    """A system call that fails with this error, so often."""
    left = [times]

    def call(*_: object, **__: object) -> None:
        left[0] -= 1
        number = getattr(errno, name)
        if left[0] >= 0:
            raise OSError(number, os.strerror(number))

    return call


@pytest.mark.parametrize("error", NO_LINKS)
def test_files_are_created_where_there_are_no_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    monkeypatch.setattr(os, "link", _failing(error))
    uri = str(tmp_path / "leases" / "0.json")
    assert create_file(uri, b"mine")
    assert not create_file(uri, b"yours")
    assert read_bytes(uri) == b"mine"
    assert [path.name for path in (tmp_path / "leases").iterdir()] == ["0.json"]


def test_of_several_one_creates_the_file_without_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", _failing("EPERM"))
    uri, results, together = str(tmp_path / "0.json"), [], threading.Barrier(8)

    def create(number: int) -> None:
        together.wait()
        results.append((create_file(uri, b"%d" % number), number))

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [winner] = [number for created, number in results if created]
    assert read_bytes(uri) == b"%d" % winner


def test_a_disk_that_fills_up_leaves_no_half_created_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", _failing("EPERM"))
    monkeypatch.setattr(local, "_create_in_place", _full_disk(local._create_in_place, monkeypatch))
    with pytest.raises(StorageError, match="No space left on device"):
        create_file(str(tmp_path / "0.json"), b"mine")
    assert not list(tmp_path.iterdir())


def _full_disk(create: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    def call(path: Path, content: bytes) -> bool:
        monkeypatch.setattr(os, "fsync", _failing("ENOSPC"))
        return bool(create(path, content))

    return call


def test_a_link_whose_answer_was_lost_is_this_process_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def lose_answer(source: Path, target: Path) -> None:
        link(source, target)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))  # NFS, to the second attempt

    monkeypatch.setattr(os, "link", lose_answer)
    assert create_file(str(tmp_path / "0.json"), b"mine")


def test_other_problems_of_links_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", _failing("EIO"))
    with pytest.raises(StorageError, match="Input/output error"):
        create_file(str(tmp_path / "0.json"), b"mine")


@pytest.mark.parametrize("error", ["EACCES", "EPERM", "EBUSY", "ETXTBSY"])
def test_a_file_that_is_open_elsewhere_is_replaced_when_it_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    replace, refuse = os.replace, _failing(error, times=3)

    def busy(source: Path, target: Path) -> None:
        refuse()
        replace(source, target)

    monkeypatch.setattr(os, "replace", busy)
    uri = str(tmp_path / "run.json")
    write_bytes(uri, b"new")
    assert read_bytes(uri) == b"new"


def test_a_file_that_stays_open_elsewhere_is_an_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "OPEN_ELSEWHERE_S", 0.2)
    monkeypatch.setattr(os, "replace", _failing("EBUSY"))
    with pytest.raises(StorageError, match=r"cannot write .*run\.json: Device or resource busy"):
        write_bytes(str(tmp_path / "run.json"), b"new")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", ["EINVAL", "ENOSYS", "EOPNOTSUPP"])
def test_a_share_that_cannot_flush_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    monkeypatch.setattr(os, "fsync", _failing(error))
    uri = str(tmp_path / "run.json")
    write_bytes(uri, b"new")
    assert read_bytes(uri) == b"new"


@pytest.mark.parametrize("error", ["EIO", "ENOSPC", "EDQUOT"])
def test_what_does_not_reach_the_disk_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    monkeypatch.setattr(os, "fsync", _failing(error))
    with pytest.raises(StorageError, match="cannot write"):
        write_bytes(str(tmp_path / "run.json"), b"new")
    assert not exists(str(tmp_path / "run.json"))


def test_the_handle_that_wrote_is_the_one_that_is_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[int] = []
    fsync = os.fsync

    def flush(descriptor: int) -> None:
        flags = Path(f"/proc/self/fdinfo/{descriptor}").read_text().split("flags:")[1].split()[0]
        modes.append(int(flags, 8) & os.O_ACCMODE)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", flush)
    write_bytes(str(tmp_path / "run.json"), b"new")
    assert modes == [os.O_WRONLY]


def test_a_folder_that_may_not_be_read_ends_the_listing_and_one_that_went_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("good/a.png", "locked/b.png", "removed/c.png"):
        write_bytes(str(tmp_path / name), b"x")
    scan = os.scandir

    def refuse(folder: str) -> Any:
        if folder.endswith("locked"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), folder)
        if folder.endswith("removed"):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), folder)
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    found = list_objects(str(tmp_path), skip=lambda folder: folder.endswith("/locked/"))
    assert [info.uri for info in found] == [str(tmp_path / "good" / "a.png")]
    with pytest.raises(StorageError, match="locked: permission denied"):
        list(list_objects(str(tmp_path), problems=lambda uri, why: None))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(OSError, match="neither a file nor a folder"):
        read_version(str(tmp_path / "a.png"), 0, None, None)
