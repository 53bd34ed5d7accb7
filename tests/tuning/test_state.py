"""What a sweep keeps: points and results; models, kept, removed, made bundles."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from raysvq.data.index import build_index
from raysvq.errors import DataError, TrainingError
from raysvq.model.bundle import load_bundle
from raysvq.model.network import Network
from raysvq.sample import write_sample
from raysvq.settings import Settings
from raysvq.storage import exists, remove_file, write_bytes
from raysvq.training.checkpoint import TrainingState
from raysvq.training.in_process import train_in_process
from raysvq.training.tile_stream import training_samples
from raysvq.training.validation import ValidationImage, validate, validation_images
from raysvq.tuning.state import SweepState, require_readable

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
def trained(manifest: str, settings: Settings) -> tuple[Network, TrainingState]:
    samples = training_samples(manifest, settings, _ignore)
    validation = partial(validate, images=validation_images(manifest, 20))
    return train_in_process(settings, samples.normal, samples.outlier, validation, progress=None)


def test_a_kept_model_becomes_the_bundle_that_training_would_have_made(
    manifest: str, settings: Settings, trained: tuple[Network, TrainingState], place: str
) -> None:
    model, progress = trained
    state = SweepState(f"{place}/state")
    state.save_model(3, model, progress, {"outlier_tiles": 7, "device": "cpu", "seconds": 1.5})
    assert state.has_model(3)
    state.make_bundle(3, manifest, settings, {"normals": 11}, f"{place}/model")
    bundle = load_bundle(f"{place}/model")
    for name, value in model.state_dict().items():
        assert torch.equal(bundle.model.state_dict()[name], value), name
    assert bundle.settings.model_dump() == settings.model_dump()
    assert bundle.training | {"outlier_tiles": 7, "seconds": 1.5, "normals": 11} == bundle.training
    assert bundle.training["best_step"] == progress.step
    assert [row["step"] for row in bundle.history["history"]] == [6, 12]
    found, expected = bundle.reference, progress.validation
    assert found.validation["auroc"] == expected["auroc"]
    assert bundle.decisions.pixel_threshold == pytest.approx(expected["pixel_threshold"], rel=1e-6)
    assert found.bfloat16_deviation == pytest.approx(expected["bfloat16_deviation"], rel=1e-4)
    normal = np.array(expected["image_scores"])[~np.array(expected["anomalous"])]
    assert found.normal_scores["0.5"] == pytest.approx(float(np.median(normal)), rel=1e-6)


def test_only_whole_models_count_and_what_is_not_there_can_be_forgotten(
    trained: tuple[Network, TrainingState], place: str
) -> None:
    state = SweepState(place)
    state.remove_model(1)
    state.save_model(1, *trained, {})
    state.save_model(2, *trained, {})
    remove_file(f"{place}/model-00001/state.json")
    assert not state.has_model(1)
    assert state.has_model(2)
    state.remove_model(1)
    assert not exists(f"{place}/model-00001")
    assert state.has_model(2)


def test_a_model_that_no_normal_image_can_validate_is_no_bundle(
    manifest: str,
    settings: Settings,
    trained: tuple[Network, TrainingState],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state = SweepState(str(tmp_path))
    state.save_model(0, *trained, {})
    monkeypatch.setattr(
        "raysvq.tuning.state.validation_images", lambda *_: [ValidationImage("/none.png", False)]
    )
    with pytest.raises(TrainingError, match="no normal validation image could be read"):
        state.make_bundle(0, manifest, settings, {}, str(tmp_path / "model"))
    assert not (tmp_path / "model").exists()


def test_points_and_results_are_found_again(place: str) -> None:
    state = SweepState(place)
    assert state.points() == []
    state.write_points([{}, {"objective.eta": 0.7, "objective.form": "hinge"}])
    assert state.points() == [{}, {"objective.eta": 0.7, "objective.form": "hinge"}]
    result = {"rung": 6, "value": 0.5, "values": [0.5], "curve": [[6, 1.0, 0.5]], "seconds": 1.5, "error": ""}
    state.write_result(1, result | {"train_s": 1.0, "done": True})
    assert state.results(range(3)) == {1: result | {"train_s": 1.0}}


def test_a_sweep_that_an_earlier_version_left_is_refused(place: str) -> None:
    require_readable(place)
    state = SweepState(f"{place}/_sweep/ours")
    state.write_points([{}])
    state.write_result(0, {"value": 0.5})
    require_readable(place)
    write_bytes(f"{place}/_sweep/0123abc/trial-00000.json", b'{"figure": 0.5, "looks": []}')
    with pytest.raises(DataError, match=r"0123abc holds a sweep that an earlier version .* remove .*_sweep"):
        require_readable(place)
