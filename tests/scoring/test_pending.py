"""What is left to score, and how it is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysvq.data.manifest import tally
from raysvq.errors import DataError
from raysvq.imaging.decode import DecodeError
from raysvq.model.bundle import Bundle
from raysvq.model.scorer import ImageResult
from raysvq.schema import MANIFEST
from raysvq.scoring.pending import PendingRows, find_pending
from raysvq.scoring.rows import Row, provenance, reject_row, score_row
from raysvq.scoring.sink import write_commit, write_unit

Source = Callable[..., Row]
Commit = Callable[[list[Row], list[Row]], Row]


@pytest.fixture
def commit(tmp_path: Path, result: ImageResult, bundle: Bundle) -> Commit:
    """Commits a run with scored and rejected images; returns its provenance."""

    def build(scored: list[Row], rejected: list[Row]) -> Row:
        origin = provenance(bundle, f"run-{len(list(tmp_path.rglob('*.json')))}", "5e77")
        scores = [score_row(row, result, bundle.reference, origin) for row in scored]
        rejects = [reject_row(row, DecodeError("empty", "0 bytes"), origin) for row in rejected]
        tables = {"scores": scores, "rejects": rejects, "maps": []}
        files = write_unit(str(tmp_path / "out"), origin["run_id"], tables)
        write_commit(str(tmp_path / "out"), origin, {}, files, len(scores) + len(rejects))
        return origin

    return build


def _manifest(rows: list[Row]) -> ds.Dataset:
    names = ["mask_uri", "group", "defect_type", "captured_at"]
    full = [row | dict.fromkeys(names) | {"meta": []} for row in rows]
    return ds.dataset(pa.Table.from_pylist(full, schema=MANIFEST))


def _left(manifest: ds.Dataset, origin: Row, folder: Path) -> list[str]:
    pending = find_pending(manifest, str(folder / "out"), origin, folder)
    ids: list[str] = pq.read_table(pending.path)["image_id"].to_pylist()
    assert pending.rows.count == len(ids)
    assert pending.done == manifest.count_rows() - len(ids)
    return ids


def test_all_is_left_where_nothing_is_committed(tmp_path: Path, source: Source, bundle: Bundle) -> None:
    manifest = _manifest([source(number) for number in (2, 0, 1)])
    origin = provenance(bundle, "run", "5e77")
    assert _left(manifest, origin, tmp_path) == [source(number)["image_id"] for number in (0, 1, 2)]


def test_scored_and_rejected_images_are_done(tmp_path: Path, source: Source, commit: Commit) -> None:
    commit([source(0)], [source(1)])
    origin = commit([source(3)], [])
    assert _left(_manifest([source(n) for n in range(5)]), origin, tmp_path) == [
        source(2)["image_id"],
        source(4)["image_id"],
    ]


@pytest.mark.parametrize(
    "change", [{"size_bytes": 1}, {"etag": "new"}, {"etag": None}, {"mtime": None}], ids=str
)
def test_an_image_that_changed_is_named(tmp_path: Path, source: Source, commit: Commit, change: Row) -> None:
    origin = commit([source(0), source(1)], [])
    with pytest.raises(DataError, match=r"1 images .* have changed since, such as /plates/1\.png"):
        _left(_manifest([source(0), source(1, **change)]), origin, tmp_path)


@pytest.mark.parametrize("digest", ["model_digest", "settings_digest"])
def test_another_model_or_other_settings_are_named(
    tmp_path: Path, source: Source, commit: Commit, digest: str
) -> None:
    origin = commit([source(0), source(1)], []) | {digest: "other"}
    with pytest.raises(DataError, match=r"2 images .* by another model or with other settings"):
        _left(_manifest([source(0), source(1)]), origin, tmp_path)


@given(rows=st.integers(1, 60), group=st.integers(1, 25), start=st.integers(0, 70), count=st.integers(1, 40))
def test_any_range_of_rows_is_read_across_row_groups(
    tmp_path_factory: pytest.TempPathFactory, rows: int, group: int, start: int, count: int
) -> None:
    path = tmp_path_factory.mktemp("rows") / "pending.parquet"
    table = pa.table({"number": list(range(rows))})
    pq.write_table(table, path, row_group_size=group)
    reader = PendingRows(str(path))
    for _ in range(2):
        numbers = [row["number"] for row in reader.read(start, count)]
        assert numbers == list(range(rows))[start : start + count]


def test_the_same_rows_are_left_whatever_the_manifests_order(
    tmp_path: Path, source: Source, bundle: Bundle
) -> None:
    origin = provenance(bundle, "run", "5e77")
    rows = [source(number) for number in range(50)]
    first = _left(_manifest(rows), origin, tmp_path)
    assert first == _left(_manifest(rows[::-1]), origin, tmp_path)
    assert tally(_manifest(rows)).count == len(first)
