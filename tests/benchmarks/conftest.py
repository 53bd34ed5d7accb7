"""A few generated images and their manifests."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.methods.protocol import Manifests
from raysvq.sample import write_sample


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two image sets, `sample` and `other`."""
    folder = tmp_path_factory.mktemp("data")
    for seed, name in enumerate(("sample", "other")):
        write_sample(folder / name, seed, normal=24, anomalous=18)
    return folder


@pytest.fixture
def manifests(data: Path, tmp_path: Path) -> Manifests:
    """Those of the samples, in a folder of the test."""
    return Manifests(data, tmp_path)
