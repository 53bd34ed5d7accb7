"""A few generated images, and a small stand-in for the network of frozen features."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benchmarks.methods import features
from benchmarks.methods.protocol import Manifests
from raysvq.imaging.sample import write_sample


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one image set, `sample`."""
    folder = tmp_path_factory.mktemp("data")
    write_sample(folder / "sample", normal=24, anomalous=12)
    return folder


@pytest.fixture
def manifests(data: Path, tmp_path: Path) -> Manifests:
    """Those of the sample, in a folder of the test."""
    return Manifests(data, tmp_path)


class _Stem(nn.Module):
    """Three coarser and coarser layers, of random weights."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv2d(3, 4, 4, 4), nn.Conv2d(4, 6, 2, 2), nn.Conv2d(6, 8, 2, 2)])

    def forward(self, x: Tensor) -> list[Tensor]:
        found = []
        for layer in self.layers:
            x = torch.relu(layer(x))
            found.append(x)
        return found


@pytest.fixture
def _small_stem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "_network", _Stem)
