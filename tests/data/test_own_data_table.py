"""The table "What becomes of each layout and name" of docs/own-data.md, every row of it tried."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from raysvq.data.index import build_index
from raysvq.data.manifest import open_manifest
from raysvq.errors import DataError
from raysvq.settings import SplitSettings
from tests.data.folders import LAYOUTS, MASK, PICTURE, Special
from tests.data.listings import LISTINGS
from tests.tables import outcomes

TABLE = outcomes("What becomes of each layout and name")
CASES: dict[str, list[Any]] = LAYOUTS | LISTINGS


def test_every_row_of_the_table_is_tried() -> None:
    assert list(TABLE) == list(CASES)


@pytest.mark.parametrize(
    ("row", "case"),
    [
        pytest.param(row, case, id=f"{place}-{number}-{row[:40]}")
        for place, (row, cases) in enumerate(CASES.items())
        for number, case in enumerate(cases)
    ],
)
def test_the_outcome_is_what_the_table_says(row: str, case: Any, tmp_path: Path) -> None:
    source = _build(tmp_path / "set", case)
    found, text = _index(source, tmp_path / "manifest.parquet")
    kind, expected = TABLE[row].partition(":")[0].split(" as ")[0], re.findall("`([^`]+)`", TABLE[row])
    assert found == kind, text
    assert expected
    assert [phrase for phrase in expected if phrase not in text] == [], text


def _build(root: Path, case: dict[str, bytes] | list[str] | Special) -> Path:
    """Files by name, names of pictures, or what needs more than files."""
    root.mkdir()
    if callable(case):
        return case(root) or root
    contents = case if isinstance(case, dict) else dict.fromkeys(case)
    for name, content in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if content is not None else MASK if "_mask" in name else PICTURE)
    return root / next((name for name in contents if name.startswith("listing.")), "")


def _index(source: Path, manifest: Path) -> tuple[str, str]:
    """What became of it, and every word that was said or written."""
    try:
        summary = build_index(str(source), str(manifest), SplitSettings())
    except DataError as error:
        return "refused", str(error)
    rows = open_manifest(str(manifest)).to_table().to_pylist()
    text = "\n".join([*summary.lines(), *(_said(row) for row in rows)])
    if not summary.skipped.counts:
        return "read", text
    assert {Path(row["uri"]).name for row in rows} <= {"kept.png", "0.png", "1.png"}
    return "left out", text


def _said(row: dict[str, Any]) -> str:
    meta = " ".join(f"{key}={value}" for key, value in row["meta"])
    labels = " ".join(filter(None, [row["split"], row["label"], row["defect_type"]]))
    return f"{labels}, group: {row['group']}, captured_at: {row['captured_at']}, meta: {meta}"
