"""Numbered commits: of runs that read the same version one can publish, and no clock decides which."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from raysvq.errors import DataError
from raysvq.results import commit_log, compact, read_results, read_snapshot
from raysvq.results.commit_log import record_uri
from raysvq.results.format import FORMAT, Commit
from raysvq.storage import read_bytes, write_bytes
from tests.results.history import History

A, B, C = (f"/night/{name}.png" for name in "abc")


def _scored(history: History) -> list[str]:
    return sorted(row["uri"] for row in history.seen()["scores"])


def _runs(out: str) -> list[str]:
    return [run.run_id for run in read_snapshot(out).runs]


def test_a_record_says_the_same_after_reading(place: str) -> None:
    History(place, ("site",)).run("1", [A, B], [C])
    uri = record_uri(place, 1)
    content = read_bytes(uri)
    commit = Commit.from_json(json.loads(content), uri)
    assert commit.to_json() == content
    (run,) = commit.runs
    assert (commit.version, run.images, run.scored, run.rejected, commit.rows) == (1, 3, 2, 1, 3)
    assert (commit.partition_by, run.run_ids, commit.complete) == (("site",), ("1",), False)


def test_of_runs_that_read_the_same_version_one_commits(place: str) -> None:
    history = History(place)
    history.run("0", [A])
    begun = [history.begin(str(number), [B]) for number in range(1, 7)]

    def end(publish: Any) -> str | None:
        try:
            publish()
        except DataError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(6) as pool:
        said = list(pool.map(end, begun))
    assert said.count(None) == 1
    (one,) = {text for text in said if text}
    assert f"{place}: another run has committed since this one read version 1" in one
    assert "takes over the work units that are finished" in one
    assert _runs(place) == ["0", str(said.index(None) + 1)]
    assert _scored(history) == [A, B]


def test_a_driver_that_stalled_while_others_committed_does_not(place: str) -> None:
    history = History(place)
    stalled = history.begin("stalled", [A])
    history.run("1", [A])
    history.run("2", [B])
    before = history.seen()
    with pytest.raises(DataError, match="nothing of this one is committed"):
        stalled()
    assert history.seen() == before
    assert _runs(place) == ["1", "2"]


def test_an_answer_that_was_lost_is_no_other_run(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that created the record, and says that it is there when asked again."""
    create = commit_log.create_file

    def lost(uri: str, content: bytes) -> bool:
        create(uri, content)
        return False

    monkeypatch.setattr(commit_log, "create_file", lost)
    History(place).run("1", [A])
    assert _runs(place) == ["1"]


@pytest.mark.parametrize("compacted", [False, True])
def test_a_driver_that_stalled_behind_its_record_has_committed(
    place: str, monkeypatch: pytest.MonkeyPatch, compacted: bool
) -> None:
    """Others build on the record before the driver looks at the log again."""
    history = History(place)
    create = commit_log.create_file

    def stalled(uri: str, content: bytes) -> bool:
        monkeypatch.setattr(commit_log, "create_file", create)
        created = create(uri, content)
        history.run("2", [B])
        if compacted:
            compact.compact(place, timedelta(0), lambda: None)
        return created

    monkeypatch.setattr(commit_log, "create_file", stalled)
    history.run("1", [A])
    assert (_runs(place), _scored(history)) == (["1", "2"], [A, B])
    assert list(history.done([A, B])) == [A, B]


@pytest.mark.parametrize("left", [b"", b'{"format": 2, "version": 2, "runs"'], ids=["empty", "half"])
def test_a_record_that_was_cut_off_is_none_and_gives_way(place: str, left: bytes) -> None:
    history = History(place)
    history.run("1", [A])
    write_bytes(record_uri(place, 2), left)
    assert (_runs(place), _scored(history)) == (["1"], [A])
    history.run("2", [B])
    assert (_runs(place), _scored(history)) == (["1", "2"], [A, B])


def test_a_damaged_or_missing_record_is_named(tmp_path: Path) -> None:
    history = History(str(tmp_path))
    for number, uri in enumerate((A, B, C)):
        history.run(str(number), [uri])
    second = Path(record_uri(history.out, 2))
    second.write_bytes(second.read_bytes()[:-5])
    with pytest.raises(DataError, match=rf"{second} is damaged"):
        read_snapshot(history.out)
    second.unlink()
    with pytest.raises(DataError, match=rf"{second} is missing; put it back"):
        read_snapshot(history.out)
    Path(record_uri(history.out, 1)).unlink()
    Path(record_uri(history.out, 3)).rename(second)
    with pytest.raises(DataError, match="is missing; put it back"):
        read_snapshot(history.out)
    second.write_bytes(b"")
    with pytest.raises(DataError, match="is missing; put it back"):
        read_snapshot(history.out)


def test_a_record_without_a_field_is_named(tmp_path: Path) -> None:
    History(str(tmp_path)).run("1", [A])
    path = Path(record_uri(str(tmp_path), 1))
    values = json.loads(path.read_text())
    del values["files"]
    path.write_text(json.dumps(values))
    with pytest.raises(DataError, match=rf"{path} is damaged: its field 'files'"):
        read_snapshot(str(tmp_path))


def test_a_record_of_a_later_format_is_refused_with_what_to_do(tmp_path: Path) -> None:
    History(str(tmp_path)).run("1", [A])
    path = Path(record_uri(str(tmp_path), 1))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": FORMAT + 1}))
    with pytest.raises(DataError, match=rf"{path} has format {FORMAT + 1}.*update raysvq"):
        read_results(str(tmp_path))


def test_records_of_the_first_format_come_before_the_numbered_ones(tmp_path: Path) -> None:
    """As raysvq 0.1 wrote them: flat, named after their run, rewritten files among the others."""
    history = History(str(tmp_path))
    history.run("b", [A, B], [C])
    history.run("a", [A], size=2)
    for number, when in ((1, "2025-03-03T00:00:00+00:00"), (2, "2025-03-04T00:00:00+00:00")):
        to_format_1(history.out, number, when)
    assert not list(Path(history.out, "_ids").iterdir())
    assert _runs(history.out) == ["b", "a"]
    assert {row["uri"]: row["image_score"] for row in history.seen()["scores"]} == {A: 2.0, B: 1.0}
    assert read_snapshot(history.out).version == 0
    assert {uri: row["size_bytes"] for uri, row in history.done([A, B, C]).items()} == {A: 2, B: 1, C: 1}
    history.run("c", [B], size=3)
    assert _runs(history.out) == ["b", "a", "c"]
    assert {row["uri"]: row["image_score"] for row in history.seen()["scores"]} == {A: 2.0, B: 3.0}
    history.require_true_ids([A, B, C])


def to_format_1(out: str, number: int, when: str) -> None:
    """Write a numbered record anew as the first format had it; its ids go."""
    path = Path(record_uri(out, number))
    commit = Commit.from_json(json.loads(path.read_text()), str(path))
    (run,) = commit.runs
    names = ("run_id", "model_version", "model_digest", "settings_digest", "code_version", "precision")
    record = {name: getattr(run, name) for name in (*names, "images", "scored", "rejected")}
    kinds = ("scores", "rejects", "maps")
    record |= {
        "created_at": when,
        "settings": {},
        "partition_by": [],
        "heatmaps": [],
        "run_ids": [run.run_id],
    }
    record["files"] = {
        kind: [
            {"name": file.name, "rows": file.rows, "sha256": file.sha256}
            for file in (*commit.files[kind], *commit.kept[kind])
        ]
        for kind in kinds
    }
    record["replaced"] = {
        kind: [name for name in commit.replaced if name.startswith(f"{kind}/")] for kind in kinds
    }
    path.with_name(f"{run.run_id}.json").write_text(json.dumps(record, indent=1))
    path.unlink()
    for file in commit.ids:
        Path(out, file.name).unlink()
