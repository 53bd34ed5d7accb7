"""The training tiles of a manifest, in memory: what `raysvq train` would stream."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from raysvq.data.manifest import select
from raysvq.data.stream import Batch, Cutter, normal_cutter, outlier_cutter
from raysvq.errors import DataError
from raysvq.model.network import cell_size
from raysvq.runtime.progress import Progress
from raysvq.schema import ANOMALOUS, NORMAL, TRAIN
from raysvq.settings import Settings, TileSettings
from raysvq.training.loader import Columns


@dataclass(frozen=True)
class Samples:
    """Columns as `raysvq.training.batches.Tiles` describes them."""

    normal: Columns
    outlier: Columns | None  # None: no labelled outlier


def training_samples(manifest: str, settings: Settings, progress: Progress) -> Samples:
    """Decode and cut all training images that are labelled; those that cannot be read are named.

    Raises:
        DataError: there are labelled outliers, and none has an anomalous tile.
    """
    has_outliers = len(select(manifest, split=TRAIN, label=ANOMALOUS)) > 0
    outlier = outlier_samples(manifest, settings, progress) if has_outliers else None
    normal = normal_samples(select(manifest, split=TRAIN, label=NORMAL), settings, progress)
    return Samples(normal, outlier)


def normal_samples(rows: pa.Table, settings: Settings, progress: Progress) -> Columns:
    """The tiles of these rows of a manifest."""
    return _cut(rows, normal_cutter(settings, progress))


def outlier_samples(manifest: str, settings: Settings, progress: Progress) -> Columns:
    """The anomalous tiles of all labelled training outliers.

    Raises:
        DataError: there is none.
    """
    outliers = select(manifest, split=TRAIN, label=ANOMALOUS)
    columns = _cut(outliers, outlier_cutter(settings, cell_size(settings.model), progress))
    require_marked(len(columns["tile"]), len(outliers), settings.tiles)
    return columns


def require_marked(tiles: int, outliers: int, settings: TileSettings) -> None:
    """Refuse labelled outliers that have no anomalous tile.

    Raises:
        DataError: `tiles` is 0.
    """
    if not tiles:
        raise DataError(
            f"none of the {outliers} labelled outliers has an anomalous tile: their masks mark less than"
            f" tiles.anomalous_fraction={settings.anomalous_fraction:g} of every tile, or cannot be read;"
            " lower that setting, or index with split.outliers=0 to train without outliers"
        )


def _cut(rows: pa.Table, cutter: Cutter) -> Columns:
    names = ("uri", "mask_uri", "label")
    batch: Batch = {name: np.array(rows[name].to_pylist(), object) for name in names}
    found = list(cutter(batch))
    return {name: np.concatenate([piece[name] for piece in found]) for name in found[0]}
