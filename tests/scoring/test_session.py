"""What a worker loads, and what it says when memory is used up."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from raysvq.decisions import fixed_decisions
from raysvq.imaging.region import Region
from raysvq.runtime.failures import Failure
from raysvq.scoring import session, worker
from raysvq.scoring.session import open_session
from raysvq.scoring.spec import Job, SessionConfig
from raysvq.scoring.work import RejectBudget
from raysvq.scoring.worker import score_unit
from raysvq.settings import ScoringSettings, StorageSettings
from tests.plates import Plates, make_plates


def _job(folder: Path, device: str) -> Job:
    place = str(folder)
    scoring = ScoringSettings(tile_batch=32)
    config = SessionConfig(place, "0123", "4567", scoring, StorageSettings(), device)
    return Job(config, place, place, (), 4, RejectBudget(4, 1.0))


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
    failure = score_unit(_job(tmp_path, device), 0)
    assert isinstance(failure, Failure)
    assert failure.error == "ScoringError"
    message = failure.message
    assert message.startswith(f"a worker ran out of memory on {device}: lower scoring.tile_batch")
    assert remedy in message
    assert "\n" not in message


def test_other_errors_keep_their_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def scorer(_: Job) -> Any:
        raise RuntimeError("shapes")

    monkeypatch.setattr(worker, "_scorer", scorer)
    with pytest.raises(RuntimeError, match="shapes"):
        score_unit(_job(tmp_path, "cpu"), 0)


def test_a_worker_starts_without_what_only_training_and_reports_need() -> None:
    heavy = ["sklearn", "matplotlib", "scipy.stats", "optuna", "jinja2", "tensorboardX"]
    program = f"import raysvq.scoring.worker, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Folders of the models that are loaded, from now on and from none."""
    loaded: list[str] = []
    load_bundle = session.load_bundle
    monkeypatch.setattr(session, "load_bundle", lambda folder: loaded.append(folder) or load_bundle(folder))
    monkeypatch.setattr(session, "_kept", OrderedDict())
    return loaded


def _config(plates: Plates, **changes: Any) -> SessionConfig:
    versions = plates.bundle.model_version, plates.bundle.decisions.digest
    scoring = ScoringSettings(models_memory_mib=changes.pop("models_memory_mib", 2048))
    return SessionConfig(plates.model, *versions, scoring, StorageSettings(), **changes)


def test_sessions_with_other_decisions_or_regions_share_the_model(tmp_path: Path, loads: list[str]) -> None:
    plates = make_plates(str(tmp_path), 2)
    decisions = fixed_decisions(7.0, 0.5, "by hand", "manual")
    region = Region(polygon=((0, 0), (0.5, 0), (0.5, 1), (0, 1)))
    plain = open_session(_config(plates))
    other = open_session(_config(plates, decisions=json.dumps(decisions.to_json())))
    lenient = replace(plain.config, scoring=ScoringSettings(max_rejected=0.5))
    assert open_session(lenient).config == lenient
    cut = open_session(_config(plates, region=region, region_digest=region.read().digest))
    assert loads == [plates.model]
    assert plain.bundle.model is other.bundle.model is cut.bundle.model
    assert plain.bundle.decisions == cut.bundle.decisions == plates.bundle.decisions
    assert other.bundle.decisions == decisions
    content = plates.contents["plate-01.png"]
    assert plain.scorer(content).image_score == other.scorer(content).image_score
    assert cut.scorer(content).inside is not None
    assert plain.scorer(content).inside is None


@pytest.mark.parametrize(("memory", "wanted"), [(2048, "ab"), (0, "aba")])
def test_models_stay_in_a_process_as_far_as_memory_goes(
    tmp_path: Path, loads: list[str], memory: int, wanted: str
) -> None:
    models = {name: make_plates(str(tmp_path / name), 2) for name in "ab"}
    for name in "aaba":
        open_session(_config(models[name], models_memory_mib=memory))
    assert loads == [models[name].model for name in wanted]
