"""Small training runs without a cluster: settings, tiles and batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from raysvq.settings import Settings
from raysvq.training.data_loading import Batch
from tests.data.conftest import Folder


@pytest.fixture
def small(small: Callable[..., Settings]) -> Callable[..., Settings]:
    """Settings of a model that trains in milliseconds; `training={"steps": 9}` changes a value."""

    def build(**sections: dict[str, Any]) -> Settings:
        own = {"tiles": {"size": 16}, "training": {"steps": 20, "batch_size": 8, "validate_every": 10}}
        return small(**(own | {name: own.get(name, {}) | new for name, new in sections.items()}))

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


@pytest.fixture
def disk(tmp_path: Path) -> Folder:
    """A folder on local disk, to fill with images."""
    return Folder(str(tmp_path / "disk"))
