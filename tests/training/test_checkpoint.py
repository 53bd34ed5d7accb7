"""A run that goes on from a checkpoint goes on as if it had not stopped."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from raysvq.model.network import build_network
from raysvq.settings import Settings
from raysvq.training.checkpoint import TrainingState, load_model, load_optimiser, load_state, save_checkpoint
from raysvq.training.data_loading import Batch, DataPosition
from raysvq.training.shuffling import Position
from raysvq.training.trainer import Trainer, make_optimiser

Batches = Callable[..., Iterator[Batch]]
Build = Callable[..., Settings]


def _trainer(settings: Settings, state: TrainingState | None = None) -> Trainer:
    model = build_network(settings)
    return Trainer(model, make_optimiser(model, settings), settings, state or TrainingState())


def _resumed(folder: Path, settings: Settings) -> Trainer:
    torch.manual_seed(99)
    trainer = _trainer(settings, load_state(folder))
    load_model(folder, trainer.model)
    load_optimiser(folder, trainer.optimiser)
    return trainer


@pytest.mark.parametrize("kind", ["ema", "gradient"])
def test_training_goes_on_exactly_as_without_the_break(
    small: Build, batches: Batches, tmp_path: Path, kind: str
) -> None:
    settings = small(model={"codebook": kind, "threshold_dead_code": 0})
    whole = _trainer(settings)
    data = list(itertools.islice(batches(), 20))
    whole.run(iter(data), 10)
    save_checkpoint(tmp_path, whole.model, whole.optimiser, whole.state)
    broken = _resumed(tmp_path, settings)
    for trainer in (whole, broken):
        trainer.run(iter(data[10:]), 20)
    assert broken.state.step == whole.state.step == 20
    assert broken.losses == whole.losses
    for name, value in whole.model.state_dict().items():
        assert torch.equal(broken.model.state_dict()[name], value), name


def test_progress_comes_back(small: Build, batches: Batches, tmp_path: Path) -> None:
    trainer = _trainer(small())
    trainer.run(batches(), 10)
    trainer.close_interval({"image_scores": [0.5], "anomalous": [False], "auroc": None, "unreadable": []})
    trainer.state.position = DataPosition(11, Position(1, 5), Position(2, 0))
    save_checkpoint(tmp_path, trainer.model, trainer.optimiser, trainer.state)
    assert load_state(tmp_path) == trainer.state
    assert load_state(tmp_path).step == 10


def test_a_checkpoint_before_the_first_step_is_one_too(small: Build, tmp_path: Path) -> None:
    trainer = _trainer(small())
    save_checkpoint(tmp_path, trainer.model, trainer.optimiser, trainer.state)
    again = _resumed(tmp_path, small())
    assert again.state == TrainingState()
    assert again.optimiser.state_dict()["state"] == {}


def test_a_checkpoint_holds_json_and_plain_tensors_only(
    small: Build, batches: Batches, tmp_path: Path
) -> None:
    trainer = _trainer(small())
    trainer.run(batches(), 2)
    save_checkpoint(tmp_path, trainer.model, trainer.optimiser, trainer.state)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "model.safetensors",
        "optimiser.safetensors",
        "state.json",
    ]
    json.loads((tmp_path / "state.json").read_text())
    for path in tmp_path.glob("*.safetensors"):
        content = path.read_bytes()
        json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
