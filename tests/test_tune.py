"""Sweeps: what they leave, and that none of their finished trials is lost or run twice."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
import yaml

from devtools.trials import running_trials
from raysvq.data.index import build_index
from raysvq.errors import DataError, SettingsError, StorageError
from raysvq.evaluation.leaderboard import FAILED, FINISHED, STOPPED
from raysvq.model.alias import resolve
from raysvq.model.bundle import load_bundle
from raysvq.runtime.cluster import connect
from raysvq.runtime.lease import lease
from raysvq.runtime.progress import forwarded_progress
from raysvq.sample import write_sample
from raysvq.settings import RaySettings, load_sweep, parse_settings
from raysvq.storage import list_objects, read_bytes
from raysvq.training.in_process import train_in_process
from raysvq.training.tile_stream import training_samples
from raysvq.training.validation import validate, validation_images
from raysvq.tuning.early_stopping import Asha, LearningCurve
from raysvq.tuning.search import first_points
from raysvq.tuning.space import parse_space
from raysvq.tuning.state import SweepState
from raysvq.tuning.sweep import SweepResult, _name, sweep
from tests.sweeps import (
    CONFIG,
    TRIALS,
    ends_before_its_leaderboard,
    kill,
    records,
    start_on_this_cluster,
    wait_for,
)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("tune") / "sweep.yaml"
    file.write_text(CONFIG)
    return file


@pytest.fixture(scope="module")
def manifest(config: Path, s3: str, no_cluster: None) -> str:
    """Its cluster starts after the store, whose credentials workers take from the environment."""
    made = str(config.parent / "manifest.parquet")
    settings, _ = load_sweep(config)
    build_index(write_sample(config.parent / "sample", normal=24, anomalous=14), made, settings.split)
    connect(RaySettings(cpus=2, object_store_mib=256))
    return made


def _sweep(manifest: str, config: Path, out: Path | str, *overrides: str) -> SweepResult:
    settings, search = load_sweep(config, overrides)
    return sweep(manifest, str(out), settings, search)


def _validation(manifest: str) -> tuple[int, int]:
    """Normal and anomalous images to validate on."""
    images = validation_images(manifest, 512)
    anomalous = sum(image.anomalous for image in images)
    return len(images) - anomalous, anomalous


def _assert_complete(found: SweepResult, out: Path) -> None:
    trials = found.board.trials
    assert sorted(trial.number for trial in trials) == list(range(TRIALS))
    assert {trial.status for trial in trials} == {FINISHED}
    values = [trial.value or 0 for trial in trials]
    assert values == sorted(values, reverse=True)
    assert found.chosen in (trials[0], next(one for one in trials if one.number == 0))
    assert load_bundle(resolve(f"{out}@champion")).model_digest == found.bundle.model_digest
    assert not (out / "_sweep").exists()


def test_a_sweep_leaves_a_leaderboard_the_best_settings_and_their_model(
    manifest: str, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = _sweep(manifest, config, tmp_path)
    _assert_complete(found, tmp_path)
    rows = pq.read_table(tmp_path / "leaderboard.parquet").to_pylist()
    assert [row["trial"] for row in rows] == [trial.number for trial in found.board.trials]
    assert all(row["train_s"] and row["image_ms"] and row["model_mib"] for row in rows)
    assert any(row["pareto_front"] for row in rows)
    assert [row["rank"] for row in rows] == [1, 2, 3, 4]
    best = found.chosen
    (row,) = [row for row in rows if row["trial"] == best.number]
    assert row["objective.eta"] == best.point.get("objective.eta", 0.5)
    assert {trial.images for trial in found.board.trials} == {_validation(manifest)}
    written = parse_settings(yaml.safe_load((tmp_path / "best.yaml").read_text()))
    assert written.model_dump() == found.settings.model_dump() == found.bundle.settings.model_dump()
    assert "codebook_size" in (tmp_path / "report.html").read_text()
    printed = capsys.readouterr().out
    assert "4/4  trial" in printed
    assert f"taking the model of trial {best.number}" in printed
    assert "defaults" in printed
    with pytest.raises(DataError, match="already holds a model"):
        _sweep(manifest, config, tmp_path)


def test_a_trial_that_runs_away_is_on_record_and_the_others_go_on(
    manifest: str, config: Path, tmp_path: Path
) -> None:
    settings, _ = load_sweep(config, ["tuning.trials=2", "training.learning_rate=0.01"])
    search = {"objective.form": {"choice": ["hinge", "negation"]}}
    found = sweep(manifest, str(tmp_path), settings, search)
    good, bad = found.board.trials
    assert (good.number, good.status) == (0, FINISHED)
    assert (bad.number, bad.status) == (1, FAILED)
    assert "training has run away" in bad.error
    assert found.settings.objective.form == "hinge"


@contextmanager
def _one_trial_killed(out: Path) -> Iterator[None]:
    """A process that runs one trial after the other is killed when it has begun with its second."""
    killed: list[int] = []

    def kill() -> None:
        wait_for("a trial that has ended", lambda: records(out))
        time.sleep(0.5)
        wait_for("a trial at work", running_trials)
        killed.append(running_trials()[0].pid)
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    yield
    killer.join()
    assert killed


def test_a_trial_whose_process_is_killed_runs_again(manifest: str, config: Path, tmp_path: Path) -> None:
    with _one_trial_killed(tmp_path):
        found = _sweep(manifest, config, tmp_path, "training.steps=80")
    _assert_complete(found, tmp_path)


def test_a_trial_that_cannot_be_brought_to_an_end_runs_again_with_the_next_command(
    manifest: str,
    config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ["training.steps=160"]
    with monkeypatch.context() as patch, _one_trial_killed(tmp_path):
        patch.setattr("raysvq.tuning.runner._RETRIES", 0)
        ends_before_its_leaderboard(patch)
        with pytest.raises(KeyboardInterrupt):
            _sweep(manifest, config, tmp_path, *options)
    assert "  failed: " in capsys.readouterr().out
    assert len(records(tmp_path)) < 4
    found = _sweep(manifest, config, tmp_path, *options)
    assert [trial.status for trial in found.board.trials] == [FINISHED] * 4


def test_a_sweep_whose_driver_is_killed_goes_on(
    manifest: str, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["training.steps=80", "tuning.sampler=tpe"]
    changed = [part for option in options for part in ("--set", option)]
    driver = start_on_this_cluster(
        "tune", manifest, "--config", str(config), "--out", str(tmp_path), *changed
    )
    try:
        wait_for("a trial that has ended", lambda: records(tmp_path))
        trials = running_trials()
    finally:
        kill(driver, trials)
    assert trials
    before = records(tmp_path)
    assert 1 <= len(before) < TRIALS
    at_the_end: dict[str, int] = {}
    monkeypatch.setattr(
        "raysvq.tuning.sweep.write_leaderboard", lambda *_: at_the_end.update(records(tmp_path))
    )
    _assert_complete(_sweep(manifest, config, tmp_path, *options), tmp_path)
    assert len(at_the_end) == TRIALS
    assert {name: at for name, at in at_the_end.items() if name in before} == before


def test_a_sweep_in_a_store_goes_on_before_its_leaderboard_and_between_its_model_and_the_alias(
    manifest: str, config: Path, s3: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: str) -> None:
        raise StorageError("the store is away")

    out = f"{s3}/sweep"
    with monkeypatch.context() as patch:
        ends_before_its_leaderboard(patch)
        with pytest.raises(KeyboardInterrupt):
            _sweep(manifest, config, out, "tuning.trials=2")
    ended = [one.uri for one in list_objects(out) if "/trial-" in one.uri]
    kept = sorted(json.loads(read_bytes(uri))["seconds"] for uri in ended)
    assert len(kept) == 2
    with monkeypatch.context() as patch:
        patch.setattr("raysvq.tuning.publish.promote", refuse)
        with pytest.raises(StorageError):
            _sweep(manifest, config, out, "tuning.trials=2")
    assert "2 of its trials have ended" in capsys.readouterr().out
    trained = load_bundle(f"{out}/model").model_digest
    found = _sweep(manifest, config, out, "tuning.trials=2")
    assert sorted(trial.seconds for trial in found.board.trials) == kept
    assert resolve(f"{out}@champion") == f"{out}/model"
    assert load_bundle(resolve(f"{out}@champion")).model_digest == found.bundle.model_digest == trained
    assert not any("/_sweep/" in found.uri for found in list_objects(out))


def test_a_sweep_that_goes_on_measures_trials_against_those_that_have_ended(
    manifest: str, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["tuning.trials=5", "tuning.early_stopping=true"]
    options += ["training.validate_every=20", "training.steps=40"]
    with monkeypatch.context() as patch:
        ends_before_its_leaderboard(patch)
        with pytest.raises(KeyboardInterrupt):
            _sweep(manifest, config, tmp_path, *options)
    before = {file.name: json.loads(file.read_bytes()) for file in tmp_path.glob("_sweep/*/trial-*.json")}
    assert len(before) == 5
    finished = [(result["value"], name) for name, result in before.items() if "train_s" in result]
    best = min(name for value, name in finished if value == max(finished)[0])
    kept = {folder.name for folder in tmp_path.glob("_sweep/*/model-*")}
    assert kept == {"model-00000", best.removesuffix(".json").replace("trial", "model")}
    next(tmp_path.glob("_sweep/*/trial-00003.json")).unlink()
    compared: list[int] = []
    monkeypatch.setattr(Asha, "add_ended", lambda _, number, result: compared.append(number))
    found = _sweep(manifest, config, tmp_path, *options)
    assert compared == [0, 1, 2, 4]
    for trial in found.board.trials:
        result = before[f"trial-{trial.number:05d}.json"]
        if trial.number != 3:
            assert trial.status == (FINISHED if "train_s" in result else STOPPED)
            assert (trial.value, trial.seconds) == (result["value"], result["seconds"])
    _assert_as_trained_without_rungs(found, manifest)


def _assert_as_trained_without_rungs(found: SweepResult, manifest: str) -> None:
    """The champion is what training keeps by itself."""
    settings = found.settings
    assert found.chosen.status == FINISHED
    with forwarded_progress() as report:
        samples = training_samples(manifest, settings, report)
    validation = partial(validate, images=validation_images(manifest, settings.training.validation_images))
    model, progress = train_in_process(settings, samples.normal, samples.outlier, validation, progress=None)
    assert [row["step"] for row in progress.history] == [20, 40]
    assert found.bundle.training["best_step"] == progress.step
    assert found.bundle.reference.validation["auroc"] == progress.validation["auroc"]
    for name, value in model.state_dict().items():
        assert torch.equal(found.bundle.model.state_dict()[name], value), name


def test_a_sweep_that_is_interrupted_keeps_what_it_has_for_the_next_command(
    manifest: str, config: Path, tmp_path: Path
) -> None:
    options = ["training.steps=80"]

    def interrupt() -> None:
        wait_for("a trial that has ended", lambda: records(tmp_path))
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        _sweep(manifest, config, tmp_path, *options)
    before = records(tmp_path)
    assert 1 <= len(before) < TRIALS
    assert not (tmp_path / "model").exists()
    _assert_complete(_sweep(manifest, config, tmp_path, *options), tmp_path)


def test_a_sweep_with_other_options_takes_no_results_of_this_one(
    manifest: str, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def name(*overrides: str) -> str:
        space = parse_space(*reversed(load_sweep(config, overrides)))
        return _name(manifest, space, first_points(space, space.base.tuning), "image_auroc")

    other = ["tuning.repeats=2", "tuning.refit=true", "tuning.early_stopping=true"]
    other.append("evaluation.fpr_limit=0.1")
    assert len({name(), *(name(one) for one in other), name("training.steps=50")}) == 6
    assert name() == name("ray.cpus=3") == name("tuning.max_concurrent_trials=1")


def test_two_sweeps_do_not_share_a_folder(
    manifest: str, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raysvq.runtime.lease.RENEW_S", 0.2)
    with (
        lease(str(tmp_path), "another"),
        pytest.raises(DataError, match="being written by run another"),
    ):
        _sweep(manifest, config, tmp_path)


def test_without_labelled_outliers_trials_are_compared_by_drawn_on_defects(
    manifest: str, config: Path, tmp_path: Path
) -> None:
    plain = _without_outliers(config, tmp_path)
    found = _sweep(plain, config, tmp_path / "out", "tuning.trials=2", "tuning.early_stopping=true")
    assert found.board.metric == "synthetic_auroc"
    for trial in found.board.trials:
        assert 0 <= (trial.value or -1) <= 1
        assert (trial.curve[-1][0] == 1.0) == (trial.status == FINISHED)
    assert {trial.number: trial.status for trial in found.board.trials}[0] == FINISHED


def test_repeats_are_trainings_on_other_splits_and_a_refit_takes_all_outliers(
    manifest: str, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final: list[str] = []

    def publish(manifest: str, *_: object) -> None:
        final.append(manifest)
        raise KeyboardInterrupt

    monkeypatch.setattr("raysvq.tuning.sweep.publish", publish)
    options = ["tuning.trials=2", "tuning.repeats=2", "tuning.refit=true", "tuning.metric=au_pro"]
    with pytest.raises(KeyboardInterrupt):
        _sweep(manifest, config, tmp_path, *options)
    rows = pq.read_table(tmp_path / "leaderboard.parquet").to_pylist()
    assert [len(row["values"]) for row in rows] == [2, 2]
    assert all(0 <= row["au_pro"] <= 1 for row in rows)
    anomalous = pq.read_table(final[0], filters=[("label", "=", "anomalous")])["split"].to_pylist()
    assert anomalous.count("train") == 10
    assert "validation" not in anomalous


def test_trials_of_several_workers_are_trained_as_by_ray_train(
    manifest: str, config: Path, tmp_path: Path
) -> None:
    options = ["tuning.trials=2", "training.workers=2"]
    space = parse_space(*reversed(load_sweep(config, options)))
    points = first_points(space, space.base.tuning)
    state = SweepState(str(tmp_path / "_sweep" / _name(manifest, space, points, "image_auroc")))
    state.write_points(points)
    ended = LearningCurve(space.base).fail("has ended before")  # one trial of this kind shows all there is
    state.write_result(1, ended)
    found = _sweep(manifest, config, tmp_path, *options)
    assert [trial.status for trial in found.board.trials] == [FINISHED, FAILED]
    assert found.bundle.training["workers"] == 2
    assert found.chosen.images == _validation(manifest)


def test_what_cannot_be_a_trial_is_refused_before_anything_starts(
    manifest: str, config: Path, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=r"40 workers and a CPU for reading data do not fit into 2 CPUs"):
        _sweep(manifest, config, tmp_path, "training.workers=40", "training.batch_size=80")
    with pytest.raises(SettingsError, match=r"compared by image_auroc .* found au_pro; expected 1 worker"):
        _sweep(manifest, config, tmp_path, "training.workers=2", "tuning.metric=au_pro")
    with pytest.raises(DataError, match=r"`tuning.metric`: image_auroc needs anomalous images"):
        _sweep(_without_outliers(config, tmp_path), config, tmp_path, "tuning.metric=image_auroc")


def _without_outliers(config: Path, folder: Path) -> str:
    listing = str(config.parent / "sample" / "listing.csv")
    split = load_sweep(config)[0].split.model_copy(update={"outliers": 0})
    build_index(listing, str(folder / "plain.parquet"), split)
    return str(folder / "plain.parquet")
