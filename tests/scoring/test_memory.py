"""A worker without memory ends the run with the setting to lower."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from raysvq.scoring import worker
from raysvq.scoring.budget import Budget
from raysvq.scoring.worker import Job, score_units
from raysvq.settings import ScoringSettings, StorageSettings


def _job(folder: Path, device: str) -> Job:
    place = str(folder)
    scoring = ScoringSettings(tile_batch=32)
    budget = Budget(4, 1.0)
    return Job(place, place, place, (), scoring, StorageSettings(), 4, device, "float32", budget, 0)


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
    (text,) = score_units({"id": [0]}, _job(tmp_path, device))["report"]
    report = json.loads(text)
    assert report["error"] == "ScoringError"
    assert report["says"].startswith(f"a worker ran out of memory on {device}: lower scoring.tile_batch")
    assert remedy in report["says"]
    assert "\n" not in report["says"]


def test_other_errors_keep_their_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def scorer(_: Job) -> Any:
        raise RuntimeError("shapes")

    monkeypatch.setattr(worker, "_scorer", scorer)
    with pytest.raises(RuntimeError, match="shapes"):
        score_units({"id": [0]}, _job(tmp_path, "cpu"))
