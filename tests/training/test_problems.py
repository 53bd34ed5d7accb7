"""Trainings that cannot succeed, and two that want the same folder: one sentence each."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from ray.train.v2.api.exceptions import WorkerGroupError

from raysvq.data.index import build_index
from raysvq.errors import DataError, TrainingError, TrainingMemoryError, WorkersError
from raysvq.model.network import build_network
from raysvq.runtime.lease import lease
from raysvq.settings import Settings, SplitSettings
from raysvq.training import ray_trainer
from raysvq.training.checkpoint import TrainingState
from raysvq.training.trainer import Trainer, fit, make_optimiser

Build = Callable[..., Settings]
FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nSee documentation")
ALLOCATOR = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: 9 B"
)


@pytest.fixture
def manifest(tmp_path: Path) -> str:
    for number in range(6):
        path = tmp_path / f"images/train/good/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.random.default_rng(number).integers(0, 255, (40, 40, 3), np.uint8))
    build_index(str(tmp_path / "images"), str(tmp_path / "m.parquet"), SplitSettings())
    return str(tmp_path / "m.parquet")


def _no_cluster(*_: object) -> None:
    raise AssertionError("work has begun")


def test_a_folder_that_another_training_holds_is_refused_before_any_work(
    small: Build, manifest: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_trainer, "connect", _no_cluster)
    monkeypatch.setattr("raysvq.runtime.lease.RENEW_S", 0.2)
    out = str(tmp_path / "model")
    with (
        lease(out, "another"),
        pytest.raises(DataError, match=rf"{out} is being written by run another .*\(process {os.getpid()}\)"),
    ):
        ray_trainer.train(manifest, out, small())
    with pytest.raises(AssertionError, match="work has begun"):
        ray_trainer.train(manifest, out, small())


def test_a_training_that_was_taken_over_saves_nothing(
    small: Build, manifest: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "model"

    def taken_over(*_: object) -> tuple[None, None, list[Any], int]:
        (mine,) = (out / "_leases").iterdir()
        (out / "_leases" / "00000007.json").write_bytes(mine.read_bytes().replace(b"run_id", b"run_id_"))
        return None, None, [], 0

    monkeypatch.setattr(ray_trainer, "connect", lambda _: None)
    monkeypatch.setattr(ray_trainer, "plan_workers", lambda *_: SimpleNamespace(use_gpu=False))
    monkeypatch.setattr(ray_trainer, "_run", taken_over)
    monkeypatch.setattr(ray_trainer, "export_bundle", lambda *_: None)
    with pytest.raises(DataError, match="taken over by another run"):
        ray_trainer.train(manifest, str(out), small())
    assert not (out / "bundle.json").exists()


@pytest.mark.parametrize("error", [FULL, ALLOCATOR, MemoryError("9 GiB")])
def test_a_step_that_does_not_fit_names_the_batch_size(
    small: Build, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def step(*_: object) -> None:
        raise error

    monkeypatch.setattr(Trainer, "step", step)
    with pytest.raises(TrainingMemoryError) as failure:
        fit(_trainer(small()), iter([None]), lambda _: {}, lambda: None)  # type: ignore[list-item]
    said = str(failure.value)
    assert said.startswith("out of memory with training.batch_size=8: set it lower (")
    assert "\n" not in said


def test_a_validation_that_does_not_fit_names_the_tile_batch(
    small: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    def validate(_: object) -> dict[str, Any]:
        raise FULL

    monkeypatch.setattr(Trainer, "run", lambda *_: None)
    with pytest.raises(TrainingMemoryError, match=r"out of memory with scoring\.tile_batch=64: set it lower"):
        fit(_trainer(small()), iter([]), validate, lambda: None)


def test_other_errors_of_a_step_are_not_taken_for_it(small: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    def step(*_: object) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(Trainer, "step", step)
    with pytest.raises(RuntimeError, match="shapes"):
        fit(_trainer(small()), iter([None]), lambda _: {}, lambda: None)  # type: ignore[list-item]


def _trainer(settings: Settings) -> Trainer:
    model = build_network(settings)
    return Trainer(model, make_optimiser(model, settings), settings, TrainingState())


@pytest.mark.parametrize("error", [TrainingError("run away"), TrainingMemoryError("does not fit"), FULL])
def test_what_cannot_succeed_is_not_tried_again(
    small: Build, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def train(_: object) -> None:
        raise error

    workers = SimpleNamespace(get_world_size=lambda: 1)
    monkeypatch.setattr(ray_trainer, "_train_rank", train)
    monkeypatch.setattr(ray_trainer.ray.train, "get_context", lambda: workers)
    outcome = ray_trainer.train_on_worker({"settings": small().model_dump(mode="json")})
    said = str(error) if error is not FULL else "out of memory with training.batch_size=8"
    assert outcome["problem"].startswith(said)
    finished = SimpleNamespace(fit=lambda: SimpleNamespace(return_value=outcome))
    with pytest.raises(TrainingError, match=said):
        ray_trainer._fit(finished)  # type: ignore[arg-type]


def test_one_rank_without_memory_ends_the_others(small: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(_: object) -> None:
        raise FULL

    monkeypatch.setattr(ray_trainer, "_train_rank", train)
    workers = SimpleNamespace(get_world_size=lambda: 2)
    monkeypatch.setattr(ray_trainer.ray.train, "get_context", lambda: workers)
    with pytest.raises(TrainingMemoryError, match=r"training\.batch_size=8"):
        ray_trainer.train_on_worker({"settings": small().model_dump(mode="json")})


def test_workers_that_fail_too_often_are_one_sentence() -> None:
    def give_up() -> None:
        raise WorkerGroupError("page\n" * 50, {0: ValueError("no such tile")})

    with pytest.raises(WorkersError) as failure:
        ray_trainer._fit(SimpleNamespace(fit=give_up))  # type: ignore[arg-type]
    assert str(failure.value).startswith("training gave up: ValueError: no such tile; Ray's own report is /")


def test_an_interrupted_training_is_no_success() -> None:
    def leave() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as Ray Train puts a handler of its own
        raise SystemExit(0)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        ray_trainer._fit(SimpleNamespace(fit=leave))  # type: ignore[arg-type]
    assert signal.getsignal(signal.SIGINT) is before
