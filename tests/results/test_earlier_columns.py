"""Folders of earlier versions, whose score rows lack columns: read, rewritten and compacted."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysvq.results import SCHEMAS, committed_files, compact, open_results, read_results
from raysvq.results.writer import write_unit
from raysvq.schema import SCORES, SIGNAL_FIELDS
from raysvq.storage import join
from tests.commits import ORIGIN, commit_run
from tests.results.history import History, score

EARLIER = ["/a.png", "/b.png", "/c.png"]
DECIDED = ["p_value", "margin", "policy", "decision_group", "decisions_digest"]
ADDED = [*DECIDED, *(field.name for field in SIGNAL_FIELDS)]


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> History:
    """A night of an earlier version."""
    history = History(str(tmp_path / "out"))
    earlier = pa.schema([field for field in SCORES if field.name not in ADDED])
    rows = {"scores": [score(uri, "earlier") for uri in EARLIER], "rejects": [], "maps": []}
    with monkeypatch.context() as patch:
        patch.setitem(SCHEMAS, "scores", earlier)
        files = write_unit(history.out, "unit", rows, {})
        commit_run(history.out, ORIGIN | {"run_id": "earlier"}, files)
    (file,) = files["scores"]
    assert set(ADDED).isdisjoint(pq.read_schema(join(history.out, file.name)).names)
    return history


def _columns(history: History) -> dict[str, tuple[str | None, float | None]]:
    rows = open_results(history.out, "scores").to_table().to_pylist()
    return {row["uri"]: (row["policy"], row["margin"]) for row in rows}


def test_what_they_lack_is_null(history: History) -> None:
    history.run("now", ["/e.png"], [])
    assert _columns(history) == dict.fromkeys(EARLIER, (None, None)) | {"/e.png": ("paper", -0.5)}


def test_duckdb_reads_them_beside_later_files(history: History) -> None:
    """As a view, and by the files themselves, as docs/results.md says."""
    history.run("now", ["/e.png"], [])
    connection = duckdb.connect()
    connection.register("scores", open_results(history.out, "scores"))
    counted = "select count(*), count(policy), count(*) filter (margin < 0) from"
    assert connection.sql(f"{counted} scores").fetchall() == [(4, 1, 1)]
    assert connection.sql("select uri from scores where policy = 'paper'").fetchall() == [("/e.png",)]
    files = committed_files(history.out, "scores")
    read = f"{counted} read_parquet($files, hive_partitioning = true, union_by_name = true)"
    for order in (files, files[::-1]):
        assert duckdb.sql(read, params={"files": order}).fetchall() == [(4, 1, 1)]


def test_images_that_changed_are_taken_out_of_them(history: History) -> None:
    history.run("now", ["/b.png"], ["/c.png"], size=2)
    assert _columns(history) == {"/a.png": (None, None), "/b.png": ("paper", 0.0)}
    assert len(history.done(EARLIER)) == 3


def test_they_are_merged_with_later_files(history: History) -> None:
    history.run("now", ["/e.png"], [])
    before = _columns(history)
    compact.compact(history.out, timedelta(days=1), lambda: None)
    (file,) = read_results(history.out).files("scores")
    assert pq.read_schema(join(history.out, file.name)).names == SCORES.names
    assert _columns(history) == before
