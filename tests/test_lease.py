"""One run at a time on a score directory."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from raysvq import lease as module
from raysvq.errors import DataError
from raysvq.lease import LEASES, lease
from raysvq.storage import join, list_objects, remove_file, write_bytes


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
