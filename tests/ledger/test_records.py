"""The ledger's records say the same after they are written and read."""

import dataclasses
from datetime import UTC, datetime

import pytest

from raysvq.errors import DataError
from raysvq.ledger.records import (
    NIGHTS,
    CameraNight,
    Finding,
    FleetRun,
    Worst,
    nights_from_table,
    nights_to_table,
)

NIGHT = CameraNight(
    camera="north.cam-07",
    run_id="r",
    night="2026-05-04",
    state="warning",
    fields={"site": "north", "camera": "cam-07"},
    new=3,
    rejects={"corrupt": 1},
    last_image=datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC),
    signals={"exposure": -0.8},
    findings=(Finding("north.cam-07", "exposure", "warning", "it is 0.8 stops darker", -0.8, 0.0, 1e-6),),
    worst=(Worst("00", "s3://b/x.png", 3.0, 0.001, True, "heatmaps/x.jpg"),),
)
RUN = FleetRun(
    number=1,
    run_id="r",
    fleet="plant",
    night="2026-05-04",
    started_at="2026-05-04T02:00:00+00:00",
    ended_at="2026-05-04T02:10:00+00:00",
    code_version="1",
    fleet_digest="ab",
    arguments={"only": ["cam-*"]},
    cameras=1,
    by_state={"warning": 1},
    listed=3,
    scored=2,
    anomalous=1,
    rejected=1,
    skipped=0,
    failed=0,
    images_per_s=10.0,
    worker_seconds=3.0,
    findings={"warning": 1},
    problems=("route ops: no answer",),
)


def test_a_night_is_read_as_it_was_written() -> None:
    table = nights_to_table([NIGHT, CameraNight("b", "r", "2026-05-04", "quiet")])
    assert table.schema == NIGHTS
    assert nights_from_table(table) == [NIGHT, CameraNight("b", "r", "2026-05-04", "quiet")]


def test_every_field_of_a_night_has_a_column() -> None:
    assert {each.name for each in dataclasses.fields(CameraNight)} == set(NIGHTS.names)


def test_a_run_is_read_as_it_was_written() -> None:
    assert FleetRun.from_json(RUN.to_json(), "x") == RUN


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"{", "no whole JSON"),
        (b"[]", "expected 1"),
        (b'{"format": 2}', "later version of raysvq"),
        (b'{"format": 1, "problems": []}', "damaged"),
        (b'{"format": null}', "no ledger"),
    ],
)
def test_a_damaged_or_later_record_is_refused(content: bytes, says: str) -> None:
    with pytest.raises(DataError, match=says):
        FleetRun.from_json(content, "s3://b/1.json")
