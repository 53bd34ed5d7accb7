"""Batches of one rank: normal tiles, then labelled outliers, mirrored at random."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from raysvq.model.device import send
from raysvq.model.scorer import to_model_input
from raysvq.settings import TrainingSettings
from raysvq.training.augmentation import mirrored
from raysvq.training.frozen_features import draw_positions, gather_positions
from raysvq.training.shuffling import Columns, EndlessBatches, Position, Room, Source, in_memory

_NORMAL, _OUTLIER, _FLIPS, _POSITIONS = range(4)  # each random stream has a seed of its own


@dataclass(frozen=True)
class Batch:
    """One step's tiles on one rank: normal first, labelled outliers last.

    Features and weights may hold only some positions of each grid, as a grid (P, 1).
    """

    pixels: Tensor  # (B, C, H, W) in [0, 1], or features of a stem, (B, S, h, w) or (B, S, P, 1)
    outliers: int
    weight: Tensor | None  # (outliers, h, w) marked share of each grid position
    unlabelled: Tensor | None = None  # int64 indices of normal tiles without a label; None: all labelled


@dataclass(frozen=True)
class Place:
    """Device, rank and number of data-parallel processes."""

    device: torch.device
    rank: int = 0
    workers: int = 1


@dataclass(frozen=True)
class Tiles:
    """What a rank trains on.

    `normal` gives `tile` (T, S, S, C) uint16 over the full scale and, where unlabelled ones take part,
    `unknown` (T,) bool; `outlier` gives `tile` and `weight` (T, h, w) float32, the marked share of each
    grid position. Both with the halo, where there is one.
    """

    normal: Source
    outlier: Source | None = None
    frozen_features: bool = False  # rows have `features` of the stem, not `tile`, and outliers their copies
    labelled: int = 0  # number of outlier tiles, their copies not counted

    def __post_init__(self) -> None:
        if (self.outlier is None) != (self.labelled == 0):
            raise ValueError(f"`labelled` is the number of outlier tiles; found {self.labelled}")


@dataclass(frozen=True)
class DataPosition:
    """What each rank has drawn so far, the same on all."""

    batches: int = 0
    normal: Position = field(default_factory=Position)
    outlier: Position = field(default_factory=Position)

    def shared_out(self, before: int, now: int) -> DataPosition:
        """The position for `now` workers that continue an epoch begun by `before`.

        Normal tiles are split among the workers, so each goes on at the same fraction of its new part: some
        tiles of this epoch come twice, as many not at all. Every worker has all outliers.
        """
        if before == now:
            return self
        return replace(self, normal=replace(self.normal, row=self.normal.row * before // now))


class Batches:
    """Endless batches at a fixed ratio of normal to outlier tiles."""

    def __init__(
        self, settings: TrainingSettings, tiles: Tiles, place: Place, start: DataPosition = DataPosition()
    ) -> None:
        """Continue from `start`; nothing is read yet."""
        share = settings.batch_size // place.workers
        disk = 0 if tiles.frozen_features else settings.disk_cache_mib
        room = Room(settings.cache_mib * 2**20, disk * 2**20)
        self._device = place.device
        self._flips = settings.flips
        self._positions = settings.positions_per_tile
        self._seeds = [settings.seed, place.rank]
        self._drawn = start.batches
        self._outliers = outliers_per_step(share, settings.outlier_fraction) if tiles.outlier else 0
        self._normal = EndlessBatches(
            tiles.normal, share - self._outliers, room, [*self._seeds, _NORMAL], "normal", start.normal
        )
        self._outlier: EndlessBatches | None = None
        if tiles.outlier and self._outliers:
            seeds = [*self._seeds, _OUTLIER]
            self._outlier = EndlessBatches(
                tiles.outlier, self._outliers, room, seeds, "outlier", start.outlier
            )

    @property
    def position(self) -> DataPosition:
        """The position after the last batch returned."""
        outlier = self._outlier.position if self._outlier else Position()
        return DataPosition(self._drawn, self._normal.position, outlier)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        return self._next(self._positions)

    def whole(self) -> Batch:
        """The next batch with all positions of its grids."""
        return self._next(None)

    def _next(self, count: int | None) -> Batch:
        normal = next(self._normal)
        outlier: Columns | None = next(self._outlier) if self._outlier else None
        parts = [self._inputs(part) for part in (normal, outlier) if part is not None]
        weight = None if outlier is None else torch.from_numpy(outlier["weight"].copy())
        if self._flips:
            grids = mirrored([*parts, weight] if weight is not None else parts, self._rng(_FLIPS))
            parts, weight = grids[: len(parts)], grids[-1] if weight is not None else None
        if "features" in normal and count is not None and count < parts[0][0, 0].numel():
            drawn = draw_positions(parts, count, weight, self._rng(_POSITIONS))
            parts = [gather_positions(part, chosen) for part, chosen in zip(parts, drawn, strict=True)]
            weight = None if weight is None else weight.flatten(1).gather(1, drawn[-1])[..., None]
        unknown = normal.get("unknown")
        self._drawn += 1
        return Batch(
            send(torch.cat(parts), self._device).float(),
            self._outliers,
            None if weight is None else send(weight, self._device),
            send(torch.from_numpy(unknown.nonzero()[0]), self._device) if unknown is not None else None,
        )

    def _rng(self, use: int) -> np.random.Generator:
        return np.random.default_rng([*self._seeds, use, self._drawn])

    def _inputs(self, columns: Columns) -> Tensor:
        """(B, C, H, W), or (B, S, h, w) still in float16."""
        if "features" in columns:
            return torch.from_numpy(columns["features"]).movedim(-1, 1)
        return to_model_input(columns["tile"], self._device)


def tiles_of(normal: Source, outlier: Columns | None, copies: int, frozen_features: bool) -> Tiles:
    """Tiles whose outliers are in memory.

    Args:
        copies: of each outlier among rows with features; other rows have none yet.
    """
    if outlier is None:
        return Tiles(normal, None, frozen_features)
    labelled = len(outlier["weight"]) // (1 + copies if frozen_features else 1)
    return Tiles(normal, in_memory(outlier), frozen_features, labelled)


def outliers_per_step(tiles: int, fraction: float) -> int:
    """Number of outliers per step: 0 for a fraction of 0, else at least one; a normal tile is always left."""
    return min(tiles - 1, max(1, round(tiles * fraction))) if fraction else 0
