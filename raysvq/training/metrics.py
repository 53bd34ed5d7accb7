"""Metrics of a training run: pace, lines for people, event files for `tensorboard --logdir <model>/logs`."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import RecordWriter

from raysvq.log import Line
from raysvq.model.collective import mean_over_ranks
from raysvq.settings import TrainingSettings
from raysvq.storage import join, write_bytes
from raysvq.training.data_loading import Batch

LOGS, NAME = "logs", "events.out.tfevents.raysvq"
_TAGS = {
    "loss": "loss/total",
    "normal": "loss/normal",
    "outlier": "loss/outlier",
    "reconstruction": "loss/reconstruction",
    "commitment": "loss/commitment",
    "learning_rate": "training/learning_rate",
    "tiles_per_s": "training/tiles_per_s",
    "data_wait": "training/data_wait",
    "codes_used": "codebook/codes_used",
    "perplexity": "codebook/perplexity",
    "validation_auroc": "validation/auroc",
}


@dataclass
class Pace:
    """Time of the steps since the last validation, and how much of it they waited for data."""

    first: int  # step at which the interval begins
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
        """Update `seconds`; called after each step."""
        self.seconds = time.monotonic() - self.started

    def row(self, step: int, batch_size: int, device: torch.device) -> dict[str, float]:
        """A row of the history; times are means over ranks."""
        shares = torch.tensor([self.waited, self.seconds], dtype=torch.float64, device=device)
        waited, seconds = mean_over_ranks(shares).tolist()
        return {
            "at": time.time(),
            "seconds": seconds,
            "tiles_per_s": (step - self.first) * batch_size / max(seconds, 1e-9),
            "data_wait": waited / max(seconds, 1e-9),
        }


def pace_line(pace: Pace, step: int, settings: TrainingSettings) -> Line:
    """Steps done, tiles per second, and the seconds left."""
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
    """Loss, codebook use and validation AUROC of a row of the history."""
    auroc = row["validation_auroc"]
    return (
        f"loss {row['loss']:.4f}  codes {row['codes_used']}/{codes}  perplexity {row['perplexity']:.0f}"
        f"  validation AUROC {'-' if auroc is None else f'{auroc:.3f}'}"
    )


def summarise(history: list[dict[str, Any]], batch_size: int) -> dict[str, float]:
    """Tiles per second of a whole run; `data_wait` is the share of that time spent waiting for data."""
    seconds = sum(row["seconds"] for row in history)
    waited = sum(row["data_wait"] * row["seconds"] for row in history)
    return {
        "tiles_per_s": round(history[-1]["step"] * batch_size / max(seconds, 1e-9), 1),
        "data_wait": round(waited / max(seconds, 1e-9), 4),
    }


def write_events(history: list[dict[str, Any]], model: str) -> None:
    """Write a history as one event file into the folder of its model; an earlier one is overwritten."""
    write_bytes(join(model, LOGS, NAME), event_file(history))


def event_file(history: list[dict[str, Any]]) -> bytes:
    """One TensorBoard event file of a history, which has a row at least.

    It depends on the rows alone, so a run that went on from a checkpoint has no step in it twice.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / NAME
        writer = RecordWriter(str(path))
        writer.write(Event(wall_time=history[0]["at"], file_version="brain.Event:2").SerializeToString())
        for row in history:
            values = [
                Summary.Value(tag=tag, simple_value=row[name])
                for name, tag in _TAGS.items()
                if row[name] is not None
            ]
            event = Event(wall_time=row["at"], step=row["step"], summary=Summary(value=values))
            writer.write(event.SerializeToString())
        writer.close()
        return path.read_bytes()
