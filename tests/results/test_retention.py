"""Rows of old dates go by a commit: readers, the id index and compactions know nothing of them any more."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest

from raysvq.errors import DataError
from raysvq.results import open_results, read_snapshot
from raysvq.results.compact import compact
from raysvq.results.retention import drop_before, files_before
from tests.results.history import History

OLD, NEW = "date=2026-05-04", "date=2026-05-05"
DAY = date(2026, 5, 5)


def held() -> None:
    """The lease is held."""


@pytest.fixture
def history(tmp_path: Path) -> History:
    """Two runs over images of two dates; one image is replaced, one has no date."""
    folders = {"/x/a": OLD, "/x/b": OLD, "/x/c": NEW, "/x/d": "date=__HIVE_DEFAULT_PARTITION__"}
    history = History(str(tmp_path), ("date",), folders)
    history.run("r1", ["/x/a", "/x/b", "/x/c"], ["/x/d"])
    history.run("r2", ["/x/a"], size=2)
    return history


def uris(history: History) -> list[str]:
    """Images that readers see."""
    seen = history.seen()
    return sorted(row["uri"] for kind in ("scores", "rejects") for row in seen[kind])


def test_rows_of_earlier_dates_go_and_readers_who_opened_before_read_on(history: History) -> None:
    reader = open_results(history.out, "scores")
    gone = drop_before(history.out, DAY, held)
    assert sorted(file.name.split("/")[0] for file in gone) == ["maps", "maps", "scores", "scores"]
    assert uris(history) == ["/x/c", "/x/d"]
    assert sorted(reader.to_table()["uri"].to_pylist()) == ["/x/a", "/x/b", "/x/c"]
    assert read_snapshot(history.out).version == 3
    assert drop_before(history.out, DAY, held) == []
    assert files_before(read_snapshot(history.out), DAY) == []


def test_nothing_is_done_of_what_was_dropped_before_and_after_a_compaction(
    history: History, capsys: pytest.CaptureFixture[str]
) -> None:
    drop_before(history.out, DAY, held)
    assert list(history.done(["/x/a", "/x/b", "/x/c", "/x/d"])) == ["/x/c", "/x/d"]
    compact(history.out, timedelta(0), held)
    assert list(history.done(["/x/a", "/x/b", "/x/c", "/x/d"])) == ["/x/c", "/x/d"]
    assert uris(history) == ["/x/c", "/x/d"]
    assert "made again" not in capsys.readouterr().err  # the id index
    assert not list(Path(history.out).glob(f"*/{OLD}/*.parquet"))


def test_an_image_that_was_dropped_can_be_scored_again(history: History) -> None:
    drop_before(history.out, DAY, held)
    history.run("r3", ["/x/a"], size=3)
    assert uris(history) == ["/x/a", "/x/c", "/x/d"]


def test_a_run_that_committed_meanwhile_stops_it(history: History) -> None:
    with pytest.raises(DataError, match="another run has committed"):
        drop_before(history.out, DAY, lambda: history.run("r3", ["/x/c"], size=2))
    assert uris(history) == ["/x/a", "/x/b", "/x/c", "/x/d"]
