"""A rank's share of every step: normal tiles, then labelled outliers, mirrored and thinned at random."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from raysvq.model.scorer import to_model_input
from raysvq.settings import TrainingSettings
from raysvq.training.loader import Columns, EndlessBatches, Position, Source, join

_NORMAL, _OUTLIER, _FLIPS, _POSITIONS = range(4)  # seeds of their own


@dataclass(frozen=True)
class Batch:
    """One step's tiles on one rank: normal first, labelled outliers last.

    With `positions`, what the step learns from on grids of features, all that is by position is of these
    alone, as a grid (P, 1); `pixels` are whole.
    """

    pixels: Tensor  # (B, C, H, W) in [0, 1], or what a stem gave for them
    outliers: int
    weight: Tensor | None  # (outliers, h, w) marked share of each grid position
    unknown: Tensor | None = None  # (B - outliers,) bool, unlabelled; None: none is
    positions: Tensor | None = None  # (B, P) int64, row by row; None: all


@dataclass(frozen=True)
class Place:
    """Where a process stands among the data-parallel ones, and what it computes on."""

    device: torch.device
    rank: int = 0
    workers: int = 1


@dataclass(frozen=True)
class Tiles:
    """What a rank trains on.

    `normal` gives `tile` (T, S, S, C) uint16 over the full scale and, where unlabelled ones take part,
    `unknown` (T,) bool; `outlier` gives `tile` and `weight` (T, h, w) float32, the marked share of each
    grid position.
    """

    normal: Source
    outlier: Source | None = None
    stemmed: bool = False  # `tile` has been through the stem, and is `features`; outliers with their copies


@dataclass(frozen=True)
class DataPosition:
    """What a rank has drawn so far: all ranks the same."""

    batches: int = 0
    normal: Position = field(default_factory=Position)
    outlier: Position = field(default_factory=Position)

    def shared_out(self, before: int, now: int) -> DataPosition:
        """The position where `now` workers go on with what `before` had begun.

        Normal tiles are split among the workers, so each goes on at the same share of its new part of the
        epoch: some tiles of this epoch come twice, as many not at all. Outliers are each worker's whole.
        """
        if before == now:
            return self
        return replace(self, normal=replace(self.normal, row=self.normal.row * before // now))


class Batches:
    """Endless batches at a fixed ratio of normal to outlier tiles."""

    def __init__(
        self, settings: TrainingSettings, tiles: Tiles, place: Place, start: DataPosition = DataPosition()
    ) -> None:
        """Read nothing yet; `start` goes on from there."""
        share = settings.batch_size // place.workers
        cache = settings.cache_mib * 2**20
        self._device = place.device
        self._flips = settings.flips
        self._positions = settings.positions
        self._seeds = [settings.seed, place.rank]
        self._drawn = start.batches
        self._outliers = outliers_a_step(share, settings.outlier_share) if tiles.outlier else 0
        self._normal = EndlessBatches(
            tiles.normal, share - self._outliers, cache, [*self._seeds, _NORMAL], "normal", start.normal
        )
        self._outlier: EndlessBatches | None = None
        if tiles.outlier and self._outliers:
            seeds = [*self._seeds, _OUTLIER]
            self._outlier = EndlessBatches(
                tiles.outlier, self._outliers, cache, seeds, "outlier", start.outlier
            )

    @property
    def position(self) -> DataPosition:
        """After the batch given last."""
        outlier = self._outlier.position if self._outlier else Position()
        return DataPosition(self._drawn, self._normal.position, outlier)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        normal = next(self._normal)
        outlier: Columns | None = next(self._outlier) if self._outlier else None
        weight = None if outlier is None else torch.from_numpy(outlier["weight"].copy()).to(self._device)
        unknown = normal.pop("unknown", None)
        pixels = self._inputs(normal if outlier is None else join([normal, outlier]))
        if self._flips:
            draw = np.random.default_rng([*self._seeds, _FLIPS, self._drawn])
            axes = [axis for axis in (-2, -1) if draw.random() < 0.5]
            pixels = pixels.flip(axes)
            weight = None if weight is None else weight.flip(axes)
        positions = self._draw_positions(pixels, weight) if "features" in normal else None
        if positions is not None and weight is not None:
            weight = weight.flatten(1).gather(1, positions[-len(weight) :])[..., None]
        self._drawn += 1
        unlabelled = None if unknown is None else torch.from_numpy(unknown).to(self._device)
        return Batch(pixels, self._outliers, weight, unlabelled, positions)

    def _draw_positions(self, features: Tensor, weight: Tensor | None) -> Tensor | None:
        count = features.shape[-2] * features.shape[-1]
        if count <= self._positions:
            return None
        rng = np.random.default_rng([*self._seeds, _POSITIONS, self._drawn])
        keys = rng.random((len(features), count))
        if weight is not None:
            keys[-len(weight) :] += (weight.flatten(1) > 0).cpu().numpy()
        return torch.from_numpy(largest(keys, self._positions)).to(self._device)

    def _inputs(self, columns: Columns) -> Tensor:
        if "features" in columns:
            return torch.from_numpy(columns["features"]).to(self._device).float()
        return to_model_input(columns["tile"], self._device)


def largest(keys: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.int64]:
    """Where the `count` largest of each row are. (R, N) -> (R, count), ascending."""
    return np.sort(np.argpartition(keys, -count, axis=1)[:, -count:], axis=1)


def outliers_a_step(tiles: int, share: float) -> int:
    """None for a share of 0; else at least one, and a normal tile is always left."""
    return min(tiles - 1, max(1, round(tiles * share))) if share else 0
