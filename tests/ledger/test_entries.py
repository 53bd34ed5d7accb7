"""Entries end the same whoever appends them, how often and in what order; damage is passed over."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raysvq.errors import DataError
from raysvq.ledger.entries import append_entries, date_folder, entry_files, spool_entries
from raysvq.ledger.records import DELETED, ENTRIES, SCORED
from raysvq.storage import write_bytes

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
DAY, NEXT = date(2026, 5, 4), date(2026, 5, 5)

Row = dict[str, Any]


def entry(image: str, version: int = 1, **more: Any) -> Row:
    """A row of ENTRIES."""
    row = {"camera": "north.cam", "date": DAY, "image_id": image, "uri": f"/x/{image}.png", "size_bytes": 1}
    row |= {"outcome": SCORED, "is_anomalous": False, "run_id": f"r{version}", "version": version}
    return row | {"committed_at": NOON + timedelta(hours=version)} | more


def append(out: Path, rows: Sequence[Row]) -> None:
    append_entries(str(out), pa.Table.from_pylist(list(rows), schema=ENTRIES))


def read(out: Path, folder: Path, *dates: date | None) -> list[Row]:
    """The newest rows, in a fixed order."""
    found = spool_entries(str(out), dates or (DAY, NEXT, None), folder / "entries.parquet")
    rows: list[Row] = pq.read_table(found.path).to_pylist()
    assert found.rows == len(rows)
    return sorted(rows, key=str)


ROWS = st.builds(
    entry,
    st.sampled_from("abc"),
    st.integers(1, 3),
    camera=st.sampled_from(["north.cam", "south.cam"]),
    size_bytes=st.integers(1, 2),
    outcome=st.sampled_from([SCORED, DELETED, "corrupt"]),
    committed_at=st.sampled_from([NOON, NOON + timedelta(hours=1)]),
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), rows=st.lists(ROWS, min_size=1, max_size=8))
def test_any_order_any_subset_twice_and_two_writers_end_the_same(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, rows: list[Row]
) -> None:
    once, often = tmp_path_factory.mktemp("once"), tmp_path_factory.mktemp("often")
    append(once, rows)
    shuffled = data.draw(st.permutations(rows))
    cut = data.draw(st.integers(0, len(rows)))
    for part in (shuffled[:cut], shuffled[cut:], data.draw(st.lists(st.sampled_from(rows)))):
        if part:
            append(often, part)
    expected = read(once, once)
    assert read(often, often) == expected
    assert len(expected) == len({(row["camera"], row["image_id"]) for row in rows})
    for row in expected:
        mine = [
            each for each in rows if (each["camera"], each["image_id"]) == (row["camera"], row["image_id"])
        ]
        newest = max((each["version"], each["committed_at"]) for each in mine)
        assert (row["version"], row["committed_at"]) == newest


def test_only_the_dates_asked_for_are_read(tmp_path: Path) -> None:
    append(tmp_path, [entry("a"), entry("b", date=NEXT), entry("c", date=None)])
    write_bytes(f"{date_folder(str(tmp_path), NEXT)}/{'0' * 32}.parquet", b"no Parquet")
    assert [row["image_id"] for row in read(tmp_path, tmp_path, DAY, None)] == ["c", "a"]


def test_rows_of_other_cameras_can_be_left_out(tmp_path: Path) -> None:
    append(tmp_path, [entry("a"), entry("b", camera="south.cam"), entry("c", camera="south.cam", date=NEXT)])
    chosen = {DAY: ["south.cam"], NEXT: ["north.cam"]}
    found = spool_entries(str(tmp_path), chosen, tmp_path / "e", lambda day: chosen[day] if day else [])
    assert pq.read_table(found.path)["image_id"].to_pylist() == ["b"]


def test_the_same_rows_again_add_no_file(tmp_path: Path) -> None:
    append(tmp_path, [entry("a"), entry("b")])
    append(tmp_path, [entry("b"), entry("a")])
    assert len(entry_files(str(tmp_path), DAY)) == 1


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_file_that_is_not_what_its_name_says_is_passed_over(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    append(tmp_path, [entry("a")])
    append(tmp_path, [entry("b", date=NEXT)])
    (info,) = entry_files(str(tmp_path), DAY)
    content = Path(info.uri).read_bytes()
    Path(info.uri).write_bytes(content[:-9] if damage == "cut" else content.replace(b"cam", b"kam", 1))
    found = spool_entries(str(tmp_path), [DAY, NEXT], tmp_path / "e")
    assert found.damaged == {DAY}
    assert pq.read_table(found.path)["image_id"].to_pylist() == ["b"]
    assert f"{info.uri} was cut off" in capsys.readouterr().err


def test_a_large_file_is_read_as_a_small_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append(tmp_path, [entry(str(n)) for n in range(40)])
    small = read(tmp_path, tmp_path)
    monkeypatch.setattr("raysvq.ledger.entries.SMALL", 0)
    assert read(tmp_path, tmp_path) == small


def test_entries_of_a_later_version_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as later:
        later.setattr("raysvq.ledger.entries.FORMAT", 2)
        append(tmp_path, [entry("a")])
    with pytest.raises(DataError, match=r"has format 2, expected 1: a later version of raysvq wrote it"):
        read(tmp_path, tmp_path)


def test_a_file_merged_while_it_is_read_is_found_in_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(tmp_path, [entry("a")])
    listed = entry_files(str(tmp_path), DAY)
    gone = [entry_files(str(tmp_path), DAY), listed]
    Path(listed[0].uri).unlink()
    append(tmp_path, [entry("a"), entry("b")])
    monkeypatch.setattr(
        "raysvq.ledger.entries.entry_files",
        lambda out, day, real=entry_files: gone.pop() if len(gone) > 1 else real(out, day),
    )
    assert [row["image_id"] for row in read(tmp_path, tmp_path, DAY)] == ["a", "b"]
