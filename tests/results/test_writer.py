"""Result files: named by what is in them, whole, and counted in the commit record."""

from __future__ import annotations

import hashlib
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
from raysvq.model.engines import EXACT
from raysvq.model.scorer import ImageResult
from raysvq.results.writer import unit_name, write_unit
from raysvq.scoring.rows import Row, map_row, reject_row, score_row
from raysvq.scoring.work import provenance

Source = Callable[..., Row]
ORIGIN = {"run_id": "run", "model_digest": "model", "settings_digest": "settings"}


@pytest.fixture
def tables(source: Source, result: ImageResult, bundle: Bundle) -> dict[str, list[Row]]:
    """Two scored images, one rejected, one map."""
    origin = provenance(bundle, "run-1", "5e77", EXACT)
    return {
        "scores": [score_row(source(number), result, bundle.decisions, origin) for number in (1, 2)],
        "rejects": [reject_row(source(3), DecodeError("empty", "0 bytes"), origin)],
        "maps": [map_row(source(2), result)],
    }


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_unit_name_is_stable(source: Source) -> None:
    name = unit_name([source(1), source(2)], ORIGIN)
    assert name == unit_name([source(1), source(2)], ORIGIN | {"code_version": "9"})
    assert name == unit_name([source(1, label="unknown"), source(2, split="none")], ORIGIN)
    assert name == "6977215314e39b9193359ee0"


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
    before = unit_name([source(1), source(2)], ORIGIN)
    assert unit_name([source(1), source(2, **change)], ORIGIN) != before


def test_unit_name_changes_with_run_model_settings_and_membership(source: Source) -> None:
    units = [
        ([source(1), source(2)], ORIGIN),
        ([source(1), source(2)], ORIGIN | {"run_id": "other"}),
        ([source(1), source(2)], ORIGIN | {"model_digest": "other"}),
        ([source(1), source(2)], ORIGIN | {"settings_digest": "other"}),
        ([source(1)], ORIGIN),
        ([source(2), source(1)], ORIGIN),
        ([source(1), source(2), source(3)], ORIGIN),
    ]
    assert len({unit_name(*unit) for unit in units}) == len(units)


def test_a_unit_becomes_a_file_of_each_kind(tmp_path: Path, tables: dict[str, list[Row]]) -> None:
    files = write_unit(str(tmp_path), "abc", tables, {})
    assert {kind: [file.rows for file in some] for kind, some in files.items()} == {
        "scores": [2],
        "rejects": [1],
        "maps": [1],
    }
    for kind, (file,) in files.items():
        digest = hashlib.sha256((tmp_path / file.name).read_bytes()).hexdigest()
        assert (file.sha256, file.name) == (digest, f"{kind}/part-abc-{digest[:16]}.parquet")
    assert _files(tmp_path) == sorted(file.name for (file,) in files.values())
    read = pq.read_table(tmp_path / files["scores"][0].name)
    assert read.schema.equals(schema.SCORES)
    assert read["image_id"].to_pylist() == [row["image_id"] for row in tables["scores"]]


def test_kinds_without_rows_have_no_file(tmp_path: Path, tables: dict[str, list[Row]]) -> None:
    files = write_unit(str(tmp_path), "abc", tables | {"rejects": [], "maps": []}, {})
    assert files["rejects"] == files["maps"] == []
    assert _files(tmp_path) == [files["scores"][0].name]


def test_a_unit_that_is_scored_twice_leaves_both_as_they_were(
    tmp_path: Path, tables: dict[str, list[Row]]
) -> None:
    first = write_unit(str(tmp_path), "abc", tables, {})
    second = write_unit(str(tmp_path), "abc", tables | {"scores": tables["scores"][:1]}, {})
    rows = [pq.read_table(tmp_path / files["scores"][0].name).num_rows for files in (first, second)]
    assert rows == [2, 1]
    assert write_unit(str(tmp_path), "abc", tables, {}) == first


def test_a_row_that_does_not_fit_writes_nothing(tmp_path: Path, tables: dict[str, list[Row]]) -> None:
    tables["scores"][1]["image_score"] = "high"
    with pytest.raises((TypeError, ValueError)):
        write_unit(str(tmp_path), "abc", tables, {})
    assert _files(tmp_path) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, tables: dict[str, list[Row]]) -> None:
    (tmp_path / "scores").write_text("a file, not a folder")
    with pytest.raises(StorageError, match=f"cannot write {tmp_path}/scores/part-abc"):
        write_unit(str(tmp_path), "abc", tables, {})
