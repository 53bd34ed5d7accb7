"""Run records and nights: numbered once, read back, merged without a reader noticing."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from raysvq.errors import DataError
from raysvq.ledger.nights import (
    merge_nights,
    nights_apart,
    nights_uri,
    read_nights,
    superseded_nights,
    write_nights,
)
from raysvq.ledger.records import CameraNight
from raysvq.ledger.runs import next_number, publish_run, read_runs, run_uri
from raysvq.storage import remove_file
from tests.ledger.test_records import NIGHT, RUN


def finish(out: Path, number: int, cameras: int = 2) -> None:
    """A run to its end."""
    nights = [dataclasses.replace(NIGHT, camera=f"c{each}", run_id=f"r{number}") for each in range(cameras)]
    write_nights(str(out), number, nights)
    publish_run(str(out), dataclasses.replace(RUN, number=number, run_id=f"r{number}"))


def seen(out: Path, last: int = 30) -> list[list[str]]:
    """Runs whose nights are read, with a camera each."""
    return [[f"{night.run_id} {night.camera}" for night in nights] for nights in read_nights(str(out), last)]


def test_runs_are_numbered_and_read_oldest_first(tmp_path: Path) -> None:
    out = str(tmp_path)
    assert (next_number(out), read_runs(out, 5), read_nights(out)) == (1, [], [])
    for number in (1, 2, 3):
        finish(tmp_path, number)
    assert next_number(out) == 4
    assert [run.number for run in read_runs(out, 2)] == [2, 3]
    assert seen(tmp_path, 1) == [["r3 c0", "r3 c1"]]
    assert read_nights(out)[0][0] == dataclasses.replace(NIGHT, camera="c0", run_id="r1")


def test_a_second_run_of_a_number_is_refused(tmp_path: Path) -> None:
    finish(tmp_path, 1)
    with pytest.raises(DataError, match="another run of this fleet has finished"):
        write_nights(str(tmp_path), 1, [NIGHT])
    with pytest.raises(DataError, match="another run of this fleet has finished"):
        publish_run(str(tmp_path), dataclasses.replace(RUN, run_id="other"))


def test_nights_of_a_run_without_a_record_do_not_count_and_keep_their_number(tmp_path: Path) -> None:
    finish(tmp_path, 1)
    write_nights(str(tmp_path), 2, [NIGHT])
    assert [run[0] for run in seen(tmp_path)] == ["r1 c0"]
    assert next_number(str(tmp_path)) == 3
    finish(tmp_path, 3)
    assert [run[0] for run in seen(tmp_path)] == ["r1 c0", "r3 c0"]


@pytest.mark.parametrize("content", [b"", b"PAR1 no more", None])
def test_damaged_nights_and_records_are_passed_over(
    tmp_path: Path, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (1, 2):
        finish(tmp_path, number)
    for uri in (nights_uri(str(tmp_path), 2), run_uri(str(tmp_path), 2)):
        if content is not None:
            Path(uri).write_bytes(content)
    if content is None:
        Path(nights_uri(str(tmp_path), 2)).unlink()
    else:
        assert [run.number for run in read_runs(str(tmp_path), 5)] == [1]
    assert [run[0] for run in seen(tmp_path)] == ["r1 c0"]
    assert nights_uri(str(tmp_path), 2) in capsys.readouterr().err


def test_nights_of_a_later_version_are_refused(tmp_path: Path) -> None:
    finish(tmp_path, 1)
    uri = nights_uri(str(tmp_path), 1)
    table = pq.read_table(uri)
    pq.write_table(table.replace_schema_metadata({"format": "2"}), uri)
    with pytest.raises(DataError, match="has format 2, expected 1: a later version of raysvq"):
        read_nights(str(tmp_path))


def test_nights_are_merged_without_a_change_for_readers(tmp_path: Path) -> None:
    out = str(tmp_path)
    for number in (1, 2, 4, 5, 6):
        finish(tmp_path, number, cameras=number % 3)  # run 6 has no camera, run 3 was killed
    before = read_nights(out)
    assert (nights_apart(out, keep=5), superseded_nights(out)) == ([], [])
    assert merge_nights(out, nights_apart(out, keep=2)) == nights_uri(out, 1, 4)
    assert read_nights(out) == before
    assert nights_apart(out, keep=2) == []
    ((merged, olds),) = superseded_nights(out)
    assert merged.uri == nights_uri(out, 1, 4)
    assert [info.uri for info in olds] == [nights_uri(out, number) for number in (1, 2, 4)]
    remove_file(olds[1].uri)  # killed in the middle of removing
    assert read_nights(out) == before
    for info in olds:
        remove_file(info.uri)
    assert read_nights(out) == before
    assert merge_nights(out, nights_apart(out, keep=0)) == nights_uri(out, 5, 6)
    assert read_nights(out) == before
    assert next_number(out) == 7


def test_a_camera_night_has_defaults_that_are_read_back(tmp_path: Path) -> None:
    night = CameraNight("c", "r", "2026-05-04", "quiet")
    write_nights(str(tmp_path), 1, {"c": night})
    publish_run(str(tmp_path), RUN)
    assert read_nights(str(tmp_path)) == [[night]]
