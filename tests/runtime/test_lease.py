"""One run at a time on a score directory."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from raysvq.errors import DataError, StorageError
from raysvq.runtime import lease as module
from raysvq.runtime.lease import LEASES, lease
from raysvq.storage import create_file, join, list_objects, read_bytes, remove_file, write_bytes


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RENEW_S", 0.05)
    monkeypatch.setattr(module, "DEAD_S", 0.5)


def _left(out: str) -> list[str]:
    return [Path(info.uri).name for info in list_objects(join(out, LEASES), must_exist=False)]


def _abandon(out: str, number: int, host: str, process: int) -> None:
    content = {"run_id": "old", "host": host, "machine": host, "pid": process, "renewed": 0.0}
    write_bytes(join(out, LEASES, f"{number:08d}.json"), json.dumps(content).encode())


def test_a_second_run_is_refused_while_the_first_lives(place: str) -> None:
    with lease(place, "one") as still_held:
        with (
            pytest.raises(DataError, match=r"is being written by run one on .* wait for it to end"),
            lease(place, "two"),
        ):
            pytest.fail("two runs held one folder")
        still_held()


def test_a_folder_that_was_let_go_is_free(place: str) -> None:
    for name in ("one", "two"):
        with lease(place, name):
            assert len(_left(place)) == 1
    assert _left(place) == []


def test_a_lease_nobody_renews_is_taken_over(place: str) -> None:
    _abandon(place, 3, "another-host", 1)
    with lease(place, "new"):
        assert _left(place) == ["00000004.json"]


def test_a_process_that_ended_on_this_machine_is_not_waited_for(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DEAD_S", 3600.0)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    _abandon(place, 0, module._machine(), ended.pid)
    with lease(place, "new"):
        assert _left(place) == ["00000001.json"]


def test_a_run_that_was_taken_over_may_not_commit(place: str) -> None:
    with lease(place, "slow") as still_held:
        _abandon(place, 7, "another-host", 1)
        with pytest.raises(DataError, match="taken over by another run"):
            still_held()


def test_a_run_that_slept_while_others_came_and_went_neither_commits_nor_takes_their_lease(
    place: str,
) -> None:
    mine = join(place, LEASES, "00000000.json")
    with lease(place, "slept") as still_held:
        remove_file(mine)
        time.sleep(0.3)
        assert _left(place) == []
        with pytest.raises(DataError, match="taken over by another run"):
            still_held()
        _abandon(place, 0, "another-host", 1)
        with pytest.raises(DataError, match="taken over by another run"):
            still_held()
    assert _left(place) == ["00000000.json"]


def test_a_holder_has_time_for_every_request_of_a_renewal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert module.RENEW_S + 3 * module.ANSWER_S < module.DEAD_S


def test_a_holder_with_a_slow_store_looks_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEAD_S", 1.0)

    def slowly(call: Any) -> Any:
        def wait_and_call(*arguments: Any) -> Any:
            time.sleep(0.15 if threading.current_thread() is not threading.main_thread() else 0)
            return call(*arguments)

        return wait_and_call

    monkeypatch.setattr(module, "read_bytes", slowly(read_bytes))
    monkeypatch.setattr(module, "write_bytes", slowly(write_bytes))
    with lease(str(tmp_path), "slow"):
        for _ in range(2):
            with (
                pytest.raises(DataError, match="is being written by run slow"),
                lease(str(tmp_path), "other"),
            ):
                pytest.fail("two runs held one folder")


def test_renewals_have_a_time_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times: set[float | None] = set()

    def write(uri: str, content: bytes, within_s: float | None = None) -> None:
        times.add(within_s)
        write_bytes(uri, content)

    monkeypatch.setattr(module, "write_bytes", write)
    with lease(str(tmp_path), "one"):
        time.sleep(0.2)
    assert times == {module.ANSWER_S}


def test_a_holder_that_cannot_renew_does_not_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise StorageError("cannot write: no route to host")

    with lease(str(tmp_path), "cut off") as still_held:
        still_held()
        monkeypatch.setattr(module, "write_bytes", refuse)
        with pytest.raises(DataError, match=r"cannot renew its lease: cannot write: no route to host"):
            still_held()
        monkeypatch.setattr(module, "write_bytes", write_bytes)
        still_held()  # nobody took over while the store was away


def test_a_commit_outlives_a_store_that_does_not_answer_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RENEW_S", 2.0)  # the check is the only one to renew
    answers = [False, True]

    def write(uri: str, content: bytes, within_s: float | None = None) -> None:
        if answers.pop():
            raise StorageError("cannot write: the store answered 503")
        write_bytes(uri, content)

    with lease(str(tmp_path), "one") as still_held:
        monkeypatch.setattr(module, "write_bytes", write)
        still_held()
    assert not answers


def test_a_holder_that_sees_a_successor_lets_go(tmp_path: Path) -> None:
    out = str(tmp_path)
    with lease(out, "slow"):
        _abandon(out, 1, "another-host", 1)
        time.sleep(0.3)
        assert _left(out) == ["00000001.json"]


def test_a_successor_that_sees_the_holder_renew_steps_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = str(tmp_path)
    _abandon(out, 3, "another-host", 1)

    def create(uri: str, content: bytes) -> bool:
        created = create_file(uri, content)
        _abandon(out, 3, "another-host", 2)  # the holder wakes up
        return created

    monkeypatch.setattr(module, "create_file", create)
    with (
        pytest.raises(DataError, match=r"written by run old on another-host \(process 2\)"),
        lease(out, "new"),
    ):
        pytest.fail("two runs held one folder")
    assert _left(out) == ["00000003.json"]


def test_runs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    out = str(tmp_path)
    mine = join(out, LEASES, "00000000.json")
    with lease(out, "sweep") as still_held:
        content = json.loads(read_bytes(mine)) | {"token": "another process's"}
        write_bytes(mine, json.dumps(content).encode())
        with pytest.raises(DataError, match="taken over by another run"):
            still_held()


_HUGE = b'{"run_id": "x", "host": "h", "machine": "%s", "pid": 1%s}' % (module._machine().encode(), b"0" * 30)


@pytest.mark.parametrize(
    "damaged", [b"", b"{", b"[]", b"null", b'{"run_id": "x"}', b"\xff\x00", b'{"pid": "1"}', _HUGE]
)
def test_a_damaged_lease_is_taken_over_in_its_time(tmp_path: Path, damaged: bytes) -> None:
    out = str(tmp_path)
    write_bytes(join(out, LEASES, "00000002.json"), damaged)
    started = time.monotonic()
    with lease(out, "new"):
        assert _left(out) == ["00000003.json"]
    assert time.monotonic() - started >= module.DEAD_S


def test_a_lease_that_is_just_being_written_is_another_s(tmp_path: Path) -> None:
    out = str(tmp_path)
    write_bytes(join(out, LEASES, "00000000.json"), b'{"run_id": "ol')
    timer = threading.Timer(0.2, _abandon, (out, 0, "another-host", 1))
    timer.start()
    with pytest.raises(DataError, match="is being written by run old"), lease(out, "new"):
        pytest.fail("two runs held one folder")
    timer.join()


def test_other_files_beside_the_leases_are_left_alone(tmp_path: Path) -> None:
    out = str(tmp_path)
    others = ["._00000000.json", ".nfs000001", "00000009 (1).json", "desktop.ini"]
    for name in others:
        write_bytes(join(out, LEASES, name), b"")
    with lease(out, "one"):
        assert _left(out) == sorted([*others, "00000000.json"])
    assert _left(out) == sorted(others)


def test_a_release_that_fails_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(uri: str) -> None:
        raise StorageError(f"cannot remove {uri}: permission denied")

    monkeypatch.setattr(module, "remove_file", refuse)
    with lease(str(tmp_path), "one"):
        pass
    said = capsys.readouterr().err
    assert said.startswith("warning: the lease ")
    assert said.endswith("permission denied\n")
    monkeypatch.setattr(module, "_machine", lambda: "elsewhere")
    with pytest.raises(ValueError, match="the real problem"), lease(str(tmp_path / "other"), "two"):
        raise ValueError("the real problem")
    assert "permission denied" in capsys.readouterr().err


def test_a_folder_that_others_take_all_the_time_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "create_file", lambda *_: False)
    with pytest.raises(DataError, match="5 times another run was quicker"), lease(str(tmp_path), "one"):
        pytest.fail("held")
