"""What runs on every Ray Train worker: its place, its shards and Ray's checkpoints around the training."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch
from torch import nn

from raysvq.errors import TrainingError, TrainingMemoryError
from raysvq.model.network import Network
from raysvq.settings import parse_settings
from raysvq.storage import configure
from raysvq.training.batches import Batches, Place, Tiles
from raysvq.training.checkpoint import Progress
from raysvq.training.events import write_events
from raysvq.training.fit import Trainer, fit, naming_memory
from raysvq.training.loader import BLOCK, Columns, Source
from raysvq.training.schedule import selection
from raysvq.training.start import save, start
from raysvq.training.validation import validate


def train_on_worker(config: dict[str, Any]) -> dict[str, Any]:
    """Train to `training.steps`, reporting a checkpoint at every validation.

    Returns:
        The `history` of the whole run; or the `problem` why it cannot succeed, the same on all
        ranks: Ray Train would take an exception for a lost worker and try the same again.

    Raises:
        TrainingMemoryError: of one rank among several, which would wait for it.
    """
    batch_size = config["settings"]["training"]["batch_size"]
    try:
        with naming_memory(f"training.batch_size={batch_size}"):
            return {"history": _train(config).history}
    except TrainingMemoryError as error:
        if ray.train.get_context().get_world_size() > 1:
            raise
        return {"problem": str(error)}
    except TrainingError as error:
        return {"problem": str(error)}


def _train(config: dict[str, Any]) -> Progress:
    configure(config["storage"])
    settings = parse_settings(config["settings"])
    context = ray.train.get_context()
    place = Place(ray.train.torch.get_device(), context.get_world_rank(), context.get_world_size())
    if place.device.type == "cpu":
        torch.set_num_threads(config["threads"])
    tiles = Tiles(_shard("normal"), _shard("outlier") if config["outlier_tiles"] else None)
    say = config["progress"] if place.rank == 0 else None
    with _checkpoint() as folder:
        trainer, batches = start(settings, tiles, place, folder, say, _data_parallel)
    score = partial(validate, images=config["validation"], rank=place.rank)
    fit(trainer, batches, score, lambda: _report(trainer, batches, place, config["out"]))
    return trainer.progress


def _shard(name: str) -> Source:
    shard = ray.train.get_dataset_shard(name)

    def read() -> Iterator[Columns]:
        return iter(shard.iter_batches(batch_size=BLOCK, batch_format="numpy"))

    return read


@contextlib.contextmanager
def _checkpoint() -> Iterator[Path | None]:
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        yield None
        return
    with checkpoint.as_directory() as folder:
        yield Path(folder)


def _data_parallel(model: Network) -> nn.Module:
    return ray.train.torch.prepare_model(
        model, move_to_device=False, parallel_strategy_kwargs={"broadcast_buffers": False}
    )


def _report(trainer: Trainer, batches: Batches, place: Place, out: str) -> None:
    """Hand a checkpoint to Ray Train, a part from each rank; bring the logs up to date."""
    history = trainer.progress.history
    if place.rank == 0:
        write_events(history, out)
    row = history[-1]
    metrics = {"step": row["step"], "selection": selection(row)}
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder), trainer, batches, place)
        ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))
