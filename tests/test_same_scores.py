"""A job's scores are the library's own, however the work is cut up and whoever does it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import ray

from raysvq.results import read_scores
from raysvq.runtime.cluster import connect
from raysvq.scoring.job import score
from raysvq.settings import RaySettings
from tests.plates import Plates, make_plates

IMAGES = 20


@pytest.fixture(scope="module", params=[1, 2])
def _cpus(request: pytest.FixtureRequest, no_cluster: None) -> Iterator[None]:
    # A cluster of one CPU is none to train on, so the setting begins at two.
    connect(RaySettings.model_construct(address=None, cpus=request.param, object_store_mib=128))
    yield
    ray.shutdown()


@pytest.fixture(scope="module", params=["tiles", "whole"])
def plates(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Plates:
    return make_plates(str(tmp_path_factory.mktemp("plates")), IMAGES, mode=request.param)


@pytest.mark.usefixtures("_cpus")
@pytest.mark.parametrize("batch_images", [1, 7, 64])
def test_scores_are_those_of_the_library(plates: Plates, tmp_path: Path, batch_images: int) -> None:
    rows = pq.read_table(plates.manifest)
    shuffled = rows.take(np.random.default_rng(batch_images).permutation(len(rows)))
    pq.write_table(shuffled, tmp_path / "shuffled.parquet")
    out, settings = str(tmp_path / "out"), plates.settings(batch_images=batch_images)
    score(str(tmp_path / "shuffled.parquet"), plates.model, out, settings)
    found = read_scores(out, ["uri", "image_score"]).to_pylist()
    assert {Path(row["uri"]).name: row["image_score"] for row in found} == pytest.approx(
        plates.direct(), rel=1e-5
    )
    assert len(found) == IMAGES
