"""Trainer and data of one rank, new or from a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from raysvq.model.collective import take_from_first
from raysvq.model.network import Network, build_network
from raysvq.settings import Settings
from raysvq.training.augmentation import with_copies
from raysvq.training.checkpoint import (
    TrainingState,
    load_model,
    load_optimiser,
    load_random,
    load_state,
    save_checkpoint,
    save_random,
)
from raysvq.training.data_loading import Batch, Batches, Place, Tiles
from raysvq.training.frozen_features import frozen_features
from raysvq.training.shuffling import Columns, Source
from raysvq.training.trainer import Trainer, make_optimiser

# Pixels of normal tiles, per encoder, from which statistics and the first codebook are taken.
INITIAL_PIXELS = {"pixels": 2**21, "features": 2**24}
INITIAL_POSITIONS = 50_000  # encodings for k-means


def initialize(
    settings: Settings,
    tiles: Tiles,
    place: Place,
    checkpoint: Path | None = None,
    progress: Callable[[str], None] | None = None,
    wrap: Callable[[Network], nn.Module] = lambda model: model,
) -> tuple[Trainer, Batches]:
    """Make a trainer and its batches.

    Args:
        checkpoint: continues this run, exactly if the number of workers is the same; else the data are
            divided anew.
        progress: takes lines of progress.
        wrap: makes the model data-parallel.
    """
    torch.manual_seed(settings.training.seed)
    model = build_network(settings).to(place.device)
    optimiser = make_optimiser(model, settings)
    state = TrainingState()
    if checkpoint:
        load_model(checkpoint, model)
        load_optimiser(checkpoint, optimiser)
        state = load_state(checkpoint)
    else:
        model.load_pretrained()
    before, state.workers = state.workers, place.workers
    position = state.position.shared_out(before, place.workers)
    batches = Batches(settings.training, _network_inputs(tiles, model, settings), place, position)
    if not checkpoint:
        initialize_from_data(model, _an_epoch(batches), settings)
    trainer = Trainer(model, optimiser, settings, state, progress, wrap(model), tiles.labelled)
    if checkpoint and before == place.workers:
        load_random(checkpoint, place.rank, place.device)
    else:
        torch.manual_seed(settings.training.seed + 1 + place.rank + state.step)
    return trainer, batches


def _network_inputs(tiles: Tiles, model: Network, settings: Settings) -> Tiles:
    """Tiles or features for the network, with copies of labelled tiles."""
    normal, outlier = tiles.normal, tiles.outlier
    if outlier and settings.objective.labels == "tile":
        outlier = _marked_all_over(outlier)
    if tiles.frozen_features:
        return replace(tiles, outlier=outlier)
    if outlier and settings.training.outlier_copies:
        outlier = with_copies(outlier, settings.training.outlier_copies, settings.training.seed)
    if settings.model.encoder == "features":
        normal, outlier = frozen_features(normal, model), outlier and frozen_features(outlier, model)
    return replace(tiles, normal=normal, outlier=outlier)


def save(folder: Path, trainer: Trainer, batches: Batches, place: Place) -> None:
    """Write this rank's part of a checkpoint; rank 0 writes what all ranks share."""
    trainer.state.position = batches.position
    if place.rank == 0:
        save_checkpoint(folder, trainer.model, trainer.optimiser, trainer.state)
    save_random(folder, place.rank, place.device)


def _marked_all_over(outlier: Source) -> Source:
    def read() -> Iterator[Columns]:
        for columns in outlier():
            yield columns | {"weight": np.ones_like(columns["weight"])}

    return read


def initialize_from_data(model: Network, batches: Iterator[Batch], settings: Settings) -> None:
    """Compute mean and deviation, and initialize the codebook, from the first normal tiles."""
    taken: list[Tensor] = []
    unlabelled: list[Tensor] = []
    wanted = INITIAL_PIXELS[settings.model.encoder] / settings.tiles.size**2
    with torch.no_grad():
        for batch in batches:
            taken.append(batch.pixels[: len(batch.pixels) - batch.outliers])
            if batch.unlabelled is not None:
                unlabelled.append(_marked(batch.unlabelled, taken[-1]))
            if sum(map(len, taken)) >= wanted:
                break
        features = torch.cat(taken)
        del taken
        model.fit_statistics(features)
        take_from_first(model.mean)
        take_from_first(model.std)

        def place_codes(tiles: Tensor) -> None:
            each = -(-INITIAL_POSITIONS // len(tiles))
            parts = torch.split(tiles, settings.training.batch_size)
            chosen = torch.cat([_some(model.encode(part), each * len(part)) for part in parts])
            model.quantizer.initialize(chosen, settings.training.seed)

        doubtful = torch.cat(unlabelled) if unlabelled else None
        usual = model.fit_deviations(features, place_codes, doubtful, settings.objective.trim)
        place_codes(features[usual])


def _marked(which: Tensor, tiles: Tensor) -> Tensor:
    """(N,) bool of the tiles that int64 indices name."""
    return torch.zeros(len(tiles), dtype=torch.bool, device=tiles.device).index_fill_(0, which, True)


def _an_epoch(batches: Batches) -> Iterator[Batch]:
    """Batches of normal tiles, each tile once: the last is cut where it began again."""
    drawn = 0
    while batches.position.normal.epoch == 0:
        batch = batches.whole()
        normals = batch.pixels[: len(batch.pixels) - batch.outliers]
        drawn += len(normals)
        position = batches.position.normal
        again = drawn - (drawn - position.row) // position.epoch if position.epoch else 0
        first, unlabelled = normals[: len(normals) - again], batch.unlabelled
        yield Batch(first, 0, None, None if unlabelled is None else unlabelled[unlabelled < len(first)])


def _some(encoded: Tensor, count: int) -> Tensor:
    """At most `count` random positions of a grid. (N, d, h, w) -> (P, d)"""
    positions = encoded.movedim(1, -1).flatten(0, 2)
    return positions[torch.randperm(len(positions), device=positions.device)[:count]]
