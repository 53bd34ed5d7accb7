"""What is left to score, and how it is read."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysvq.data.manifest import open_manifest
from raysvq.errors import DataError, SettingsError
from raysvq.imaging.decode import DecodeError
from raysvq.model.bundle import Bundle
from raysvq.model.engines import EXACT
from raysvq.model.scorer import ImageResult
from raysvq.results.writer import write_unit
from raysvq.schema import MANIFEST
from raysvq.scoring.pending import PendingRows, find_pending
from raysvq.scoring.rows import Row, reject_row, score_row
from raysvq.scoring.work import provenance
from raysvq.settings import ScoringSettings
from tests.commits import commit_run

Source = Callable[..., Row]
CommitRun = Callable[[list[Row], list[Row]], Row]


@pytest.fixture
def commit(tmp_path: Path, result: ImageResult, bundle: Bundle) -> CommitRun:
    """Commits a run with scored and rejected images; returns its provenance."""

    def build(scored: list[Row], rejected: list[Row]) -> Row:
        origin = provenance(bundle, f"run-{len(list(tmp_path.rglob('*.json')))}", "5e77", EXACT)
        scores = [score_row(row, result, bundle.decisions, origin) for row in scored]
        rejects = [reject_row(row, DecodeError("empty", "0 bytes"), origin) for row in rejected]
        tables = {"scores": scores, "rejects": rejects, "maps": []}
        files = write_unit(str(tmp_path / "out"), origin["run_id"], tables, {})
        commit_run(str(tmp_path / "out"), origin, files)
        return origin

    return build


def _manifest(folder: Path, rows: list[Row]) -> ds.Dataset:
    blank = dict.fromkeys(["mask_uri", "group", "defect_type", "captured_at"]) | {"meta": []}
    full = [blank | row for row in rows]
    path = folder / "manifests" / f"{uuid.uuid4().hex}.parquet"
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(full, schema=MANIFEST), path)
    return ds.dataset(path)


def _left(manifest: ds.Dataset, origin: Row, folder: Path, **scoring: Any) -> list[str]:
    pending = find_pending(manifest, str(folder / "out"), origin, ScoringSettings(**scoring), folder)
    ids: list[str] = pq.read_table(pending.path)["image_id"].to_pylist()
    assert pending.images == len(ids)
    assert pending.done == manifest.count_rows() - len(ids)
    return ids


def test_all_is_left_where_nothing_is_committed(tmp_path: Path, source: Source, bundle: Bundle) -> None:
    manifest = _manifest(tmp_path, [source(number) for number in (2, 0, 1)])
    origin = provenance(bundle, "run", "5e77", EXACT)
    assert _left(manifest, origin, tmp_path) == [source(number)["image_id"] for number in (0, 1, 2)]


def test_scored_and_rejected_images_are_done(tmp_path: Path, source: Source, commit: CommitRun) -> None:
    commit([source(0)], [source(1)])
    origin = commit([source(3)], [])
    assert _left(_manifest(tmp_path, [source(n) for n in range(5)]), origin, tmp_path) == [
        source(2)["image_id"],
        source(4)["image_id"],
    ]


@pytest.mark.parametrize("change", [{"size_bytes": 1}, {"etag": "new"}, {"etag": None}], ids=str)
def test_an_image_that_changed_is_left_and_replaces_its_row(
    tmp_path: Path, source: Source, commit: CommitRun, change: Row
) -> None:
    origin = commit([source(0), source(1)], [])
    manifest = _manifest(tmp_path, [source(0), source(1, **change), source(2)])
    pending = find_pending(manifest, str(tmp_path / "out"), origin, ScoringSettings(), tmp_path)
    assert (pending.images, pending.rescored, pending.done) == (2, 1, 1)
    assert pending.rescored_ids().to_pylist() == [source(1)["image_id"]]


@pytest.mark.parametrize(
    ("etag", "later_us", "left"),
    [("same", 10**9, 0), (None, 2, 1), (None, -2, 1), (None, 1, 0), (None, None, 1)],
)
def test_time_decides_where_there_is_no_etag(
    tmp_path: Path, source: Source, commit: CommitRun, etag: str | None, later_us: int | None, left: int
) -> None:
    before = source(0, etag=etag)
    origin = commit([before], [])
    moved = None if later_us is None else before["mtime"] + timedelta(microseconds=later_us)
    later = before | {"mtime": moved}
    assert len(_left(_manifest(tmp_path, [later]), origin, tmp_path)) == left
    assert _left(_manifest(tmp_path, [before]), origin, tmp_path) == []


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (
            [0, 1, 0, 2, 0],
            r"1 images stand in the manifest more than once, such as /plates/0.png \(3 times\)",
        ),
        ([0, 1, 0, 1], r"2 images stand in the manifest more than once, such as /plates/"),
    ],
)
def test_a_repeated_row_is_refused(
    tmp_path: Path, source: Source, bundle: Bundle, rows: list[int], says: str
) -> None:
    origin = provenance(bundle, "run", "5e77", EXACT)
    with pytest.raises(DataError, match=says):
        _left(_manifest(tmp_path, [source(number) for number in rows]), origin, tmp_path)


def test_manifests_in_one_folder_may_not_overlap(tmp_path: Path, source: Source, bundle: Bundle) -> None:
    origin = provenance(bundle, "run", "5e77", EXACT)
    for rows in ([0, 1], [2, 3]):
        _manifest(tmp_path, [source(number) for number in rows])
    assert len(_left(open_manifest(str(tmp_path / "manifests")), origin, tmp_path)) == 4
    _manifest(tmp_path, [source(3), source(4)])
    with pytest.raises(DataError, match=r"1 images .* /plates/3.png \(2 times\); .* in one folder"):
        _left(open_manifest(str(tmp_path / "manifests")), origin, tmp_path)


@pytest.mark.parametrize("field", ["image_id", "uri", "size_bytes"])
def test_a_row_that_names_no_file_is_refused(
    tmp_path: Path, source: Source, bundle: Bundle, field: str
) -> None:
    nullable = pa.schema([each.with_nullable(True) for each in MANIFEST])
    table = pq.read_table(_manifest(tmp_path, [source(0), source(1)]).files[0], schema=nullable)
    values = pa.array([None, table[field][1].as_py()], nullable.field(field).type)
    path = tmp_path / "nulls.parquet"
    pq.write_table(table.set_column(table.column_names.index(field), nullable.field(field), values), path)
    origin = provenance(bundle, "run", "5e77", EXACT)
    with pytest.raises(DataError, match="1 rows of the manifest have no image_id, uri or size_bytes"):
        _left(ds.dataset(path), origin, tmp_path)


def test_an_empty_manifest_leaves_nothing(tmp_path: Path, bundle: Bundle) -> None:
    origin = provenance(bundle, "run", "5e77", EXACT)
    for partition_by in ((), ("site",)):
        assert _left(_manifest(tmp_path, []), origin, tmp_path, partition_by=partition_by) == []


def test_partitions_are_judged_on_the_whole_manifest(
    tmp_path: Path, source: Source, result: ImageResult, bundle: Bundle
) -> None:
    origin = provenance(bundle, "run-1", "5e77", EXACT)
    rows = [source(0, meta=[("site", "north")]), source(1)]
    scores = {"scores": [score_row(rows[0], result, bundle.decisions, origin)], "rejects": [], "maps": []}
    files = write_unit(str(tmp_path / "out"), "u", scores, {rows[0]["image_id"]: "site=north"})
    commit_run(str(tmp_path / "out"), origin, files, partition_by=("site",))
    left = _left(_manifest(tmp_path, rows), origin, tmp_path, partition_by=("site",))
    assert left == [source(1)["image_id"]]
    assert _left(_manifest(tmp_path, rows[:1]), origin, tmp_path, partition_by=("site",)) == []
    night = _manifest(tmp_path, [source(2)])  # none of whose images has a site, as others before
    assert _left(night, origin, tmp_path, partition_by=("site",)) == [source(2)["image_id"]]


@pytest.mark.parametrize("name", ["split=train", "it's", "[a]", "a*b?", 'a "b"', "label=x[1]'"])
def test_a_temporary_folder_may_have_any_name(
    tmp_path: Path, source: Source, commit: CommitRun, name: str
) -> None:
    origin = commit([source(0)], [])
    folder = tmp_path / name
    folder.mkdir()
    manifest = _manifest(tmp_path, [source(0), source(1)])
    pending = find_pending(manifest, str(tmp_path / "out"), origin, ScoringSettings(), folder)
    (row,) = pq.read_table(pending.path, partitioning=None).to_pylist()
    assert (row["image_id"], row["keeps_map"]) == (source(1)["image_id"], True)


@pytest.mark.parametrize("digest", ["model_digest", "settings_digest"])
def test_another_model_or_other_settings_are_named(
    tmp_path: Path, source: Source, commit: CommitRun, digest: str
) -> None:
    origin = commit([source(0), source(1)], []) | {digest: "other"}
    with pytest.raises(DataError, match=r"2 images .* by another model or with other settings"):
        _left(_manifest(tmp_path, [source(0), source(1)]), origin, tmp_path)


@settings(deadline=None)
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
    origin = provenance(bundle, "run", "5e77", EXACT)
    rows = [source(number) for number in range(50)]
    first = _left(_manifest(tmp_path, rows), origin, tmp_path)
    assert first == _left(_manifest(tmp_path, rows[::-1]), origin, tmp_path)
    assert _manifest(tmp_path, rows).count_rows() == len(first)


def test_what_the_store_did_not_hand_out_is_tried_again_when_asked(
    tmp_path: Path, source: Source, bundle: Bundle
) -> None:
    origin = provenance(bundle, "run-1", "5e77", EXACT)
    errors = {1: FileNotFoundError("gone"), 2: DecodeError("corrupt", "cut off"), 3: OSError("reset by peer")}
    rejects = [reject_row(source(number), error, origin) for number, error in errors.items()]
    tables: dict[str, list[Row]] = {"scores": [], "rejects": rejects, "maps": []}
    files = write_unit(str(tmp_path / "out"), "u", tables, {})
    commit_run(str(tmp_path / "out"), origin, files)
    manifest = _manifest(tmp_path, [source(number) for number in (1, 2, 3)])
    assert _left(manifest, origin, tmp_path) == []
    again = _left(manifest, origin, tmp_path, retry_rejected=True)
    assert again == [source(1)["image_id"], source(3)["image_id"]]
    scoring = ScoringSettings(retry_rejected=True)
    rows = [source(1), source(2, size_bytes=1), source(3), source(4)]
    pending = find_pending(_manifest(tmp_path, rows), str(tmp_path / "out"), origin, scoring, tmp_path)
    assert (pending.images, pending.rescored, pending.retried) == (4, 3, 2)


def test_rows_are_sorted_into_partitions(tmp_path: Path, source: Source, bundle: Bundle) -> None:
    origin = provenance(bundle, "run", "5e77", EXACT)
    days = [datetime(2026, 5, 5, 1, tzinfo=UTC), datetime(2026, 5, 4, 23, tzinfo=UTC), None]
    sites = ["north/1", "süd", None]
    rows = [
        source(number, captured_at=day, meta=[("site", site)] if site else [])
        for number, (day, site) in enumerate(zip(days, sites, strict=True))
    ]
    scoring = ScoringSettings(partition_by=("site", "date"))
    pending = find_pending(_manifest(tmp_path, rows), str(tmp_path / "out"), origin, scoring, tmp_path)
    folders = dict(
        zip(*pq.read_table(pending.path, columns=["uri", "folder"]).to_pydict().values(), strict=True)
    )
    assert folders == {
        "/plates/0.png": "site=north%2F1/date=2026-05-05",
        "/plates/1.png": "site=s%C3%BCd/date=2026-05-04",
        "/plates/2.png": "site=__HIVE_DEFAULT_PARTITION__/date=__HIVE_DEFAULT_PARTITION__",
    }


def test_a_partition_key_that_no_image_has_is_named(tmp_path: Path, source: Source, bundle: Bundle) -> None:
    origin = provenance(bundle, "run", "5e77", EXACT)
    with pytest.raises(SettingsError, match=r"scoring\.partition_by.*no image .* has sight"):
        _left(_manifest(tmp_path, [source(0)]), origin, tmp_path, partition_by=("label", "sight"))


def test_other_partitions_than_before_are_refused(tmp_path: Path, source: Source, commit: CommitRun) -> None:
    origin = commit([source(0)], [])
    with pytest.raises(
        DataError, match=r"partitioned by nothing, setting `scoring\.partition_by` says label"
    ):
        _left(_manifest(tmp_path, [source(0)]), origin, tmp_path, partition_by=("label",))


def test_the_group_that_decides_comes_with_the_row(tmp_path: Path, source: Source, bundle: Bundle) -> None:
    rows = [
        source(0, meta=[("camera", "left"), ("line's", "7")], group="lot 1"),
        source(1, meta=[("line's", "8")], group="lot 2"),
        source(2, meta=None),
    ]
    manifest, origin = _manifest(tmp_path, rows), provenance(bundle, "run", "5e77", EXACT)

    def groups(group_by: str | None) -> list[str | None]:
        pending = find_pending(
            manifest, str(tmp_path / "out"), origin, ScoringSettings(), tmp_path, group_by=group_by
        )
        found: list[str | None] = pq.read_table(pending.path)["decision_group"].to_pylist()
        return found

    assert groups(None) == [None, None, None]
    assert groups("camera") == ["left", None, None]
    assert groups("line's") == ["7", "8", None]
    assert groups("group") == ["lot 1", "lot 2", None]
    with pytest.raises(DataError, match=r"`decision\.group_by`: no image of the manifest has 'site'"):
        groups("site")


def test_a_manifest_without_images_needs_no_group(tmp_path: Path, bundle: Bundle) -> None:
    origin = provenance(bundle, "run", "5e77", EXACT)
    manifest = _manifest(tmp_path, [])
    found = find_pending(
        manifest, str(tmp_path / "out"), origin, ScoringSettings(), tmp_path, group_by="site"
    )
    assert found.images == 0
