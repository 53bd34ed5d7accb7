"""Compaction: fewer files, the same rows, and nothing removed that somebody may still read."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from raysvq import cli
from raysvq.errors import DataError
from raysvq.results import (
    SCHEMAS,
    commit_log,
    compact,
    expire,
    ids,
    read_results,
    read_snapshot,
    writer,
)
from raysvq.results.commit_log import record_uri
from raysvq.results.compact import Compaction, plan_compaction
from raysvq.runtime.lease import lease
from tests.commits import ORIGIN, SETTINGS
from tests.results.history import History
from tests.results.test_commit_log import to_format_1

NIGHTS = [[f"/cam/2026-05-0{night}/{number}.png" for number in range(4)] for night in range(1, 5)]
IMAGES = [uri for night in NIGHTS for uri in night]
NOW, DAY = timedelta(0), timedelta(days=1)


def two_nights(place: str) -> History:
    """Two nights; one image of the first scored again, one rejected since."""
    history = History(place)
    history.run("night-0", NIGHTS[0][:3], NIGHTS[0][3:])
    history.run("night-1", NIGHTS[1][:3], NIGHTS[1][3:])
    history.run("again", NIGHTS[0][1:2], NIGHTS[0][2:3], size=2)
    return history


def run_compaction(history: History, grace: timedelta = DAY, target: int = 2**20) -> Compaction:
    return compact.compact(history.out, grace, lambda: None, target)


def files_of(out: str) -> set[str]:
    return {str(path.relative_to(out)) for path in Path(out).rglob("*") if path.is_file()}


def age(out: str, hours: float) -> None:
    """Let all that is there have been written earlier."""
    for path in Path(out).rglob("*"):
        os.utime(path, (time.time() - 3600 * hours,) * 2)


def test_small_files_become_few_and_rows_stay_as_they_are(place: str) -> None:
    history = two_nights(place)
    before, runs = history.seen(), read_results(place).runs
    done = history.done(IMAGES)
    found = run_compaction(history)
    assert found.version == 4
    assert list(found.lines())[:2] == [
        "merged 13 files into 3",
        "version 4 is complete: readers need no record before it",
    ]
    after = read_results(place)
    assert history.seen() == before
    assert after.runs == runs
    assert [commit.version for commit in after.commits] == [4]
    assert after.commits[0].settings == {ORIGIN["settings_digest"]: SETTINGS}
    assert {kind: len(after.files(kind)) for kind in SCHEMAS} == {"scores": 1, "rejects": 1, "maps": 1}
    found_done = history.done(IMAGES)
    moved = {"file", "maps_file", "rescored"}
    assert found_done.keys() == done.keys()
    for uri, row in done.items():
        assert {name: found_done[uri][name] for name in row.keys() - moved} == {
            name: row[name] for name in row.keys() - moved
        }
    assert {row["file"] for row in found_done.values()} == {
        file.name for kind in ("scores", "rejects") for file in after.files(kind)
    }


def test_compacting_twice_changes_nothing(tmp_path: Path) -> None:
    history = two_nights(str(tmp_path))
    run_compaction(history)
    before = files_of(history.out)
    again = run_compaction(history)
    assert list(again.lines()) == [f"nothing to do: {history.out} is compact"]
    assert files_of(history.out) == before
    run_compaction(history, NOW)
    before = files_of(history.out)
    assert list(run_compaction(history, NOW).lines()) == [f"nothing to do: {history.out} is compact"]
    assert files_of(history.out) == before


def test_runs_go_on_after_a_compaction(place: str) -> None:
    history = two_nights(place)
    run_compaction(history, NOW)
    history.run("night-2", NIGHTS[2], size=3)
    history.run("once more", NIGHTS[0][:1], size=4)
    seen = {row["uri"]: row["size_bytes"] for kind in ("scores", "rejects") for row in history.seen()[kind]}
    assert seen == {
        **dict.fromkeys([*NIGHTS[0], *NIGHTS[1]], 1),
        **dict.fromkeys(NIGHTS[0][1:3], 2),
        **dict.fromkeys(NIGHTS[2], 3),
        NIGHTS[0][0]: 4,
    }
    assert {uri: row["size_bytes"] for uri, row in history.done(IMAGES).items()} == seen
    run_compaction(history, NOW)
    assert {uri: row["size_bytes"] for uri, row in history.done(IMAGES).items()} == seen
    assert len(history.seen()["maps"]) == len(history.seen()["scores"])


def test_files_are_merged_within_their_partition(tmp_path: Path) -> None:
    history = History(str(tmp_path), ("site",))
    history.folders = {uri: f"site={'north' if n % 2 else 's%C3%BCd'}" for n, uri in enumerate(NIGHTS[0])}
    history.run("1", NIGHTS[0])
    before = history.seen()
    run_compaction(history, NOW)
    assert history.seen() == before
    assert [row["site"] for row in before["scores"]].count("süd") == 2
    names = [file.name for file in read_results(history.out).files("scores")]
    assert [name.split("/")[1] for name in names] == ["site=north", "site=s%C3%BCd"]


def test_merged_files_are_of_about_the_target_size_and_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "GROUP_BYTES", 1)
    history = History(str(tmp_path))
    history.run("1", [f"/a/{number}.png" for number in range(12)])
    size = read_results(history.out).files("scores")[0].size_bytes
    assert size
    run_compaction(history, NOW, target=3 * size)
    files = read_results(history.out).files("scores")
    assert 2 <= len(files) < 12
    assert all((file.size_bytes or 0) >= size for file in files)
    before = files_of(history.out)
    run_compaction(history, NOW, target=3 * size)
    assert files_of(history.out) == before


def test_the_id_index_stays_exact_when_it_is_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "MAX_ROWS", 4)
    history = two_nights(str(tmp_path))
    history.run("night-2", NIGHTS[2], size=3)
    run_compaction(history, NOW)
    history.require_true_ids(IMAGES)
    (commit,) = read_results(history.out).commits
    assert [file.rows for file in commit.ids] == [4, 4, 4]
    run_compaction(history, NOW)
    assert history.done(NIGHTS[3]) == {}
    history.require_true_ids(IMAGES)


def test_lost_ids_and_records_of_the_first_format_are_compacted_too(tmp_path: Path) -> None:
    history = two_nights(str(tmp_path))
    for number in (1, 2, 3):
        to_format_1(history.out, number, f"2025-03-0{number}T00:00:00+00:00")
    history.run("night-2", NIGHTS[2], size=3)
    Path(history.out, read_snapshot(history.out).commits[-1].ids[0].name).unlink()
    before, runs = history.seen(), read_results(history.out).runs
    run_compaction(history, NOW)
    assert (history.seen(), read_results(history.out).runs) == (before, runs)
    history.require_true_ids(IMAGES)
    assert [name for name in files_of(history.out) if name.startswith("_commits")] == [
        "_commits/00000000000000000002.json"
    ]


def test_ids_that_are_damaged_inside_are_made_again(tmp_path: Path) -> None:
    history = two_nights(str(tmp_path))
    path = Path(history.out, read_snapshot(history.out).commits[0].ids[0].name)
    whole = path.read_bytes()
    for place in range(40, len(whole), len(whole) // 5):
        history = two_nights(str(tmp_path / str(place)))
        before = history.seen()
        path = Path(history.out, read_snapshot(history.out).commits[0].ids[0].name)
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        run_compaction(history, NOW)
        assert history.seen() == before
        history.require_true_ids(IMAGES)


def test_a_plan_changes_nothing(tmp_path: Path) -> None:
    history = two_nights(str(tmp_path))
    before = files_of(history.out)
    lines = list(plan_compaction(history.out, DAY).lines())
    assert lines[0] == "13 small files are to be merged, in 3 kinds and partitions"
    assert files_of(history.out) == before


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no finished scoring run"):
        run_compaction(History(str(tmp_path)))


def test_the_command_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = two_nights(str(tmp_path))
    said = []
    for more in (["--plan"], ["--grace", "0"], ["--grace", "0"]):
        with pytest.raises(SystemExit) as end:
            cli.main(["compact", history.out, *more])
        assert not end.value.code
        said.append(capsys.readouterr().out.splitlines())
    assert said[0][0] == "13 small files are to be merged, in 3 kinds and partitions"
    assert said[1][:2] == [
        "merged 13 files into 3",
        "version 4 is complete: readers need no record before it",
    ]
    assert said[2] == [f"nothing to do: {history.out} is compact"]
    assert not list(Path(history.out, "_leases").iterdir())


def test_a_folder_that_a_run_writes_is_not_compacted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history = two_nights(str(tmp_path))
    before = files_of(history.out)
    with lease(history.out, "night-2"), pytest.raises(SystemExit) as end:
        cli.main(["compact", history.out])
    assert end.value.code == 2
    assert "is being written by run night-2" in capsys.readouterr().err
    assert files_of(history.out) == before


class _Killed(BaseException):
    pass


def _dying_after(writes: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Kill before the next write or removal once there were so many; returns how many there were."""
    done = [0]

    def watched(call: Callable[..., Any]) -> Callable[..., Any]:
        def write(*arguments: Any) -> Any:
            if done[0] == writes:
                raise _Killed
            done[0] += 1
            return call(*arguments)

        return write

    for module, names in (
        (writer, ("put_file", "write_bytes")),
        (commit_log, ("create_file", "write_bytes", "remove_file")),
        (expire, ("remove_file", "write_bytes")),
    ):
        for name in names:
            monkeypatch.setattr(module, name, watched(getattr(module, name)))
    return lambda: done[0]


def test_killed_between_any_two_writes_it_loses_nothing_and_the_next_one_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compact, "WORKERS", 1)
    monkeypatch.setattr(expire, "READERS", 1)
    whole = two_nights(str(tmp_path / "whole"))
    run_compaction(whole, NOW)
    kinds = sorted(name.split("/")[0] for name in files_of(whole.out))
    for writes in range(200):
        history = two_nights(str(tmp_path / str(writes)))
        before = history.seen()
        with monkeypatch.context() as patch:
            _dying_after(writes, patch)
            try:
                run_compaction(history, NOW)
                break
            except _Killed:
                assert history.seen() == before
        history.require_true_ids(IMAGES)
        run_compaction(history, NOW)
        assert history.seen() == before
        history.require_true_ids(IMAGES)
        assert sorted(name.split("/")[0] for name in files_of(history.out)) == kinds, writes
        assert list(run_compaction(history, NOW).lines()) == [f"nothing to do: {history.out} is compact"]
    assert writes > 20


def test_a_compaction_that_stalled_while_a_run_committed_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = two_nights(str(tmp_path))

    def others() -> None:
        history.run("night-2", NIGHTS[2], size=3)

    with pytest.raises(DataError, match="another run has committed"):
        compact.compact(history.out, NOW, others)
    seen = {row["uri"] for row in history.seen()["scores"]}
    assert set(NIGHTS[2]) <= seen
    history.require_true_ids(IMAGES)
    assert [commit.complete for commit in read_results(history.out).commits] == [False] * 4


def test_a_run_that_stalled_until_its_number_was_removed_does_not_commit(tmp_path: Path) -> None:
    history = two_nights(str(tmp_path))
    stalled = history.begin("stalled", NIGHTS[3])  # would be version 4
    history.run("night-2", NIGHTS[2])
    run_compaction(history, NOW)
    age(history.out, 25)
    assert not Path(record_uri(history.out, 4)).exists()
    before = history.seen()
    with pytest.raises(DataError, match="another run has committed"):
        stalled()
    assert history.seen() == before
    assert not Path(record_uri(history.out, 4)).exists()
