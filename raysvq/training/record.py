"""What a training run says of itself: its pace, a row of history for each validation, a line for people."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from raysvq.log import Line
from raysvq.model.collective import mean_over_ranks
from raysvq.settings import TrainingSettings
from raysvq.training.batches import Batch


@dataclass
class Pace:
    """Time of an interval's steps, validation left out, and how much of it went by waiting for data."""

    first: int  # the step it starts from
    started: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    waited: float = 0.0

    def wait_for(self, batches: Iterator[Batch]) -> Batch:
        """The next batch."""
        asked = time.monotonic()
        batch = next(batches)
        self.waited += time.monotonic() - asked
        return batch

    def measure(self) -> None:
        """Take the time; to be called after each step."""
        self.seconds = time.monotonic() - self.started

    def row(self, step: int, batch_size: int, device: torch.device) -> dict[str, float]:
        """For the history; the wait is the mean over ranks."""
        shares = torch.tensor([self.waited, self.seconds], dtype=torch.float64, device=device)
        waited, seconds = mean_over_ranks(shares).tolist()
        return {
            "at": time.time(),
            "seconds": seconds,
            "tiles_per_s": (step - self.first) * batch_size / max(seconds, 1e-9),
            "data_wait": waited / max(seconds, 1e-9),
        }


def pace_line(pace: Pace, step: int, settings: TrainingSettings) -> Line:
    """How far, how fast, how long still."""
    seconds = max(pace.seconds, 1e-9)
    tiles_per_s = (step - pace.first) * settings.batch_size / seconds
    left = (settings.steps - step) * settings.batch_size / max(tiles_per_s, 1e-9)
    waiting = f"{100 * pace.waited / seconds:.0f} % waiting for data"
    return Line(
        f"step {step}/{settings.steps}  {tiles_per_s:.0f} tiles/s  {waiting}  {left:.0f} s left",
        "progress",
        done=step,
        total=settings.steps,
        tiles_per_s=round(tiles_per_s, 1),
        seconds_left=round(left, 1),
    )


def validation_line(row: dict[str, Any], codes: int) -> str:
    """What a row of history says of the model."""
    auroc = row["validation_auroc"]
    return (
        f"loss {row['loss']:.4f}  codes {row['codes_used']}/{codes}  perplexity {row['perplexity']:.0f}"
        f"  validation AUROC {'-' if auroc is None else f'{auroc:.3f}'}"
    )


def summarise(history: list[dict[str, Any]], batch_size: int) -> dict[str, float]:
    """Pace of a whole run. `data_wait` is the share of the time of its steps that they waited for data."""
    seconds = sum(row["seconds"] for row in history)
    waited = sum(row["data_wait"] * row["seconds"] for row in history)
    return {
        "tiles_per_s": round(history[-1]["step"] * batch_size / max(seconds, 1e-9), 1),
        "data_wait": round(waited / max(seconds, 1e-9), 4),
    }
