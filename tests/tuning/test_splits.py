"""Draws of training and validation: the same sizes, other images, groups whole, the test left alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from raysvq.data.manifest import write_manifest
from raysvq.tuning.splits import redraw, with_all_outliers


def _row(number: int, split: str, label: str, group: str | None) -> dict[str, Any]:
    rest = {"size_bytes": 9, "etag": None, "mtime": None, "mask_uri": None, "defect_type": None}
    named = {"image_id": f"{number:032x}", "uri": f"/{number}.png", "split": split, "label": label}
    return named | {"group": group, "captured_at": None, "meta": []} | rest


@pytest.fixture
def manifest(tmp_path: Path) -> str:
    rows = [_row(n, "train" if n % 4 else "validation", "normal", None) for n in range(40)]
    rows += [
        _row(40 + n, "train" if n % 4 else "validation", "anomalous", f"part {n // 2}") for n in range(12)
    ]
    rows += [_row(52 + n, "test", ("normal", "anomalous")[n % 2], None) for n in range(10)]
    rows += [_row(62, "train", "unknown", None)]
    write_manifest(rows, str(tmp_path / "manifest.parquet"))
    return str(tmp_path / "manifest.parquet")


def _splits(manifest: str) -> dict[str, tuple[str, str, str | None]]:
    rows = pq.read_table(manifest).to_pylist()
    return {row["uri"]: (row["split"], row["label"], row["group"]) for row in rows}


def test_a_redraw_keeps_sizes_groups_and_the_test(manifest: str, tmp_path: Path) -> None:
    before = _splits(manifest)
    draws = [_splits(redraw(manifest, str(tmp_path / f"{n}.parquet"), n)) for n in (1, 2)]
    assert draws[0] != draws[1]
    assert draws[0] == _splits(redraw(manifest, str(tmp_path / "again.parquet"), 1))
    for after in draws:
        assert list(after) == list(before)
        assert {uri: row[1:] for uri, row in after.items()} == {uri: row[1:] for uri, row in before.items()}
        assert [u for u, row in after.items() if row[0] == "test"] == [
            u for u, row in before.items() if row[0] == "test"
        ]
        assert after["/62.png"] == before["/62.png"]
        validating = [row for row in after.values() if row[0] == "validation"]
        assert sum(label == "normal" for _, label, _ in validating) == 10
        assert sum(label == "anomalous" for _, label, _ in validating) in (3, 4)  # parts have two images
        for part in {group for _, _, group in after.values() if group}:
            assert len({split for split, _, group in after.values() if group == part}) == 1


def test_groups_that_are_too_large_do_not_validate(tmp_path: Path) -> None:
    made = str(tmp_path / "manifest.parquet")
    rows = [_row(n, "train", "normal", "A") for n in range(90)]
    rows += [_row(90 + n, "train", "normal", "B") for n in range(12)]
    rows += [_row(102 + n, "validation", "normal", f"c{n}") for n in range(10)]
    write_manifest(rows, made)
    for number in range(1, 8):
        after = _splits(redraw(made, str(tmp_path / f"{number}.parquet"), number))
        assert 8 <= sum(split == "validation" for split, *_ in after.values()) <= 20
    rows = [_row(n, "train", "normal", "A") for n in range(90)]
    rows += [_row(90 + n, "train" if n else "validation", "normal", "B") for n in range(12)]
    write_manifest(rows, made)
    after = _splits(redraw(made, str(tmp_path / "one.parquet"), 1))
    assert {group for split, _, group in after.values() if split == "validation"} == {"B"}, "one has to"


def test_draw_0_is_the_manifest_itself(manifest: str, tmp_path: Path) -> None:
    assert redraw(manifest, str(tmp_path / "none.parquet"), 0) == manifest
    assert not (tmp_path / "none.parquet").exists()


def test_refitting_moves_the_outliers_of_validation_alone(manifest: str, tmp_path: Path) -> None:
    after = _splits(with_all_outliers(manifest, str(tmp_path / "refit.parquet")))
    for uri, (split, label, group) in _splits(manifest).items():
        moved = split == "validation" and label == "anomalous"
        assert after[uri] == ("train" if moved else split, label, group)
