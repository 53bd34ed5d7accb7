"""Small training runs without a cluster: settings, tiles and batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from raysvq.settings import Settings, parse_settings
from raysvq.training.loop import Batch


@pytest.fixture(autouse=True)
def _repeatable() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def small() -> Callable[..., Settings]:
    """Settings of a model that trains in milliseconds; `training={"steps": 9}` changes a value."""

    def build(**sections: dict[str, Any]) -> Settings:
        values: dict[str, dict[str, Any]] = {
            "tiles": {"size": 16},
            "model": {"hidden": 8, "residual_hidden": 4, "residual_layers": 1}
            | {"codebook_size": 16, "embedding_dim": 4},
            "training": {"steps": 20, "batch_size": 8, "validate_every": 10},
        }
        return parse_settings(values | {name: values.get(name, {}) | new for name, new in sections.items()})

    return build


@pytest.fixture
def batches() -> Callable[..., Iterator[Batch]]:
    """Endless batches of 6 normal tiles and 2 outliers, the same for the same seed."""

    def build(seed: int = 0, outliers: int = 2) -> Iterator[Batch]:
        rng = torch.Generator().manual_seed(seed)
        while True:
            pixels = torch.rand(6 + outliers, 3, 16, 16, generator=rng)
            weight = torch.rand(outliers, 4, 4, generator=rng) if outliers else None
            yield Batch(pixels, outliers, weight)

    return build


@dataclass
class Shard:
    """As much of a Ray Data shard as the loader uses."""

    columns: dict[str, np.ndarray]
    reads: int = 0

    def iter_batches(self, *, batch_size: int, batch_format: str) -> Iterator[dict[str, np.ndarray]]:
        assert batch_format == "numpy"
        self.reads += 1
        for start in range(0, len(next(iter(self.columns.values()))), batch_size):
            yield {name: column[start : start + batch_size] for name, column in self.columns.items()}


@pytest.fixture
def make_shard() -> Callable[..., Shard]:
    """A shard of the given columns."""
    return Shard
