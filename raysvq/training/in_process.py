"""Training in this process, without Ray, with the same batches, steps and model selection."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from raysvq import log
from raysvq.model.network import Network
from raysvq.model.quantizer import nearest_indices
from raysvq.settings import Settings
from raysvq.training.checkpoint import TrainingState, load_model, load_state
from raysvq.training.data_loading import Batches, Place, Tiles, tiles_of
from raysvq.training.initialize import initialize, save
from raysvq.training.shuffling import Columns, in_memory
from raysvq.training.trainer import Trainer, Validate, best_step, fit

_CHECKPOINTS = "step-" + 9 * "[0-9]"


def train_in_process(
    settings: Settings,
    normal: Columns | Tiles,
    outlier: Columns | None,
    validate: Validate,
    progress: Callable[[str], None] | None = log.emit,
    folder: Path | None = None,
) -> tuple[Network, TrainingState]:
    """Train on tiles in memory or streamed, as `raysvq.training.ray_trainer.train` does with one worker.

    Args:
        normal: `tile` (T, S, S, C) uint16 over the full scale, or `features` (T, h, w, S)
            float16 of the stem. Or sources of all tiles; `outlier` is None then.
        outlier: the same columns, features with those of the copies, and `weight` (T, h, w) float32, the
            marked share of each grid position.
        validate: such as `partial(raysvq.training.validation.validate, images=images)`.
        progress: takes lines of progress.
        folder: for checkpoints; a run that finds some there goes on from the last one. None: a
            temporary one.

    Returns:
        The model of the best validation AUROC (of equals the later), in evaluation mode; and the state of
        its checkpoint, with the history of the whole run.

    Raises:
        TrainingError: there are no tiles of a kind, the loss diverged, or no normal validation image
            could be read.
    """
    tiles = normal
    if not isinstance(tiles, Tiles):
        copies = settings.training.outlier_copies
        tiles = tiles_of(in_memory(tiles), outlier, copies, "features" in tiles)
    place = Place(local_device(settings))
    with contextlib.ExitStack() as stack:
        folder = folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        found = sorted(folder.glob(_CHECKPOINTS))
        trainer, batches = initialize(settings, tiles, place, found[-1] if found else None, progress)
        checkpoints = folder
        fit(trainer, batches, validate, lambda: _save(checkpoints, trainer, batches, place))
        history = trainer.state.history
        best = _checkpoint(folder, best_step(history))
        load_model(best, trainer.model)
        return trainer.model.eval(), replace(load_state(best), history=history)


def train_codebook(settings: Settings, tiles: Tiles) -> Network:
    """Train a dictionary of frozen features without labelled outliers, as far as its distances depend on it.

    They come out as of `train_in_process`, with less work: nothing but the codebook decides them, and the
    head, whose dimensions have no weight without outliers, stays as it was drawn.

    Args:
        tiles: rows with `features`.

    Returns:
        The model after the last step, in evaluation mode.
    """
    trainer, batches = initialize(settings, tiles, Place(local_device(settings)))
    model = trainer.model
    learned = model.quantizer.codebook.shape[1] - model.mean.shape[0]
    for _ in range(settings.training.steps):
        batch = next(batches)
        with torch.inference_mode():
            features = model.standardise(batch.pixels).movedim(1, -1).flatten(0, 2)
            indices = nearest_indices(features, model.quantizer.codebook[:, : features.shape[1]])
            model.update_codebook(nn.functional.pad(features, (0, learned)), indices, labelled=0)
    return model.eval()


def _save(folder: Path, trainer: Trainer, batches: Batches, place: Place) -> None:
    """Write a checkpoint; remove the others but for the best one."""
    state = trainer.state
    new = _checkpoint(folder, state.step)
    unfinished = folder / "unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    save(unfinished, trainer, batches, place)
    unfinished.rename(new)
    for path in set(folder.glob(_CHECKPOINTS)) - {new, _checkpoint(folder, best_step(state.history))}:
        shutil.rmtree(path)


def _checkpoint(folder: Path, step: int) -> Path:
    return folder / f"step-{step:09d}"


def local_device(settings: Settings) -> torch.device:
    """The device that `training.device` names."""
    wanted = settings.training.device
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wanted)
