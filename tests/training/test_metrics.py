"""Pace and logs of a training run."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator

import pytest
import torch
from tensorboardX.crc32c import crc32c
from tensorboardX.proto.event_pb2 import Event

from raysvq.settings import TrainingSettings
from raysvq.training.data_loading import Batch
from raysvq.training.metrics import Pace, event_file, pace_line, summarise

LOSSES = {"loss": 0.5, "normal": 0.25, "outlier": None, "reconstruction": 0.125, "commitment": 0.0625}


def _row(step: int) -> dict[str, float | None]:
    pace = {"at": 1e9 + step, "seconds": 2.0, "tiles_per_s": 80.0, "data_wait": 0.25}
    return (
        {"step": step, "learning_rate": 1e-3, "perplexity": 7.5, "codes_used": 9, "validation_auroc": 0.75}
        | LOSSES
        | pace
    )


def _records(content: bytes) -> Iterator[bytes]:
    """The records of a TFRecord file, checked."""
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        record = content[12 : 12 + length]
        for part, stored in ((content[:8], content[8:12]), (record, content[12 + length : 16 + length])):
            crc = crc32c(part)
            masked = (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
            assert struct.pack("<I", masked) == stored
        yield record
        content = content[16 + length :]


def _slow_batches() -> Iterator[Batch]:
    while True:
        time.sleep(0.03)
        yield Batch(torch.zeros(1), 0, None)


def test_the_wait_for_data_is_told_from_the_time_of_steps() -> None:
    pace = Pace(10)
    batches = _slow_batches()
    for _ in range(3):
        pace.wait_for(batches)
        time.sleep(0.03)
        pace.measure()
    row = pace.row(13, 16, torch.device("cpu"))
    assert row["seconds"] >= 0.18
    assert 0.09 / row["seconds"] <= row["data_wait"] < 1
    assert row["tiles_per_s"] == pytest.approx(3 * 16 / row["seconds"])


def test_the_line_says_pace_wait_and_what_is_left() -> None:
    pace = Pace(10, seconds=4.0, waited=1.0)
    line = pace_line(pace, 20, TrainingSettings(steps=50, batch_size=32))
    assert line == "step 20/50  80 tiles/s  25 % waiting for data  12 s left"


def test_a_run_s_pace_is_that_of_all_its_steps() -> None:
    rows = [_row(10), _row(20) | {"seconds": 6.0, "data_wait": 0.5}]
    assert summarise(rows, 16) == {"tiles_per_s": 40.0, "data_wait": pytest.approx(3.5 / 8)}


def test_an_event_file_holds_every_row_once() -> None:
    version, *events = map(Event.FromString, _records(event_file([_row(10), _row(20)])))
    assert version.file_version == "brain.Event:2"
    assert [(event.step, event.wall_time) for event in events] == [(10, 1e9 + 10), (20, 1e9 + 20)]
    values = {value.tag: value.simple_value for value in events[1].summary.value}
    assert values["loss/total"] == 0.5
    assert values["validation/auroc"] == 0.75
    assert values["training/data_wait"] == 0.25
    assert "loss/outlier" not in values
    assert len(values) == 10


def test_a_longer_history_s_file_begins_with_a_shorter_one_s() -> None:
    rows = [_row(step) for step in (10, 20, 30)]
    assert event_file(rows).startswith(event_file(rows[:2]))
