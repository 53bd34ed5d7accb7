"""What trials share: prepared in chunks, on machines that work, and what trials get to know of errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from ray.cluster_utils import Cluster

from raysvq.data.index import build_index
from raysvq.data.manifest import select
from raysvq.errors import DataError, TrainingMemoryError
from raysvq.runtime.cluster import connect
from raysvq.sample import write_sample
from raysvq.settings import RaySettings, Settings, StorageSettings
from raysvq.training.chunks import chunk_task, make_chunk
from raysvq.training.shuffling import join
from raysvq.training.tile_stream import training_samples
from raysvq.training.validation import validation_images
from raysvq.tuning import trial_data
from raysvq.tuning.trial_data import CHUNK_IMAGES, TrialData, TrialDataStore, prepare
from tests.backbones import write_description, write_onnx

Build = Callable[..., Settings]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("trial_data")
    made = str(folder / "manifest.parquet")
    split = Settings().split.model_copy(update={"outliers": 6})
    build_index(write_sample(folder / "sample", normal=90, anomalous=8), made, split)
    return made


def _quiet(line: str) -> None:
    """Nobody listens."""


def _prepared(manifest: str, settings: Settings, metric: str = "image_auroc") -> TrialData:
    return prepare(manifest, settings, metric, _quiet, lambda part: part())


def test_chunks_are_small_and_come_to_what_training_reads(manifest: str, small: Build) -> None:
    settings = small(tiles={"size": 32, "anomalous_fraction": 0.01})
    data, whole = _prepared(manifest, settings), training_samples(manifest, settings, _quiet)
    images = len(select(manifest, split="train", label="normal"))
    assert len(data.normal) == -(-images // CHUNK_IMAGES) >= 3
    assert max(len(chunk["tile"]) for chunk in data.normal) < len(whole.normal["tile"]) / 2
    tiles = data.tiles()
    assert np.array_equal(join(list(tiles.normal()))["tile"], whole.normal["tile"])
    assert tiles.outlier is not None
    assert whole.outlier is not None
    assert np.array_equal(join(list(tiles.outlier()))["weight"], whole.outlier["weight"])
    assert tiles.labelled == len(whole.outlier["tile"])
    assert [item.image for item in data.items()] == validation_images(manifest, 512)


def test_defects_drawn_on_do_not_depend_on_the_chunks(
    manifest: str, small: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = small(tiles={"size": 32})
    expected = list(_prepared(manifest, settings, "synthetic_auroc").items())
    assert [item.image.anomalous for item in expected[:4]] == [False, True, False, True]
    monkeypatch.setattr(trial_data, "CHUNK_IMAGES", 3)
    found = _prepared(manifest, settings, "synthetic_auroc")
    assert len(found.validation) > 1
    assert list(found.items()) == expected


def test_trials_with_one_stem_share_its_features(manifest: str, small: Build, tmp_path: Path) -> None:
    write_onnx(tmp_path / "network.onnx", sides=(48, 48))
    stem = {"encoder": "features", "stem": write_description(tmp_path)}
    settings = small(tiles={"size": 48, "mode": "whole"}, model=stem)
    data = _prepared(manifest, settings)
    assert {chunk["features"].shape[1:] for chunk in data.normal} == {(6, 6, 10)}
    shipped, wider = (small(model={"encoder": "features"} | given) for given in ({}, {"codebook_size": 32}))
    assert trial_data.data_key(shipped) == trial_data.data_key(wider)
    assert trial_data.data_key(shipped) != trial_data.data_key(small(model=stem))


@pytest.mark.parametrize(
    ("error", "kind"), [(DataError("no such file"), DataError), (MemoryError("9 GiB"), TrainingMemoryError)]
)
def test_an_error_is_handed_to_the_trials(error: Exception, kind: type[Exception]) -> None:
    def part() -> None:
        raise error

    chunk, _ = make_chunk(part, StorageSettings(), None)
    assert isinstance(chunk, kind)
    with pytest.raises(kind, match=str(error)):
        list(TrialData([chunk], None, [], False, 0).tiles().normal())


@pytest.fixture
def idle_head(no_cluster: None) -> Iterator[str]:
    """Id of the head, which has no CPU, of a cluster with one more machine."""
    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": 2**27}
    made = Cluster(initialize_head=True, head_node_args=head)
    connect(RaySettings(address=made.address))
    made.add_node(num_cpus=2, object_store_memory=2**27)
    yield ray.get_runtime_context().get_node_id()
    ray.shutdown()
    made.shutdown()


def _where() -> str:
    return str(ray.get_runtime_context().get_node_id())


def test_nothing_is_prepared_on_a_head_without_cpus_and_each_data_once(
    manifest: str, small: Build, idle_head: str
) -> None:
    task: Any = chunk_task()
    found = ray.get([task.remote(partial(_where), StorageSettings(), None)[0] for _ in range(8)])
    assert idle_head not in found
    settings = small(tiles={"size": 32, "anomalous_fraction": 0.01})
    lines: list[str] = []
    capacity = connect(RaySettings())
    store = TrialDataStore([manifest], "image_auroc", settings.storage, capacity, lines.append)
    for eta in (0.5, 0.7):
        store.require(
            settings.model_copy(update={"objective": settings.objective.model_copy(update={"eta": eta})})
        )
    (data,) = ray.get(store.catalog.find.remote(trial_data.data_key(settings)))
    assert len(join(list(data.tiles().normal()))["tile"]) > 0
    assert len(list(data.items())) == len(validation_images(manifest, 512))
    assert len(lines) == 1
