"""Entries merged under readers: the same rows at every step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysvq.errors import DataError
from raysvq.ledger.entries import append_entries, entry_files, spool_entries
from raysvq.ledger.merge import crowded_dates, look_at_date, merge_date
from raysvq.ledger.nights import read_nights, write_nights
from raysvq.ledger.records import ENTRIES
from raysvq.ledger.runs import publish_run, read_runs
from raysvq.storage import remove_file
from tests.ledger.test_entries import DAY, NEXT, append, entry, read
from tests.ledger.test_records import NIGHT, RUN


def fill(out: Path) -> None:
    """Three files of a day, one of the next, two without a date."""
    append(out, [entry("a"), entry("b"), entry("c", date=NEXT), entry("e", date=None)])
    append(out, [entry("a", 2), entry("d", camera="south.cam")])
    append(out, [entry("b", 3), entry("f", date=None)])


def test_a_date_is_merged_without_a_change_for_readers(tmp_path: Path) -> None:
    fill(tmp_path)
    out = str(tmp_path)
    before = read(tmp_path, tmp_path)
    assert set(crowded_dates(out)) == {DAY, None}
    assert len(look_at_date(out, DAY).alone) == 3
    merged = merge_date(out, DAY)
    assert read(tmp_path, tmp_path) == before
    files = look_at_date(out, DAY)
    assert files.alone == (merged,)
    assert len(files.superseded) == 3
    remove_file(files.superseded[0][0])  # killed in the middle of removing
    assert read(tmp_path, tmp_path) == before
    for uri, _ in look_at_date(out, DAY).superseded:
        remove_file(uri)
    assert read(tmp_path, tmp_path) == before
    assert [info.uri for info in entry_files(out, DAY)] == [merged]


def test_rows_that_come_after_a_merge_are_merged_next(tmp_path: Path) -> None:
    fill(tmp_path)
    out = str(tmp_path)
    first = merge_date(out, DAY)
    append(tmp_path, [entry("late")])
    before = read(tmp_path, tmp_path)
    assert first in look_at_date(out, DAY).alone
    second = merge_date(out, DAY)
    files = look_at_date(out, DAY)
    assert files.alone == (second,)
    for uri, _ in files.superseded:
        remove_file(uri)
    assert read(tmp_path, tmp_path) == before


def test_a_damaged_file_is_neither_merged_nor_superseded(tmp_path: Path) -> None:
    fill(tmp_path)
    out = str(tmp_path)
    broken = entry_files(out, DAY)[1].uri
    Path(broken).write_bytes(b"cut")
    before = read(tmp_path, tmp_path)
    merged = merge_date(out, DAY)
    files = look_at_date(out, DAY)
    assert files.alone == (merged,)
    assert broken not in [uri for uri, _ in files.superseded]
    assert spool_entries(out, [DAY], tmp_path / "e").damaged == {DAY}
    assert read(tmp_path, tmp_path) == before


def test_a_merged_file_that_was_cut_off_supersedes_nothing(tmp_path: Path) -> None:
    fill(tmp_path)
    out = str(tmp_path)
    before = read(tmp_path, tmp_path)
    merged = Path(merge_date(out, DAY))
    merged.write_bytes(merged.read_bytes()[:-20])
    files = look_at_date(out, DAY)
    assert (len(files.alone), files.superseded) == (3, ())
    assert read(tmp_path, tmp_path) == before


def test_merged_rows_say_what_they_said(tmp_path: Path) -> None:
    rows = [entry(str(number), etag=f"e{number}", policy="conformal") for number in range(30)]
    for row in rows:
        append_entries(str(tmp_path), pa.Table.from_pylist([row], schema=ENTRIES))
    before = read(tmp_path, tmp_path)
    merge_date(str(tmp_path), DAY)
    for uri, _ in look_at_date(str(tmp_path), DAY).superseded:
        remove_file(uri)
    assert read(tmp_path, tmp_path) == before
    assert [row["etag"] for row in before if row["image_id"] == "7"] == ["e7"]


def test_on_a_store_it_is_as_on_a_disk(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for rows in ([entry("a"), entry("b")], [entry("a", 2)], [entry("c", date=None)]):
        append_entries(place, pa.Table.from_pylist(rows, schema=ENTRIES))
    monkeypatch.setattr("raysvq.ledger.entries.SMALL", 0)  # streamed
    assert crowded_dates(place) == [DAY]
    merge_date(place, DAY)
    for uri, since in look_at_date(place, DAY).superseded:
        assert since
        remove_file(uri)
    found = pq.read_table(spool_entries(place, [DAY, NEXT, None], tmp_path / "e").path).to_pylist()
    assert sorted((row["image_id"], row["version"]) for row in found) == [("a", 2), ("b", 1), ("c", 1)]
    assert len(entry_files(place, DAY)) == 1
    assert write_nights(place, 1, [NIGHT])
    with pytest.raises(DataError, match="another run of this fleet"):
        write_nights(place, 1, [NIGHT])
    publish_run(place, RUN)
    with pytest.raises(DataError, match="another run of this fleet"):
        publish_run(place, replace(RUN, run_id="other"))
    assert (read_nights(place), read_runs(place, 1)) == ([[NIGHT]], [RUN])
