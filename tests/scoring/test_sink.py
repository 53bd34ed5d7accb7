"""Result files: named by what is in them, whole, and counted in the commit record."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from raysvq import schema
from raysvq.errors import StorageError
from raysvq.imaging.decode import DecodeError
from raysvq.model.bundle import Bundle
from raysvq.model.scorer import ImageResult
from raysvq.scoring.rows import Row, map_row, provenance, reject_row, score_row
from raysvq.scoring.sink import File, unit_name, write_commit, write_unit

Source = Callable[..., Row]


@pytest.fixture
def tables(source: Source, result: ImageResult, bundle: Bundle) -> dict[str, list[Row]]:
    """Two scored images, one rejected, one map."""
    origin = provenance(bundle, "run-1", "5e77")
    return {
        "scores": [score_row(source(number), result, bundle.reference, origin) for number in (1, 2)],
        "rejects": [reject_row(source(3), DecodeError("empty", "0 bytes"), origin)],
        "maps": [map_row(source(2), result)],
    }


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_unit_name_is_stable(source: Source) -> None:
    name = unit_name([source(1), source(2)], "model", "settings")
    assert name == unit_name([source(1), source(2)], "model", "settings")
    assert name == unit_name([source(1, label="unknown"), source(2, split="none")], "model", "settings")
    assert name == "156f94c702c7341abd9935fe"


@pytest.mark.parametrize(
    "change",
    [
        {"image_id": "f" * 32},
        {"size_bytes": 7},
        {"etag": "other"},
        {"etag": None},
        {"mtime": datetime(2025, 3, 4, 5, 6, 7, 9, tzinfo=UTC)},
        {"mtime": None},
    ],
)
def test_unit_name_changes_with_an_image(source: Source, change: dict[str, Any]) -> None:
    before = unit_name([source(1), source(2)], "model", "settings")
    assert unit_name([source(1), source(2, **change)], "model", "settings") != before


def test_unit_name_changes_with_model_settings_and_membership(source: Source) -> None:
    units = [
        ([source(1), source(2)], "model", "settings"),
        ([source(1), source(2)], "other", "settings"),
        ([source(1), source(2)], "model", "other"),
        ([source(1)], "model", "settings"),
        ([source(2), source(1)], "model", "settings"),
        ([source(1), source(2), source(3)], "model", "settings"),
    ]
    assert len({unit_name(*unit) for unit in units}) == len(units)


def test_a_unit_becomes_a_file_of_each_kind(tmp_path: Path, tables: dict[str, list[Row]]) -> None:
    files = write_unit(str(tmp_path), "abc", tables)
    assert files == {
        "scores": [File("scores/part-abc.parquet", 2)],
        "rejects": [File("rejects/part-abc.parquet", 1)],
        "maps": [File("maps/part-abc.parquet", 1)],
    }
    assert _files(tmp_path) == [
        "maps/part-abc.parquet",
        "rejects/part-abc.parquet",
        "scores/part-abc.parquet",
    ]
    read = pq.read_table(tmp_path / "scores/part-abc.parquet")
    assert read.schema.equals(schema.SCORES)
    assert read["image_id"].to_pylist() == [row["image_id"] for row in tables["scores"]]


def test_kinds_without_rows_have_no_file(tmp_path: Path, tables: dict[str, list[Row]]) -> None:
    files = write_unit(str(tmp_path), "abc", tables | {"rejects": [], "maps": []})
    assert files["rejects"] == files["maps"] == []
    assert _files(tmp_path) == ["scores/part-abc.parquet"]


def test_writing_a_unit_again_replaces_it(tmp_path: Path, tables: dict[str, list[Row]]) -> None:
    write_unit(str(tmp_path), "abc", tables)
    write_unit(str(tmp_path), "abc", tables | {"scores": tables["scores"][:1]})
    assert len(_files(tmp_path)) == 3
    assert pq.read_table(tmp_path / "scores/part-abc.parquet").num_rows == 1


def test_a_row_that_does_not_fit_writes_nothing(tmp_path: Path, tables: dict[str, list[Row]]) -> None:
    tables["scores"][1]["image_score"] = "high"
    with pytest.raises((TypeError, ValueError)):
        write_unit(str(tmp_path), "abc", tables)
    assert _files(tmp_path) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, tables: dict[str, list[Row]]) -> None:
    (tmp_path / "scores").write_text("a file, not a folder")
    with pytest.raises(StorageError, match=f"cannot write {tmp_path}/scores/part-abc"):
        write_unit(str(tmp_path), "abc", tables)


def test_the_commit_record_names_files_and_counts_rows(tmp_path: Path, bundle: Bundle) -> None:
    files = {
        "scores": [File("scores/part-b.parquet", 5), File("scores/part-a.parquet", 7)],
        "rejects": [File("rejects/part-b.parquet", 2)],
        "maps": [],
    }
    origin = provenance(bundle, "run-1", "5e77")
    uri = write_commit(str(tmp_path), origin, {"tiles": {"size": 32}}, files, 14)
    assert uri == str(tmp_path / "_commits/run-1.json")
    record = json.loads(Path(uri).read_text())
    assert (record["images"], record["scored"], record["rejected"]) == (14, 12, 2)
    assert [file["name"] for file in record["files"]["scores"]] == [
        "scores/part-a.parquet",
        "scores/part-b.parquet",
    ]
    assert record["files"]["maps"] == []
    assert {name: record[name] for name in origin} == origin
