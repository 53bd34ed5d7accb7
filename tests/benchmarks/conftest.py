"""A few generated images and their manifests."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.methods.protocol import Manifests
from raysvq.sample import write_sample


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
