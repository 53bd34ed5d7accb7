"""Entries made from commits: the same from each one, once they are merged, and from rewritten files."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from raysvq.errors import DataError
from raysvq.fleet.planning import committed
from raysvq.fleet.planning.committed import entries_of_commit, entries_since
from raysvq.ledger.records import ENTRIES
from raysvq.results import read_snapshot
from raysvq.results.compact import compact
from tests.fleet.plant import FIRST, Plant


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    """A camera with three commits; the last one replaces an image of the first."""
    plant = Plant(tmp_path)
    plant.land("a", "a1", "a2")
    plant.inspect()
    plant.land("a", "a3")
    plant.broken.add(plant.uri("a", FIRST, "a3"))
    plant.inspect()
    plant.broken.clear()
    plant.land("a", "a1", version=2)
    plant.land("a", "a3", version=2)
    plant.inspect()
    return plant


def rows(tables: list[pa.Table]) -> list[tuple[str, int, int, str]]:
    """In short: URI, size, version and outcome."""
    for table in tables:
        assert table.schema == ENTRIES
        assert len(table["version"].unique()) == 1
    found = [row for table in tables for row in table.to_pylist()]
    return [(row["uri"][-6:-4], row["size_bytes"], row["version"], row["outcome"]) for row in found]


LAST = [("a1", 2, 3, "scored"), ("a3", 2, 3, "scored")]


def test_entries_of_one_commit(plant: Plant) -> None:
    folder = plant.camera("a").folder(plant.out)
    (table,) = entries_of_commit("a", folder, 3)
    assert sorted(rows([table])) == LAST
    (row, _) = table.to_pylist()
    assert (row["camera"], row["date"], row["run_id"], row["policy"]) == ("a", FIRST, "run-3", "paper")
    assert row["is_anomalous"] is False
    assert row["committed_at"].isoformat() == read_snapshot(folder).runs[-1].created_at
    (table,) = entries_of_commit("a", folder, 2)
    assert rows([table]) == [("a3", 1, 2, "not_found")]
    with pytest.raises(DataError, match=r"00000000000000000009.json is gone"):
        list(entries_of_commit("a", folder, 9))


def test_entries_since_a_version_come_by_commit(plant: Plant) -> None:
    folder = plant.camera("a").folder(plant.out)
    assert list(entries_since("a", folder, 3)) == []
    assert sorted(rows(list(entries_since("a", folder, 2)))) == LAST
    found = rows(list(entries_since("a", folder, 0)))
    assert found[0] == ("a2", 1, 1, "scored")  # a1 of then is replaced, and so is a3
    assert sorted(found[1:]) == LAST


def test_merged_commits_are_read_by_their_ids(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = plant.camera("a").folder(plant.out)
    before = {known: sorted(rows(list(entries_since("a", folder, known)))) for known in range(4)}
    compact(folder, timedelta(0), lambda: None)
    assert {known: sorted(rows(list(entries_since("a", folder, known)))) for known in range(4)} == before
    versions = [row[2] for row in rows(list(entries_since("a", folder, 0)))]
    assert versions == sorted(versions)
    monkeypatch.setattr(committed, "fetch", None)  # ids with nothing later are not fetched
    assert list(entries_since("a", folder, 3)) == []


def test_large_files_are_read_as_small_ones(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = plant.camera("a").folder(plant.out)
    small = rows(list(entries_since("a", folder, 0)))
    monkeypatch.setattr(committed, "SMALL", 0)
    monkeypatch.setattr(committed, "TABLE_ROWS", 1)
    assert sorted(rows(list(entries_since("a", folder, 0)))) == sorted(small)
