"""Sweeps: what they leave, and that none of their finished trials is lost or run twice."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
import ray
import yaml

from raysvq.cluster import connect
from raysvq.data.index import build_index
from raysvq.errors import DataError, SettingsError
from raysvq.imaging.sample import write_sample
from raysvq.model.bundle import load_bundle
from raysvq.settings import RaySettings, load_sweep, parse_settings
from raysvq.tuning.leaderboard import FAILED, FINISHED
from raysvq.tuning.sweep import Sweep, sweep

WAIT_S = 300
CONFIG = """
split: {outliers: 10}
tiles: {size: 32, anomalous_fraction: 0.01}
model: {hidden: 16, residual_hidden: 8, residual_layers: 1, codebook_size: 32, embedding_dim: 8}
training: {steps: 40, batch_size: 16}
search:
  objective.eta: {uniform: [0.3, 0.9]}
  model.codebook_size: {choice: [16, 32]}
tuning: {trials: 6, stop_early: false}
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("tune") / "sweep.yaml"
    file.write_text(CONFIG)
    return file


@pytest.fixture(scope="module")
def manifest(config: Path) -> Iterator[str]:
    made = str(config.parent / "manifest.parquet")
    settings, _ = load_sweep(config)
    build_index(write_sample(config.parent / "sample", normal=24, anomalous=14), made, settings.split)
    connect(RaySettings(cpus=2, object_store_mib=256))
    yield made
    ray.shutdown()


def _sweep(manifest: str, config: Path, out: Path, *overrides: str) -> Sweep:
    settings, search = load_sweep(config, overrides)
    return sweep(manifest, str(out), settings, search)


def _records(out: Path) -> dict[str, int]:
    """Of trials that came to their end, and when."""
    return {file.name: file.stat().st_mtime_ns for file in out.glob("_sweep/*-ended/*.json")}


def _wait_for(what: str, condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {WAIT_S} s for {what}"
        time.sleep(0.01)


def _running_trials() -> list[psutil.Process]:
    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has just ended
            if any(name in "".join(child.cmdline()) for name in ("run_trial", "ImplicitFunc")):
                found.append(child)
    return found


def _assert_complete(found: Sweep, out: Path) -> None:
    assert sorted(trial.number for trial in found.trials) == list(range(6))
    assert {trial.status for trial in found.trials} == {FINISHED}
    aurocs = [trial.image_auroc or 0 for trial in found.trials]
    assert aurocs == sorted(aurocs, reverse=True)
    assert len(_records(out)) == 6


def test_a_sweep_leaves_a_leaderboard_the_best_settings_and_their_model(
    manifest: str, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = _sweep(manifest, config, tmp_path)
    _assert_complete(found, tmp_path)
    rows = pq.read_table(tmp_path / "leaderboard.parquet").to_pylist()
    assert [row["trial"] for row in rows] == [trial.number for trial in found.trials]
    assert [row["rank"] for row in rows] == [1, 2, 3, 4, 5, 6]
    best = found.trials[0]
    assert rows[0]["objective.eta"] == best.point.get("objective.eta", 0.5)
    written = parse_settings(yaml.safe_load((tmp_path / "best.yaml").read_text()))
    assert written.model_dump() == found.settings.model_dump() == found.bundle.settings.model_dump()
    assert load_bundle(str(tmp_path / "champion")).model_digest == found.bundle.model_digest
    printed = capsys.readouterr().out
    assert "6/6  trial" in printed
    assert "defaults" in printed
    with pytest.raises(DataError, match="already holds a model"):
        _sweep(manifest, config, tmp_path)


def test_a_trial_that_runs_away_is_on_record_and_the_others_go_on(
    manifest: str, config: Path, tmp_path: Path
) -> None:
    settings, _ = load_sweep(config, ["tuning.trials=2", "training.learning_rate=0.01"])
    search = {"objective.form": {"choice": ["hinge", "negation"]}}
    found = sweep(manifest, str(tmp_path), settings, search)
    good, bad = found.trials
    assert (good.number, good.status) == (0, FINISHED)
    assert (bad.number, bad.status) == (1, FAILED)
    assert "training has run away" in bad.problem
    assert found.settings.objective.form == "hinge"


def test_a_trial_whose_process_is_killed_runs_again(manifest: str, config: Path, tmp_path: Path) -> None:
    killed: list[int] = []

    def kill() -> None:
        _wait_for("a trial that has ended", lambda: _records(tmp_path))
        _wait_for("a trial that runs", _running_trials)
        running = _running_trials()
        running[0].send_signal(signal.SIGKILL)
        killed.append(running[0].pid)

    killer = threading.Thread(target=kill)
    killer.start()
    found = _sweep(manifest, config, tmp_path, "training.steps=120")
    killer.join()
    assert killed
    _assert_complete(found, tmp_path)


def test_a_sweep_whose_driver_is_killed_goes_on(manifest: str, config: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from raysvq.cli import main; main()", "tune", manifest]
    command += ["--config", str(config), "--out", str(tmp_path), "--set", "ray.object_store_mib=256"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for("trials that have ended", lambda: len(_records(tmp_path)) >= 2)
        family = psutil.Process(process.pid).children(recursive=True)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    psutil.wait_procs(family, WAIT_S)
    before = _records(tmp_path)
    assert 2 <= len(before) < 6
    _assert_complete(_sweep(manifest, config, tmp_path), tmp_path)
    assert len(list(tmp_path.glob("_sweep/*-ended"))) == 1
    assert {name: at for name, at in _records(tmp_path).items() if name in before} == before


def test_what_cannot_be_a_trial_is_refused_before_anything_starts(
    manifest: str, config: Path, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=r"`training.workers`: 2; a trial trains in one process"):
        _sweep(manifest, config, tmp_path, "training.workers=2")
    plain = str(tmp_path / "plain.parquet")
    build_index(
        str(config.parent / "sample" / "listing.csv"),
        plain,
        load_sweep(config)[0].split.model_copy(update={"outliers": 0}),
    )
    with pytest.raises(DataError, match="has no anomalous images in its validation split"):
        _sweep(plain, config, tmp_path)
