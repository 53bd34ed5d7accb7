"""Training in this process: what comes out, and that a break leaves no trace."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raysvq.errors import TrainingError
from raysvq.model.scorer import ImageScorer
from raysvq.settings import Settings
from raysvq.training.in_process import train_in_process
from raysvq.training.shuffling import Columns

Build = Callable[..., Settings]


def _rows(count: int, seed: int) -> Columns:
    draw = np.random.default_rng(seed)
    return {"tile": draw.integers(0, 65535, (count, 16, 16, 3), np.uint16)}


NORMAL = _rows(60, 0)
OUTLIER = _rows(7, 1) | {"weight": np.ones((7, 4, 4), np.float32)}


class _Validation:
    """AUROCs to order, a validation each."""

    def __init__(self, *aurocs: float | None) -> None:
        self.aurocs = list(aurocs)

    def __call__(self, scorer: ImageScorer) -> dict[str, Any]:
        found = float(scorer.distances(NORMAL["tile"][:4]).mean())
        return {"anomalous": [False], "auroc": self.aurocs.pop(0), "unreadable": [], "found": found}


class _Stop(Exception):
    pass


def test_the_model_of_the_best_validation_comes_back(small: Build) -> None:
    settings = small(training={"steps": 40})
    model, state = train_in_process(settings, NORMAL, OUTLIER, _Validation(0.5, 0.9, 0.9, 0.7), progress=None)
    assert state.step == 30
    assert [row["step"] for row in state.history] == [10, 20, 30, 40]
    again = ImageScorer(model, settings, settings.scoring).distances(NORMAL["tile"][:4])
    assert float(again.mean()) == state.validation["found"]
    assert not model.training


def test_the_same_seed_gives_the_same_model_and_another_another(small: Build) -> None:
    def weights(seed: int) -> dict[str, torch.Tensor]:
        settings = small(training={"seed": seed})
        model, _ = train_in_process(settings, NORMAL, OUTLIER, _Validation(None, None), progress=None)
        return model.state_dict()

    one, same, other = weights(0), weights(0), weights(1)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["quantizer.codebook"], other["quantizer.codebook"])


@pytest.mark.parametrize("cache_mib", [0, 512], ids=["streamed", "cached"])
def test_a_run_that_stopped_goes_on_as_if_it_had_not(small: Build, tmp_path: Path, cache_mib: int) -> None:
    settings = small(
        training={"steps": 40, "cache_mib": cache_mib, "flips": True}, model={"threshold_dead_code": 0.5}
    )
    straight, whole = train_in_process(settings, NORMAL, OUTLIER, _Validation(*[None] * 4), progress=None)

    lines: list[str] = []

    def stop_after_two(line: str) -> None:
        lines.append(line)
        if line.startswith("step 30"):
            raise _Stop

    with pytest.raises(_Stop):
        train_in_process(settings, NORMAL, OUTLIER, _Validation(*[None] * 3), stop_after_two, tmp_path)
    torch.manual_seed(99)
    resumed, broken = train_in_process(settings, NORMAL, OUTLIER, _Validation(None, None), None, tmp_path)

    assert [row["step"] for row in broken.history] == [10, 20, 30, 40]
    assert broken.position == whole.position
    assert broken.history[-1]["loss"] == whole.history[-1]["loss"]
    for name, value in straight.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_only_the_last_and_the_best_checkpoint_stay(small: Build, tmp_path: Path) -> None:
    settings = small(training={"steps": 40})
    train_in_process(settings, NORMAL, OUTLIER, _Validation(0.5, 0.9, 0.8, 0.7), None, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000020", "step-000000040"]


def test_without_outliers_there_is_nothing_to_push_away(small: Build) -> None:
    _, state = train_in_process(small(), NORMAL, None, _Validation(None, None), progress=None)
    assert state.history[-1]["outlier"] is None


def test_validation_that_read_no_normal_image_ends_the_run(small: Build) -> None:
    def nothing(scorer: ImageScorer) -> dict[str, Any]:
        return {"anomalous": [True], "auroc": None, "unreadable": ["/gone.png"]}

    with pytest.raises(
        TrainingError, match=r"no normal validation image could be read.*1 failed.*/gone\.png"
    ):
        train_in_process(small(), NORMAL, OUTLIER, nothing, progress=None)


def test_impatient_training_stops_early_and_stays_stopped(small: Build, tmp_path: Path) -> None:
    settings = small(training={"steps": 90, "patience": 2})
    for _ in range(2):
        validation = _Validation(0.5, 0.9, 0.9, 0.8, 0.95)
        _, state = train_in_process(settings, NORMAL, OUTLIER, validation, None, tmp_path)
        assert [row["step"] for row in state.history] == [10, 20, 30, 40]
        assert state.step == 30
