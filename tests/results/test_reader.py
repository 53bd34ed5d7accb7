"""Readers see the files of finished runs, whole, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from raysvq import schema
from raysvq.errors import DataError
from raysvq.results import committed_files, open_results, read_commits, read_results, read_scores
from raysvq.results.commit_log import record_uri
from raysvq.results.format import Files
from raysvq.results.writer import write_unit
from tests.commits import ORIGIN, commit_run
from tests.results.history import reject, score


def _write(folder: Path, unit: str, scores: list[str], rejects: list[str]) -> Files:
    rows = {
        "scores": [score(f"/{name}.png", ORIGIN["run_id"]) for name in scores],
        "rejects": [reject(f"/{name}.png", ORIGIN["run_id"]) for name in rejects],
    }
    return write_unit(str(folder), unit, rows | {"maps": []}, {})


def _finish(folder: Path, run: str, files: Files) -> None:
    commit_run(str(folder), ORIGIN | {"run_id": run}, files)


def _ids(folder: Path) -> list[str]:
    found: list[str] = read_scores(str(folder), ["uri"])["uri"].to_pylist()
    return sorted(uri.strip("/").removesuffix(".png") for uri in found)


def test_a_finished_run_is_read_in_full(tmp_path: Path) -> None:
    one, two = _write(tmp_path, "u1", ["a", "b"], ["c"]), _write(tmp_path, "u2", ["d"], [])
    _finish(tmp_path, "run-1", {kind: one[kind] + two[kind] for kind in one})
    table = read_scores(str(tmp_path))
    assert table.schema.equals(schema.SCORES)
    assert _ids(tmp_path) == ["a", "b", "d"]
    assert open_results(str(tmp_path), "rejects").to_table()["uri"].to_pylist() == ["/c.png"]
    assert committed_files(str(tmp_path), "scores") == [
        f"{tmp_path}/{files['scores'][0].name}" for files in (one, two)
    ]


def test_files_that_no_record_names_are_invisible(tmp_path: Path) -> None:
    _finish(tmp_path, "run-1", _write(tmp_path, "u1", ["a"], []))
    _write(tmp_path, "u2", ["left over"], ["left over too"])
    (tmp_path / "scores/.part-u3.parquet.123.partial").write_bytes(b"PAR1 cut off")
    (tmp_path / "scores/part-u4.parquet").write_bytes(b"not parquet")
    assert _ids(tmp_path) == ["a"]
    assert open_results(str(tmp_path), "rejects").count_rows() == 0


@pytest.mark.parametrize("kind", ["scores", "rejects", "maps"])
def test_a_kind_without_rows_is_an_empty_table(tmp_path: Path, kind: str) -> None:
    _finish(tmp_path, "run-1", {"scores": [], "rejects": [], "maps": []})
    table = open_results(str(tmp_path), kind).to_table()
    assert table.num_rows == 0
    assert "image_id" in table.column_names


def test_a_folder_without_a_finished_run_says_so(tmp_path: Path) -> None:
    _write(tmp_path, "u1", ["a"], [])
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataError, match=f"{folder} holds no finished scoring run"):
            read_scores(str(folder))


@pytest.mark.parametrize("whole", [True, False])
def test_a_record_that_was_being_written_is_no_record(tmp_path: Path, whole: bool) -> None:
    _finish(tmp_path, "run-1", _write(tmp_path, "u1", ["a"], []))
    record = Path(record_uri(str(tmp_path), 1))
    content = record.read_bytes()
    record.unlink()
    partial = record.with_name(f".{record.name}.0f0f.partial")
    partial.write_bytes(content if whole else content[:40])
    with pytest.raises(DataError, match="holds no finished scoring run"):
        read_commits(str(tmp_path))
    _finish(tmp_path, "run-2", _write(tmp_path, "u1", ["a"], []))
    assert [run.run_id for commit in read_commits(str(tmp_path)) for run in commit.runs] == ["run-2"]
    assert _ids(tmp_path) == ["a"]


def test_runs_are_listed_oldest_first_and_a_file_in_two_of_them_counts_once(tmp_path: Path) -> None:
    files = _write(tmp_path, "u1", ["a"], [])
    for run in ("run-b", "run-a"):
        _finish(tmp_path, run, files)
    assert [run.run_id for run in read_results(str(tmp_path)).runs] == ["run-b", "run-a"]
    assert _ids(tmp_path) == ["a"]


def test_a_folder_may_have_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "résultats #3 100% ?"
    _finish(folder, "run-1", _write(folder, "u1", ["a"], []))
    assert _ids(folder) == ["a"]


@pytest.mark.parametrize("name", ["._run-1.json", ".run-1.json.0123.partial", ".nfs0001.json"])
def test_what_file_systems_leave_beside_the_records_is_none(tmp_path: Path, name: str) -> None:
    _finish(tmp_path, "run-1", _write(tmp_path, "u1", ["a"], []))
    Path(tmp_path, "_commits", name).write_bytes(b"\x00\x05\x16\x07Mac OS X")
    assert _ids(tmp_path) == ["a"]
