"""Rows taken out of committed files: copied on write, and seen only once they are committed."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysvq.imaging.decode import DecodeError
from raysvq.model.bundle import Bundle
from raysvq.model.engines import EXACT
from raysvq.model.scorer import ImageResult
from raysvq.results import SCHEMAS, Files, committed_files, open_results, read_snapshot
from raysvq.results.done import find_done
from raysvq.results.format import no_files
from raysvq.results.rewrite import rewrite_without
from raysvq.results.writer import write_unit
from raysvq.scoring.rows import Row, map_row, reject_row, score_row
from raysvq.scoring.work import provenance
from raysvq.storage import join, list_objects, read_bytes
from tests.commits import prepare

Source = Callable[..., Row]
SITES = ("site=north", "site=s%C3%BCd")


class Results:
    """A score directory that is filled run by run."""

    def __init__(self, out: str, source: Source, result: ImageResult, bundle: Bundle) -> None:
        self.out, self.source, self.result, self.bundle = out, source, result, bundle
        self.partition_by: tuple[str, ...] = ()

    def unit(self, run: str, unit: str, scored: list[int], rejected: list[int]) -> Files:
        """Write images given by number; with maps; partitioned, odd ones go south."""
        origin = provenance(self.bundle, run, "5e77", EXACT)
        sources = [self.source(number) for number in scored]
        tables = {
            "scores": [score_row(row, self.result, self.bundle.decisions, origin) for row in sources],
            "rejects": [
                reject_row(self.source(number), DecodeError("empty", ""), origin) for number in rejected
            ],
            "maps": [map_row(row, self.result) for row in sources],
        }
        folders = {self.source(n)["image_id"]: SITES[n % 2] for n in scored + rejected if self.partition_by}
        return write_unit(self.out, unit, tables, folders)

    def commit(self, run: str, *units: Files, redone: tuple[int, ...] = ()) -> Callable[[], str]:
        """Take the images that were done again out of earlier files; returns what commits the run."""
        files: Files = {kind: [file for unit in units for file in unit[kind]] for kind in SCHEMAS}
        kept, replaced = self.without(redone)
        origin = provenance(self.bundle, run, "5e77", EXACT)
        return prepare(self.out, origin, files, kept, replaced, self.partition_by)

    def without(self, numbers: tuple[int, ...]) -> tuple[Files, dict[str, str | None]]:
        """Rewrite the files that the id index names for images."""
        sources = [self.source(number) for number in numbers]
        snapshot = read_snapshot(self.out)
        with tempfile.TemporaryDirectory() as name:
            wanted = Path(name) / "wanted.parquet"
            columns = {
                key: pa.array([row[key] for row in sources], pa.string()) for key in ("image_id", "uri")
            }
            pq.write_table(pa.table(columns), wanted)
            done = pq.read_table(find_done(snapshot, [wanted], Path(name)))
        held = {*done["file"].to_pylist(), *done["maps_file"].to_pylist()} - {None}
        names = {snapshot.current_name(name) for name in held}
        return rewrite_without(self.out, done["image_id"], sorted(name for name in names if name), 9)

    def seen(self, kind: str = "scores") -> dict[int, str]:
        """Number -> run that its row is of; a map is of no run. No number is there twice."""
        table = open_results(self.out, kind).to_table()
        numbers = [int(name, 16) for name in table["image_id"].to_pylist()]
        runs = table["run_id"].to_pylist() if kind != "maps" else [""] * len(numbers)
        assert len(set(numbers)) == len(numbers)
        return dict(sorted(zip(numbers, runs, strict=True)))


@pytest.fixture
def results(place: str, source: Source, result: ImageResult, bundle: Bundle) -> Results:
    return Results(place, source, result, bundle)


def _ids(source: Source, numbers: tuple[int, ...]) -> pa.Array:
    return pa.array([source(number)["image_id"] for number in numbers], pa.string())


def _digests(out: str) -> dict[str, str]:
    return {info.uri: hashlib.sha256(read_bytes(info.uri)).hexdigest() for info in list_objects(out)}


def test_new_rows_take_the_place_of_old_ones_at_the_commit(results: Results) -> None:
    first = [
        results.unit("1", "u1", [0, 1, 2], [3]),
        results.unit("1", "u2", [4], []),
        results.unit("1", "u3", [5], [6]),
    ]
    results.commit("1", *first)()
    before = results.seen(), results.seen("rejects"), results.seen("maps")
    commit = results.commit("2", results.unit("2", "u4", [1, 6], [4]), redone=(1, 4, 6))
    assert (results.seen(), results.seen("rejects"), results.seen("maps")) == before
    commit()
    assert results.seen() == {0: "1", 1: "2", 2: "1", 5: "1", 6: "2"}
    assert results.seen("rejects") == {3: "1", 4: "2"}
    assert list(results.seen("maps")) == [0, 1, 2, 5, 6]


def test_an_image_can_be_done_again_and_again(results: Results) -> None:
    results.commit("1", results.unit("1", "u1", [0, 1, 2], []))()
    for run in ("2", "3", "4"):
        results.commit(run, results.unit(run, f"u{run}", [1], []), redone=(1,))()
    results.commit("5", results.unit("5", "u5", [2], []), redone=(2,))()
    assert results.seen() == {0: "1", 1: "4", 2: "5"}


def test_only_files_with_such_images_are_written_anew(results: Results) -> None:
    results.commit("1", results.unit("1", "u1", [0, 1], []), results.unit("1", "u2", [2], [3]))()
    before = _digests(results.out)
    kept, replaced = results.without((1, 99))
    assert sorted(name[: name.rindex("-")] for name in replaced) == ["maps/part-u1", "scores/part-u1"]
    assert sorted(replaced.values()) == [kept["maps"][0].name, kept["scores"][0].name]
    assert {kind: [file.rows for file in files] for kind, files in kept.items()} == {
        "scores": [1],
        "rejects": [],
        "maps": [1],
    }
    after = _digests(results.out)
    new = {join(results.out, file.name): file.sha256 for files in kept.values() for file in files}
    assert after == before | new
    assert len(after) == len(before) + 2


def test_a_file_left_without_rows_is_only_named_as_replaced(results: Results) -> None:
    results.commit("1", results.unit("1", "u1", [0, 1], [2]), results.unit("1", "u2", [3], []))()
    before = _digests(results.out)
    kept, replaced = results.without((0, 1, 2))
    assert kept == no_files()
    assert sorted(name.partition("/")[0] for name in replaced) == ["maps", "rejects", "scores"]
    assert set(replaced.values()) == {None}
    assert _digests(results.out) == before


def test_nothing_to_replace_writes_nothing(results: Results) -> None:
    results.commit("1", results.unit("1", "u1", [0], []))()
    before = _digests(results.out)
    for numbers in ((), (7,)):
        assert results.without(numbers) == (no_files(), {})
    assert _digests(results.out) == before


def test_a_rewrite_that_is_repeated_gives_the_same_files(results: Results) -> None:
    results.commit("1", results.unit("1", "u1", [0, 1], []))()
    one, again = (results.without((1,)) for _ in range(2))
    assert one == again


def test_rows_that_stay_keep_every_value(results: Results) -> None:
    results.commit("1", results.unit("1", "u1", [0, 1, 2], []))()
    before = {kind: open_results(results.out, kind).to_table() for kind in ("scores", "maps")}
    results.commit("2", results.unit("2", "u2", [1], []), redone=(1,))()
    for kind, table in before.items():
        now = open_results(results.out, kind).to_table()
        ids = _ids(results.source, (0, 2)).to_pylist()
        rows = [{row["image_id"]: row for row in each.to_pylist()} for each in (table, now)]
        assert [rows[0][name] for name in ids] == [rows[1][name] for name in ids]


def test_partitions_are_kept(tmp_path: Path, source: Source, result: ImageResult, bundle: Bundle) -> None:
    results = Results(str(tmp_path), source, result, bundle)
    results.partition_by = ("site",)
    results.commit("1", results.unit("1", "u1", [0, 1, 2, 3], []))()
    results.commit("2", results.unit("2", "u2", [2], []), redone=(2,))()
    names = [name.removeprefix(f"{tmp_path}/") for name in committed_files(str(tmp_path), "scores")]
    assert [name.split("/")[1] for name in names] == [SITES[0], SITES[0], SITES[1]]
    assert f"scores/{SITES[0]}/part-u1.parquet" not in names
    with_arrow = open_results(str(tmp_path), "scores").to_table(columns=["image_id", "site", "run_id"])
    query = "select image_id, site, run_id from read_parquet($files, hive_partitioning = true)"
    with_duckdb = duckdb.execute(query, {"files": committed_files(str(tmp_path), "scores")}).fetchall()
    rows = sorted(tuple(row.values()) for row in with_arrow.to_pylist())
    assert rows == sorted(with_duckdb)
    assert [(int(name, 16), site, run) for name, site, run in rows] == [
        (0, "north", "1"),
        (1, "süd", "1"),
        (2, "north", "2"),
        (3, "süd", "1"),
    ]


def test_files_of_a_kind_hold_its_schema_alone(tmp_path: Path, results: Results) -> None:
    results.commit("1", results.unit("1", "u1", [0, 1], []))()
    kept, _ = results.without((1,))
    content = read_bytes(join(results.out, kept["scores"][0].name))
    (tmp_path / "file.parquet").write_bytes(content)
    assert pq.read_schema(tmp_path / "file.parquet").equals(SCHEMAS["scores"])
