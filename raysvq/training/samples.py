"""The training tiles of a manifest, in memory: what `raysvq train` would stream."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raysvq.data.manifest import select
from raysvq.data.stream import Batch, Cutter, normal_cutter, outlier_cutter
from raysvq.model.network import cell_size
from raysvq.relay import Voice
from raysvq.schema import ANOMALOUS, NORMAL, TRAIN
from raysvq.settings import Settings
from raysvq.training.loader import Columns


@dataclass(frozen=True)
class Samples:
    """Columns as `raysvq.training.batches.Tiles` describes them."""

    normal: Columns
    outlier: Columns | None  # None: no labelled outlier


def training_samples(manifest: str, settings: Settings, voice: Voice) -> Samples:
    """Decode and cut all training images that are labelled; those that cannot be read are named."""
    outlier = _cut(manifest, ANOMALOUS, outlier_cutter(settings, cell_size(settings.model), voice))
    normal = _cut(manifest, NORMAL, normal_cutter(settings, voice))
    return Samples(normal, outlier if len(outlier["tile"]) else None)


def _cut(manifest: str, label: str, cutter: Cutter) -> Columns:
    rows = select(manifest, split=TRAIN, label=label)
    names = ("uri", "mask_uri", "label")
    batch: Batch = {name: np.array(rows[name].to_pylist(), object) for name in names}
    found = list(cutter(batch))
    return {name: np.concatenate([piece[name] for piece in found]) for name in found[0]}
