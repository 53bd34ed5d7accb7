"""The accuracy benchmark: every method runs, is measured as `raysvq evaluate` measures, and is run once."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks import accuracy, choices
from benchmarks.methods import jobs
from benchmarks.methods.command import levels_of
from benchmarks.methods.draws import NO_LABELS, Level
from benchmarks.methods.jobs import plan, trainings
from benchmarks.methods.plot import plot
from benchmarks.methods.protocol import METRICS, TILES, Manifests, Scorer, measure, score_test
from benchmarks.methods.records import Records, mean_and_deviation, run_digest
from benchmarks.methods.registry import BANKS, METHODS, Method
from benchmarks.methods.tables import figures
from devtools.untrained import untrained_bundle
from raysvq.data.manifest import select
from raysvq.evaluation.evaluate import evaluate
from raysvq.evaluation.labelled_images import read_manifest
from raysvq.evaluation.masks import MaskReader
from raysvq.evaluation.metrics import image_auroc
from raysvq.model.engines import EXACT
from raysvq.model.scorer import ImageResult, ImageScorer
from raysvq.results.writer import write_unit
from raysvq.schema import ANOMALOUS
from raysvq.scoring.rows import map_row, score_row
from raysvq.scoring.work import provenance
from raysvq.settings import EvaluationSettings, Settings
from raysvq.storage import read_bytes
from raysvq.training.initialize import INITIAL_PIXELS
from tests.commits import commit_run

TINY = [
    *("training.steps=4", "training.validate_every=2", "training.batch_size=8"),
    *("model.hidden=8", "model.residual_hidden=4", "model.residual_layers=1"),
    *("model.codebook_size=16", "model.embedding_dim=4", "tiles.size=64", "tiles.anomalous_fraction=0.01"),
]
SIX = Level("outliers", 6)
PIXELS = ["vqvae-pixels", "pixels", "pixels-negation", "deep-sad", "autoencoder"]
FEATURES = ["vqvae-features", "features", "kmeans", *BANKS]
Build = Callable[..., Settings]


def _run(monkeypatch: pytest.MonkeyPatch, command: ModuleType, data: Path, out: Path, *words: str) -> None:
    shared = ["--data", str(data), "--json", str(out / "runs.json"), "--cache", str(out / "cache")]
    monkeypatch.setattr(sys, "argv", [command.__name__, *words, *shared, "--seeds", "0", "--set", *TINY])
    command.main()


def test_every_method_is_run_and_measured_once(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(INITIAL_PIXELS, "features", 2**15)
    methods = [*PIXELS, *FEATURES]
    words = ["--sets", "sample", "--methods", *methods, "--labels", "0", "6"]
    words += ["--plot", str(tmp_path / "plot.svg")]
    _run(monkeypatch, accuracy, data, tmp_path, *words)
    runs = json.loads((tmp_path / "runs.json").read_text())["runs"]
    for run in runs:
        assert all(0 <= run[figure] <= 1 for figure in METRICS), run
        assert run["score_ms"] > 0
        predicted = pq.read_table(tmp_path / "runs" / f"{run['digest']}.parquet")
        anomalous = np.array(predicted["label"].to_pylist()) == ANOMALOUS
        assert image_auroc(anomalous, predicted["image_score"].to_numpy()) == run["image_auroc"]
        assert set(predicted["split"].to_pylist()) == {"test"}
    assert len({(run["test_normal"], run["test_anomalous"]) for run in runs}) == 1
    labelled = [name for name in methods if METHODS[name].uses_labels]
    names = {run["method"] for run in runs if run["level"] == str(NO_LABELS)}
    # One training stands for the three names of the VQ-VAE on pixels, and one for the two on features.
    assert names == set(methods) - {"pixels", "pixels-negation", "features"}
    assert {run["method"] for run in runs if run["level"] == str(SIX)} == set(labelled)
    assert (tmp_path / "plot.svg").exists()
    assert (tmp_path / "plot.png").exists()
    printed = capsys.readouterr().out
    assert "features, outliers=6 - better bank" in printed
    assert "features, outliers=6 - outliers=0" in printed
    assert "mark to beat: sample" in printed

    def never(*arguments: object) -> None:
        raise AssertionError("run again")

    monkeypatch.setattr(jobs, "run", never)
    _run(monkeypatch, accuracy, data, tmp_path, *words)
    again = capsys.readouterr().out
    assert again.strip()
    assert printed.endswith(again)


def test_choices_are_judged_on_sets_that_had_no_part_in_them(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "choices.yaml"
    file.write_text("pooling:\n  max: [anomaly.pooling=map_max]\n  top 3: [anomaly.top_k=3]\n")
    words = [str(file), "--sets", "sample", "other", "--method", "vqvae-pixels", "--metric", "au_pro"]
    _run(monkeypatch, choices, data, tmp_path, *words)
    printed = capsys.readouterr().out
    runs = json.loads((tmp_path / "runs.json").read_text())["runs"]
    assert len(runs) == 4
    assert all(f"{run['au_pro']:.4f}" in printed for run in runs)
    assert "left out: " in printed
    assert "(development figure)" in printed


def test_a_method_gets_no_test_image_and_a_scorer_bytes_alone(
    manifests: Manifests, small: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = small(tiles=TILES.model_dump())
    scorer = ImageScorer(untrained_bundle(settings, threshold=1.0).model, settings, settings.scoring)
    given: list[object] = []

    def score(*arguments: object) -> ImageResult:
        given.extend(arguments)
        return scorer(bytes(arguments[0]))  # type: ignore[arg-type]  # bytes, as the test asserts

    def fit(*arguments: object) -> Scorer:
        given.extend(arguments)
        return score

    monkeypatch.setitem(METHODS, "spy", Method("spy", fit, "pixels"))
    (job,) = plan(["sample"], ["spy"], [SIX], [0], [], manifests)
    (record,) = jobs.run((job,), tmp_path / "predictions")
    learn, _, *files = given
    tested = read_manifest(job.paths.test).images
    rows = pq.read_table(str(learn)).to_pylist()
    assert not {row["image_id"] for row in rows} & tested.keys()
    assert {row["split"] for row in rows} == {"train", "validation"}
    assert files == [read_bytes(tested[name].uri) for name in sorted(tested)]
    assert record["test_anomalous"] + record["test_normal"] == len(tested)


def test_figures_are_those_of_evaluate(manifests: Manifests, small: Build, tmp_path: Path) -> None:
    settings = small(tiles=TILES.model_dump())
    bundle = untrained_bundle(settings, threshold=1.0)
    scorer = ImageScorer(bundle.model, settings, settings.scoring)
    manifest = manifests("sample", SIX, 0).test
    results, _ = score_test(scorer, manifest)
    origin = provenance(bundle, "run", "settings", EXACT)
    rows = [row for row in select(manifest, split="test").to_pylist() if row["image_id"] in results]
    tables = {
        "scores": [score_row(row, results[row["image_id"]], bundle.decisions, origin) for row in rows],
        "rejects": [],
        "maps": [map_row(row, results[row["image_id"]]) for row in rows],
    }
    out = str(tmp_path / "scores")
    files = write_unit(out, "unit", tables, {})
    commit_run(out, origin, files)
    expected = evaluate(manifest, out, EvaluationSettings(bootstrap=0), settings.tiles).overall
    found = measure(results, manifest)
    assert [found[name] for name in METRICS] == [getattr(expected, name).value for name in METRICS]
    assert found["test_normal"] == expected.normal_images > 0


def test_tiles_that_a_method_did_not_cut_take_their_score_from_the_map(
    manifests: Manifests, small: Build
) -> None:
    settings = small(tiles={"mode": "whole", "size": 64})
    scorer = ImageScorer(untrained_bundle(settings, threshold=1.0).model, settings, settings.scoring)
    manifest = manifests("sample", NO_LABELS, 0).test
    results, _ = score_test(scorer, manifest)
    for image in read_manifest(manifest).images.values():
        tiling = results[image.image_id].tiling
        mask = MaskReader().read(image.mask_uri, tiling.height, tiling.width)
        truth = np.zeros((tiling.height, tiling.width), np.float32) if mask is None else np.float32(mask)
        results[image.image_id] = replace(results[image.image_id], terms=truth[None])
    found = measure(results, manifest)
    assert found["pixel_auroc"] == found["tile_auroc"] == 1


def test_a_run_is_told_apart_by_all_that_decides_its_figures() -> None:
    def digest(name: str, drawn: str, seed: int = 0, *overrides: str) -> str:
        method = METHODS[name]
        settings = method.settings("magnetic_tile", seed, overrides)
        return run_digest(drawn, method, drawn != "none", settings)

    labelled = [name for name in PIXELS if METHODS[name].uses_labels]
    different = [digest(name, drawn) for name in labelled for drawn in ("six", "seven")]
    different += [digest("pixels", "six", 1), digest("pixels", "six", 0, "training.steps=7")]
    different += [digest(name, "none") for name in BANKS]
    assert len(set(different)) == len(different)
    assert digest("pixels", "none") == digest("pixels-negation", "none")
    assert digest("pixels", "none") == digest("vqvae-pixels", "none")
    assert digest("pixels", "none") != digest("deep-sad", "none")
    assert digest("pixels", "none") != digest("pixels", "none", 0, "objective.beta=2")
    assert digest("pixels", "six") == digest("pixels", "six", 0, "scoring.tile_batch=2")


def test_levels_are_all_labels_with_and_without_hidden_defects() -> None:
    asked = argparse.Namespace(unseen_types=False, labels=[0, 5], gammas=None, hidden=[0.1])
    labels = [Level("outliers", value, share) for share in (0.0, 0.1) for value in (0, 5)]
    assert levels_of(asked) == labels
    asked.gammas, asked.hidden = [0, 0.2], []
    assert levels_of(asked) == [NO_LABELS, Level("gamma", 0.2)]
    asked.gammas, asked.unseen_types = None, True
    assert levels_of(asked) == [Level("outliers", value, 0.0, True) for value in (0, 5)]


def test_settings_of_a_command_leave_the_pooling_of_the_banks() -> None:
    settings = [METHODS[name].settings("cookies", 0, ["anomaly.top_k=3"]).anomaly for name in BANKS]
    assert [one.pooling for one in settings] == ["map_max", "top_k"]
    assert settings[1].top_k == 20


def test_methods_without_labels_are_trained_once_a_seed(manifests: Manifests) -> None:
    names = ["pixels", "autoencoder", *BANKS]
    found = plan(["sample"], names, [NO_LABELS, SIX], [0, 1], [], manifests)
    assert [job.method for job in found] == 2 * ["pixels", *names]
    parts = trainings([*found, *found])
    assert [[job.method for job in part] for part in parts] == 2 * [
        ["pixels"],
        ["pixels"],
        ["autoencoder"],
        list(BANKS),
    ]


def test_a_level_that_a_set_is_too_small_for_is_left_out_and_named(manifests: Manifests) -> None:
    said: list[str] = []
    found = plan(["sample"], ["pixels"], [NO_LABELS, Level("outliers", 16)], [0], [], manifests, said.append)
    assert [job.level for job in found] == [NO_LABELS]
    assert len(said) == 1
    assert "outliers=16" in said[0]


def test_records_are_whole_after_every_run(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "runs.json"
    for number in range(3):
        records = Records(path)
        assert len(records.runs) == number
        records.add({"digest": str(number), "method": "pixels"})
    assert Records(path).find("1") == {"digest": "1", "method": "pixels"}
    Records(path).add({"digest": "1", "method": "deep-sad"})
    assert Records(path).find("1") == {"digest": "1", "method": "deep-sad"}
    assert len(Records(path).runs) == 3
    assert [file.name for file in path.parent.iterdir()] == ["runs.json"]


def test_two_commands_may_add_to_one_file(tmp_path: Path) -> None:
    first, second = (Records(tmp_path / "runs.json") for _ in range(2))
    first.add({"digest": "1", "method": "pixels"})
    second.add({"digest": "2", "method": "deep-sad"})
    assert [run["digest"] for run in Records(tmp_path / "runs.json").runs] == ["1", "2"]


def test_mean_and_deviation_leave_out_what_is_missing() -> None:
    assert mean_and_deviation([0.5, None, 0.7]) == pytest.approx((0.6, 0.1414), abs=1e-4)
    assert mean_and_deviation([0.5]) == (0.5, 0.0)
    assert mean_and_deviation([None]) is None


def test_a_training_that_ran_away_is_a_line_without_figures(tmp_path: Path) -> None:
    runs = [{"problem": "the loss is nan"}, {"image_auroc": 0.75, "pixel_auroc": 0.5, "train_s": 3.0}]
    found = {("magnetic_tile", "pixels-negation", SIX): runs}
    assert "2 of these runs are of another version of the code" in figures(found)
    line = figures(found).splitlines()[1]
    assert "1 ran away" in line
    assert "0.750 ± 0.000" in line
    plot(found, tmp_path / "plot.svg")
    assert "pixels, negation" in (tmp_path / "plot.svg").read_text()
