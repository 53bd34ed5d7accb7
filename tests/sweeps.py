"""A small sweep, what tests want to know of one that runs, and drivers that are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

WAIT_S = 300
TRIALS = 4
CONFIG = """
split: {outliers: 10}
tiles: {size: 32, anomalous_fraction: 0.01}
model: {hidden: 16, residual_hidden: 8, residual_layers: 1, codebook_size: 32, embedding_dim: 8}
training: {steps: 20, batch_size: 16}
search:
  objective.eta: {uniform: [0.3, 0.9]}
  model.codebook_size: {choice: [16, 32]}
tuning: {trials: 4, sampler: qmc, early_stopping: false}
"""


# Every kind of setting that a search can vary.
SEARCH: dict[str, Any] = {
    "objective.eta": {"uniform": [0.5, 0.95]},
    "model.codebook_size": {"choice": [64, 128, 512]},
    "objective.form": {"choice": ["hinge", "inverse"]},
    "objective.margin": {"log_uniform": [2, 32], "when": {"objective.form": "hinge"}},
    "anomaly.top_k": {"log_int": [1, 64]},
}


def records(out: Path) -> dict[str, int]:
    """Of trials that came to their end, and when."""
    return {file.name: file.stat().st_mtime_ns for file in out.glob("_sweep/*/trial-*.json")}


def ends_before_its_leaderboard(patch: pytest.MonkeyPatch) -> None:
    """The next sweep is interrupted when all its trials have ended."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    patch.setattr("raysvq.tuning.sweep.write_leaderboard", interrupt)


def wait_for(what: str, condition: Callable[[], object]) -> None:
    """Fail after WAIT_S."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {WAIT_S} s for {what}"
        time.sleep(0.01)


def start_on_this_cluster(*arguments: str) -> subprocess.Popen[bytes]:
    """A verb of raysvq in a process of its own, on the cluster of this one."""
    command = [sys.executable, "-c", "from raysvq.cli import main; main()", *arguments]
    environment = os.environ | {"RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill(driver: subprocess.Popen[bytes], workers: list[psutil.Process]) -> None:
    """Kill a driver and what ran for it."""
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    for worker in workers:
        with suppress(psutil.NoSuchProcess):
            worker.kill()
    psutil.wait_procs(workers, WAIT_S)
