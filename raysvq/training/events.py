"""A training run's history as TensorBoard reads it: `tensorboard --logdir <model>/logs`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import RecordWriter

from raysvq.storage import join, write_bytes

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


def write_events(history: list[dict[str, Any]], model: str) -> None:
    """Write the event file of a history into the folder of its model, in place of an earlier one."""
    write_bytes(join(model, LOGS, NAME), event_file(history))


def event_file(history: list[dict[str, Any]]) -> bytes:
    """One event file of a whole history, of a row at least.

    It depends on the rows alone: that of a longer history begins with that of a shorter one, and a run
    that went on from a checkpoint has no step in it twice.
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
