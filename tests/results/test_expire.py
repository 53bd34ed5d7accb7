"""What a compaction removes: what was replaced long enough ago, and nothing that a run may still need."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from raysvq.errors import DataError
from raysvq.results import SCHEMAS, Snapshot, compact, open_results, read_results
from raysvq.results.commit_log import record_uri
from raysvq.results.expire import Expired
from tests.results.history import History
from tests.results.test_compact import DAY, IMAGES, NIGHTS, NOW, age, files_of, run_compaction, two_nights


def test_what_was_replaced_goes_after_the_grace_time(tmp_path: Path) -> None:
    history = two_nights(str(tmp_path))
    opened = {kind: open_results(history.out, kind) for kind in SCHEMAS}
    tables = {kind: dataset.to_table() for kind, dataset in opened.items()}
    before = history.seen()
    run_compaction(history)
    assert {kind: dataset.to_table() for kind, dataset in opened.items()} == tables
    age(history.out, 23)
    run_compaction(history)
    assert {kind: dataset.to_table() for kind, dataset in opened.items()} == tables
    age(history.out, 25)
    found = run_compaction(history)
    assert history.seen() == before
    history.require_true_ids(IMAGES)
    (commit,) = read_results(history.out).commits
    named = {file.name for files in (*commit.files.values(), commit.ids) for file in files}
    assert files_of(history.out) == named | {"_commits/00000000000000000004.json"}
    assert len(found.expired.records) == 3
    assert found.expired.leftovers == []


def test_each_record_counts_its_own_time(tmp_path: Path) -> None:
    """Though every day has a compaction of its own."""
    history = two_nights(str(tmp_path))
    run_compaction(history)
    age(history.out, 25)
    history.run("night-2", NIGHTS[2])
    found = run_compaction(history)
    assert found.expired.records == [f"_commits/{number:020d}.json" for number in (1, 2, 3)]
    assert {number: Path(record_uri(history.out, number)).exists() for number in (4, 5, 6)} == dict.fromkeys(
        (4, 5, 6), True
    )


def test_what_interrupted_scoring_runs_have_finished_stays(tmp_path: Path) -> None:
    history = two_nights(str(tmp_path))
    history.begin("interrupted", NIGHTS[3])
    units = {name for name in files_of(history.out) if "part-" in name}
    current = {file.name for kind in SCHEMAS for file in read_results(history.out).files(kind)}
    run_compaction(history, NOW)
    left = {name for name in units - current if "interrupted" in Path(history.out, name).name}
    assert left
    assert left <= files_of(history.out)


@pytest.mark.parametrize("killed", [False, True])
def test_a_compaction_that_stalled_before_it_removed_takes_nothing_that_runs_have_written_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    """Rows that are left of a file may be the same ones as in a file that is to go."""
    history = History(str(tmp_path))
    history.run("night-0", NIGHTS[0])
    run_compaction(history, NOW)
    first = history.begin("first", NIGHTS[0][:1], size=2)
    if not killed:
        first()
        run_compaction(history, DAY)
    age(history.out, 25)
    remove = compact.remove_expired

    def stalled(scores: str, expired: Expired) -> None:
        history.run("second", NIGHTS[0][:1], size=2)
        remove(scores, expired)

    monkeypatch.setattr(compact, "remove_expired", stalled)
    found = run_compaction(history, DAY)
    assert any("rewritten-" in name for name in found.expired.leftovers + found.expired.files)
    assert len(history.seen()["scores"]) == len(NIGHTS[0])
    history.require_true_ids(IMAGES)


def test_leftovers_of_a_run_that_began_since_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history = two_nights(str(tmp_path))
    begun: list[Callable[[], str]] = []

    def late(scores: str) -> Snapshot:
        if (snapshot := read_results(scores)).version == 4:
            begun.append(history.begin("second", NIGHTS[0][:1], size=2))
        return snapshot

    monkeypatch.setattr(compact, "read_results", late)
    run_compaction(history, NOW)
    begun[0]()
    assert len(history.seen()["scores"]) == 5
    history.require_true_ids(IMAGES)


def test_leftovers_go_only_under_a_new_number(tmp_path: Path) -> None:
    """A run that wrote them and stalled would otherwise commit files that are gone."""
    history = two_nights(str(tmp_path))
    run_compaction(history, NOW)
    stalled = history.begin("stalled", NIGHTS[0][:1], size=9)
    made = {name for name in files_of(history.out) if name.startswith("_ids/") or "rewritten-" in name}
    assert run_compaction(history, DAY).version == 0
    assert made <= files_of(history.out)
    found = run_compaction(history, NOW)
    assert (found.version, len(found.expired.leftovers) > 0) == (5, True)
    assert list(run_compaction(history, NOW).lines()) == [f"nothing to do: {history.out} is compact"]
    before = history.seen()
    with pytest.raises(DataError, match="another run has committed"):
        stalled()
    assert history.seen() == before
