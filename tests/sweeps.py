"""A small sweep, and what tests want to know of one that runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

WAIT_S = 300
CONFIG = """
split: {outliers: 10}
tiles: {size: 32, anomalous_fraction: 0.01}
model: {hidden: 16, residual_hidden: 8, residual_layers: 1, codebook_size: 32, embedding_dim: 8}
training: {steps: 40, batch_size: 16}
search:
  objective.eta: {uniform: [0.3, 0.9]}
  model.codebook_size: {choice: [16, 32]}
tuning: {trials: 6, stop_early: false}
"""


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
