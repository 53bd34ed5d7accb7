"""The training and validation images of a manifest, in memory: the tiles that `raysvq train` would stream."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from raysvq.data.manifest import select
from raysvq.data.stream import Batch, Cutter, normal_cutter, outlier_cutter
from raysvq.model.network import cell_size
from raysvq.schema import ANOMALOUS, NORMAL, TRAIN
from raysvq.settings import Settings, TrainingSettings
from raysvq.training.batches import Tiles
from raysvq.training.jitter import with_copies
from raysvq.training.loader import Columns, in_memory


@dataclass(frozen=True)
class Samples:
    """Columns of tiles, as `raysvq.training.batches.Tiles` describes them."""

    normal: Columns
    outlier: Columns | None

    def tiles(self, training: TrainingSettings) -> Tiles:
        """The same, as batches are drawn from."""
        if self.outlier is None:
            return Tiles(in_memory(self.normal))
        outlier = with_copies(in_memory(self.outlier), training.outlier_copies, training.seed)
        return Tiles(in_memory(self.normal), outlier)


class Aloud:
    """Stands in for the relay of a cluster: prints."""

    def say(self, line: str) -> None:
        """Take a line of progress."""
        print(f"  {line}", flush=True)


def training_samples(manifest: str, settings: Settings) -> Samples:
    """Decode and cut all training images."""
    outlier = _cut(manifest, ANOMALOUS, outlier_cutter(settings, cell_size(settings.model), Aloud()))
    normal = _cut(manifest, NORMAL, normal_cutter(settings, Aloud()))
    return Samples(normal, outlier if len(outlier["tile"]) else None)


def _cut(manifest: str, label: str, cutter: Cutter) -> Columns:
    rows = select(manifest, split=TRAIN, label=label)
    batch: Batch = {name: np.array(rows[name].to_pylist(), object) for name in ("uri", "mask_uri")}
    pieces: Iterator[Batch] = cutter(batch)
    found = list(pieces)
    return {name: np.concatenate([piece[name] for piece in found]) for name in found[0]}
