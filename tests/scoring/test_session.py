"""What a worker loads, and what it says when memory is used up."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from raysvq.scoring import worker
from raysvq.scoring.session import SessionConfig
from raysvq.scoring.work import RejectBudget
from raysvq.scoring.worker import Job, score_units
from raysvq.settings import ScoringSettings, StorageSettings


def _job(folder: Path, device: str) -> Job:
    place = str(folder)
    session = SessionConfig(place, "0123", "4567", ScoringSettings(tile_batch=32), StorageSettings(), device)
    return Job(session, place, place, (), 4, RejectBudget(4, 1.0))


@pytest.mark.parametrize(
    ("device", "error", "remedy"),
    [
        ("cuda", torch.OutOfMemoryError("CUDA out of memory.\nSee docs"), "which is 32, and start"),
        ("cpu", MemoryError("9 GiB"), "which is 32, or scoring.image_memory_mib, or take fewer workers"),
        ("cpu", RuntimeError("DefaultCPUAllocator: can't allocate memory"), "lower scoring.tile_batch"),
    ],
)
def test_memory_that_is_used_up_names_the_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, error: Exception, remedy: str
) -> None:
    def scorer(_: Job) -> Any:
        raise error

    monkeypatch.setattr(worker, "_scorer", scorer)
    batch = score_units({"part": [0], "unit": [0]}, [_job(tmp_path, device)])
    assert batch["error"] == ["ScoringError"]
    (message,) = batch["text"]
    assert message.startswith(f"a worker ran out of memory on {device}: lower scoring.tile_batch")
    assert remedy in message
    assert "\n" not in message


def test_other_errors_keep_their_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def scorer(_: Job) -> Any:
        raise RuntimeError("shapes")

    monkeypatch.setattr(worker, "_scorer", scorer)
    with pytest.raises(RuntimeError, match="shapes"):
        score_units({"part": [0], "unit": [0]}, [_job(tmp_path, "cpu")])


def test_a_worker_starts_without_what_only_training_and_reports_need() -> None:
    heavy = ["sklearn", "matplotlib", "scipy.stats", "optuna", "jinja2", "tensorboardX"]
    program = f"import raysvq.scoring.worker, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
