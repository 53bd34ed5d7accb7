"""Training state on disk: tensors as safetensors, the rest as JSON. Nothing is unpickled.

model.safetensors      weights, codebook statistics, input mean and deviation
optimiser.safetensors  Adam's moments
state.json             step, data position, history, the last validation
random-<rank>.safetensors  states of PyTorch's random generators, one file per rank
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from raysvq.model.bundle import weights
from raysvq.training.data_loading import DataPosition
from raysvq.training.shuffling import Position

_MODEL, _OPTIMISER, _STATE = "model.safetensors", "optimiser.safetensors", "state.json"


@dataclass
class TrainingState:
    """The state of a training run beside its weights."""

    step: int = 0
    workers: int = 1
    position: DataPosition = field(default_factory=DataPosition)
    history: list[dict[str, Any]] = field(default_factory=list)  # one row per validation
    codebook_usage: list[float] = field(default_factory=list)  # since the last validation
    validation: dict[str, Any] = field(default_factory=dict)  # scores, labels, pixel threshold
    precision: str = "float32"  # of encoder and decoder

    def text(self) -> str:
        """This state as JSON."""
        return json.dumps(asdict(self))

    @staticmethod
    def parse(text: str) -> TrainingState:
        """The inverse of `text`."""
        values = json.loads(text)
        position = values.pop("position")
        places = {name: Position(**position[name]) for name in ("normal", "outlier")}
        return TrainingState(position=DataPosition(position["batches"], **places), **values)


def save_checkpoint(
    folder: Path, model: nn.Module, optimiser: torch.optim.Optimizer, state: TrainingState
) -> None:
    """Write what all ranks share into an existing folder."""
    (folder / _MODEL).write_bytes(weights(model))
    safetensors.torch.save_file(_flatten(optimiser), folder / _OPTIMISER)
    (folder / _STATE).write_text(state.text())


def load_model(folder: Path, model: nn.Module) -> None:
    """Fill a model of the same settings with a checkpoint's weights and codebook statistics."""
    model.load_state_dict(safetensors.torch.load_file(folder / _MODEL))


def load_optimiser(folder: Path, optimiser: torch.optim.Optimizer) -> None:
    """Fill an optimiser over the same parameters with a checkpoint's moments."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in safetensors.torch.load_file(folder / _OPTIMISER).items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def load_state(folder: Path) -> TrainingState:
    """Read the training state of a checkpoint."""
    return TrainingState.parse((folder / _STATE).read_text())


def save_random(folder: Path, rank: int, device: torch.device) -> None:
    """Write the state of this process's random generators."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    safetensors.torch.save_file(states, _random(folder, rank))


def load_random(folder: Path, rank: int, device: torch.device) -> None:
    """Restore the state of this process's random generators."""
    states = safetensors.torch.load_file(_random(folder, rank))
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)


def _random(folder: Path, rank: int) -> Path:
    return folder / f"random-{rank}.safetensors"


def _flatten(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{index}.{name}": value.detach().cpu().contiguous()
        for index, moments in optimiser.state_dict()["state"].items()
        for name, value in moments.items()
    }
