"""Training tiles in memory, for methods that stream none."""

from __future__ import annotations

from raysvq.settings import Settings, TrainingSettings
from raysvq.training.augmentation import with_copies
from raysvq.training.data_loading import Tiles
from raysvq.training.shuffling import in_memory
from raysvq.training.tile_stream import Samples, training_samples


def print_line(line: str) -> None:
    """Take a line of progress."""
    print(f"  {line}", flush=True)


def read_samples(manifest: str, settings: Settings) -> Samples:
    """Decode and cut all training images."""
    return training_samples(manifest, settings, print_line)


def tiles(samples: Samples, training: TrainingSettings) -> Tiles:
    """What batches are drawn from, copies of outliers included."""
    if samples.outlier is None:
        return Tiles(in_memory(samples.normal))
    outlier = with_copies(in_memory(samples.outlier), training.outlier_copies, training.seed)
    return Tiles(in_memory(samples.normal), outlier, labelled=len(samples.outlier["weight"]))
