from __future__ import annotations

import hashlib
import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysvq.data.manifest import (
    UNSPLIT,
    Row,
    chunks,
    open_manifest,
    read_rows,
    select,
    spool,
    write_manifest,
)
from raysvq.errors import DataError, StorageError
from raysvq.schema import MANIFEST
from raysvq.storage import join, list_objects, write_bytes
from raysvq.tables import ROW_GROUP

WHEN = datetime(2026, 5, 4, 10, tzinfo=UTC)


def _row(number: int, **fields: Any) -> Row:
    row: Row = dict.fromkeys(MANIFEST.names)
    row |= {"image_id": _id(number), "uri": f"/images/{number}.png", "size_bytes": number, "mtime": WHEN}
    row |= {"label": "normal", "split": "train", "meta": [("line", "1"), ("site", "Köln")]}
    return row | fields


def _id(number: int) -> str:
    return hashlib.blake2b(str(number).encode(), digest_size=16).hexdigest()


def _ids(numbers: list[int]) -> pa.Array:
    return pa.array([_id(number) for number in numbers], pa.string())


def test_rows_come_back_as_they_were_written(place: str) -> None:
    rows = [_row(0), _row(1, label="anomalous", mask_uri="/m.png", group="g", captured_at=WHEN, meta=[])]
    uri = join(place, "deep er", "manifest.parquet")
    write_manifest(rows, uri)
    table = open_manifest(uri).to_table()
    assert table.schema.equals(MANIFEST)
    assert table.to_pylist() == rows
    assert [info.uri for info in list_objects(place)] == [uri]


def test_rows_are_streamed_a_row_group_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    spool((_row(number) for number in range(ROW_GROUP + 5)), path, MANIFEST)
    metadata = pq.read_metadata(path)
    sizes = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
    assert sizes == [ROW_GROUP, 5]
    assert [row["size_bytes"] for row in read_rows(path)] == list(range(ROW_GROUP + 5))


def test_a_spool_may_leave_the_split_open_but_a_manifest_may_not(tmp_path: Path) -> None:
    spool([_row(0, split=None)], tmp_path / "spool.parquet", UNSPLIT)
    assert [row["split"] for row in read_rows(tmp_path / "spool.parquet")] == [None]
    with pytest.raises(pa.ArrowInvalid, match="null"):
        write_manifest([_row(0, split=None)], str(tmp_path / "m.parquet"))
    assert not (tmp_path / "m.parquet").exists()


def test_a_failure_among_the_rows_leaves_the_old_manifest(tmp_path: Path) -> None:
    uri = str(tmp_path / "m.parquet")
    write_manifest([_row(0)], uri)

    def failing() -> Any:
        yield _row(1)
        raise DataError("row 2 is wrong")

    with pytest.raises(DataError):
        write_manifest(failing(), uri)
    assert open_manifest(uri).to_table().num_rows == 1
    assert [path.name for path in tmp_path.iterdir()] == ["m.parquet"]


def test_a_manifest_in_a_place_out_of_reach_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot write"):
        write_manifest([_row(0)], str(tmp_path / "file" / "m.parquet"))


def test_select_filters_by_equal_columns(place: str) -> None:
    uri = join(place, "m.parquet")
    labels, splits = ["normal", "anomalous", "normal"], ["train", "train", "test"]
    write_manifest(
        [
            _row(n, label=label, split=split)
            for n, (label, split) in enumerate(zip(labels, splits, strict=True))
        ],
        uri,
    )
    assert select(uri)["size_bytes"].to_pylist() == [0, 1, 2]
    assert select(uri, split="train")["size_bytes"].to_pylist() == [0, 1]
    assert select(uri, split="train", label="anomalous")["size_bytes"].to_pylist() == [1]
    assert select(uri, split="validation").num_rows == 0


def test_a_missing_manifest_says_how_to_make_one(place: str) -> None:
    write_bytes(join(place, "other"), b"x")
    uri = join(place, "none.parquet")
    with pytest.raises(DataError) as failure:
        open_manifest(uri)
    assert str(failure.value) == f"manifest {uri} does not exist; `raysvq index` makes one"


@pytest.mark.parametrize("content", [b"", b"uri,label\n", b"PAR1 and then nothing of the kind PAR1"])
def test_a_manifest_that_is_not_parquet_is_named(place: str, content: bytes) -> None:
    uri = join(place, "m.parquet")
    write_bytes(uri, content)
    with pytest.raises(DataError, match=r"m\.parquet is not Parquet: \S+"):
        open_manifest(uri)


def test_a_parquet_file_of_another_kind_names_what_it_lacks(place: str) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"image_id": ["a"], "uri": ["b"], "label": ["normal"]}), sink)
    write_bytes(join(place, "m.parquet"), sink.getvalue())
    with pytest.raises(DataError, match=r"lacks the columns size_bytes, etag, mtime, mask_uri, split"):
        open_manifest(join(place, "m.parquet"))


@given(st.lists(st.integers()), st.integers(1, 10))
def test_chunks_are_full_but_the_last(items: list[int], size: int) -> None:
    found = list(chunks(iter(items), size))
    assert [item for chunk in found for item in chunk] == items
    assert all(len(chunk) == size for chunk in found[:-1])
    assert all(found)
