"""Models of trials: kept, forgotten, made bundles."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from raysvq.data.index import build_index
from raysvq.errors import TrainingError
from raysvq.model.bundle import load_bundle
from raysvq.model.network import Network
from raysvq.sample import write_sample
from raysvq.settings import Settings
from raysvq.storage import exists, remove_file
from raysvq.training.checkpoint import Progress
from raysvq.training.in_process import train_in_process
from raysvq.training.tile_stream import training_samples
from raysvq.training.validation import ValidationImage, validate, validation_images
from raysvq.tuning.kept import Kept

Build = Callable[..., Settings]


def _ignore(line: str) -> None:
    """Nobody reads it."""


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("kept")
    made = str(folder / "manifest.parquet")
    build_index(
        write_sample(folder / "sample", normal=16, anomalous=8),
        made,
        Settings().split.model_copy(update={"outliers": 6}),
    )
    return made


@pytest.fixture
def settings(small: Build) -> Settings:
    return small(training={"steps": 12, "validate_every": 6}, tiles={"size": 32, "anomalous_fraction": 0.01})


@pytest.fixture
def trained(manifest: str, settings: Settings) -> tuple[Network, Progress]:
    samples = training_samples(manifest, settings, _ignore)
    judge = partial(validate, images=validation_images(manifest, 20))
    return train_in_process(settings, samples.normal, samples.outlier, judge, say=None)


def test_a_kept_model_becomes_the_bundle_that_training_would_have_made(
    manifest: str, settings: Settings, trained: tuple[Network, Progress], place: str
) -> None:
    model, progress = trained
    kept = Kept(f"{place}/state")
    kept.keep(3, model, progress, {"outlier_tiles": 7, "device": "cpu", "seconds": 1.5})
    assert kept.has(3)
    kept.make_bundle(3, manifest, settings, {"normals": 11}, f"{place}/model")
    bundle = load_bundle(f"{place}/model")
    for name, value in model.state_dict().items():
        assert torch.equal(bundle.model.state_dict()[name], value), name
    assert bundle.settings.model_dump() == settings.model_dump()
    assert bundle.training | {"outlier_tiles": 7, "seconds": 1.5, "normals": 11} == bundle.training
    assert bundle.training["best_step"] == progress.step
    assert [row["step"] for row in bundle.history["history"]] == [6, 12]
    found, expected = bundle.reference, progress.validation
    assert found.validation["auroc"] == expected["auroc"]
    assert found.pixel_threshold == pytest.approx(expected["pixel_threshold"], rel=1e-6)
    assert found.bfloat16_deviation == pytest.approx(expected["bfloat16_deviation"], rel=1e-4)
    normal = np.array(expected["image_scores"])[~np.array(expected["anomalous"])]
    assert found.normal_scores["0.5"] == pytest.approx(float(np.median(normal)), rel=1e-6)


def test_only_whole_models_count_and_what_is_not_there_can_be_forgotten(
    trained: tuple[Network, Progress], place: str
) -> None:
    kept = Kept(place)
    kept.remove(1)
    kept.keep(1, *trained, {})
    kept.keep(2, *trained, {})
    remove_file(f"{place}/model-00001/state.json")
    assert not kept.has(1)
    assert kept.has(2)
    kept.remove(1)
    assert not exists(f"{place}/model-00001")
    assert kept.has(2)


def test_a_model_that_no_normal_image_can_validate_is_no_bundle(
    manifest: str,
    settings: Settings,
    trained: tuple[Network, Progress],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = Kept(str(tmp_path))
    kept.keep(0, *trained, {})
    monkeypatch.setattr(
        "raysvq.tuning.kept.validation_images", lambda *_: [ValidationImage("/none.png", False)]
    )
    with pytest.raises(TrainingError, match="no normal validation image could be read"):
        kept.make_bundle(0, manifest, settings, {}, str(tmp_path / "model"))
    assert not (tmp_path / "model").exists()
