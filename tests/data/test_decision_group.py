"""The group that an image is decided by."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from raysvq.data.decision_group import group_columns, groups_of, require_groups
from raysvq.errors import DataError
from raysvq.schema import MANIFEST

ROWS = pa.table(
    {"group": ["lot 1", None, "lot 2"], "meta": [[("camera", "left")], None, [("site", "north")]]},
    schema=pa.schema([MANIFEST.field("group"), MANIFEST.field("meta")]),
)


@pytest.mark.parametrize(
    ("group_by", "columns", "groups"),
    [
        (None, [], [None, None, None]),
        ("group", ["group"], ["lot 1", None, "lot 2"]),
        ("camera", ["meta"], ["left", None, None]),
        ("line", ["meta"], [None, None, None]),
    ],
)
def test_it_is_a_column_or_a_key_of_the_metadata(
    group_by: str | None, columns: list[str], groups: list[str | None]
) -> None:
    assert group_columns(group_by) == columns
    assert groups_of(ROWS, group_by) == groups


def test_only_a_column_that_no_image_has_is_refused(tmp_path: Path) -> None:
    pq.write_table(ROWS, tmp_path / "rows.parquet")
    rows = ds.dataset(tmp_path / "rows.parquet")
    for known in (None, "group", "camera", "site"):
        require_groups(rows, known)
    with pytest.raises(DataError, match=r"`decision\.group_by`: no image of the manifest has 'line'"):
        require_groups(rows, "line")
