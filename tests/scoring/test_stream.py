"""Work units as Ray tasks: how many wait, which never begin, and which GPU a process has."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import ray

from raysvq.scoring import stream
from raysvq.scoring.stream import stream_units
from raysvq.scoring.workers import Workers
from tests.sweeps import wait_for

AT_ONCE = 3


def _counts(folder: Path, gate: Path) -> Any:
    """A task in place of the one that scores: leaves a file as it begins, and ends when the gate is there."""

    @ray.remote(max_calls=0)
    def work(jobs: list[Any], part: int, unit: int) -> tuple[int, int, str]:
        (folder / f"{part}-{unit}").touch()
        while not gate.exists():
            time.sleep(0.01)
        return part, unit, ray.get(jobs[0])[part]

    return work


@pytest.mark.usefixtures("small_cluster")
def test_every_unit_ends_once_those_of_the_first_part_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, gate = tmp_path / "begun", tmp_path / "gate"
    begun.mkdir()
    gate.touch()
    monkeypatch.setattr(stream, "_score", _counts(begun, gate))
    found = [
        (part, *ray.get(task)) for part, task in stream_units(["a", "b"], [(1, 9), (0, 2)], Workers(most=1))
    ]
    assert found == [(1, 1, unit, "b") for unit in range(9)] + [(0, 0, unit, "a") for unit in range(2)]


@pytest.mark.usefixtures("small_cluster")
def test_few_units_wait_and_those_that_are_not_needed_never_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, gate = tmp_path / "begun", tmp_path / "gate"
    begun.mkdir()
    monkeypatch.setattr(stream, "_score", _counts(begun, gate))
    monkeypatch.setattr(stream, "MAX_TASKS", AT_ONCE)
    submitted: list[object] = []
    units = stream_units(["a"], [(0, 1000)], Workers())
    monkeypatch.setattr(stream, "_ended", lambda tasks: submitted.extend(tasks) or tasks[:1])
    next(units)
    assert len(submitted) == AT_ONCE
    wait_for("both CPUs", lambda: len(list(begun.iterdir())) == 2)
    units.close()
    gate.touch()
    time.sleep(0.5)
    assert len(list(begun.iterdir())) == 2


def test_a_process_that_is_given_another_gpu_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda *arguments: ended.append(arguments))
    stream._first_gpu.cache_clear()
    for visible, kills in (("1", 0), ("1", 0), ("0", 1)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        stream._require_same_gpu()
        assert len(ended) == kills
    assert ended == [(os.getpid(), signal.SIGKILL)]
    stream._first_gpu.cache_clear()
