"""The accuracy benchmark: every method runs, is measured as `raysvq evaluate` measures, and is run once."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import accuracy
from benchmarks.methods.jobs import plan
from benchmarks.methods.plot import plot
from benchmarks.methods.protocol import METRICS, NO_LABELS, TILES, Level, Manifests, measure, score_test
from benchmarks.methods.records import Records, mean_and_deviation, run_digest
from benchmarks.methods.registry import METHODS
from devtools.untrained import untrained_bundle
from raysvq.data.manifest import select
from raysvq.evaluation.evaluate import evaluate
from raysvq.evaluation.labelled_images import read_manifest
from raysvq.evaluation.masks import MaskReader
from raysvq.model.scorer import ImageScorer
from raysvq.results.writer import write_unit
from raysvq.schema import ANOMALOUS
from raysvq.scoring.rows import map_row, provenance, score_row
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
FEATURES = ["vqvae-features", "features", "kmeans", "memory-bank"]
Build = Callable[..., Settings]


def _command(monkeypatch: pytest.MonkeyPatch, data: Path, out: Path, methods: list[str]) -> None:
    words = ["accuracy", "--data", str(data), "--sets", "sample", "--methods", *methods]
    words += ["--labels", "0", "6", "--seeds", "0", "--json", str(out / "runs.json"), "--set", *TINY]
    monkeypatch.setattr(sys, "argv", [*words, "--plot", str(out / "plot.svg")])
    accuracy.main()


def test_every_method_is_run_and_measured_once(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(INITIAL_PIXELS, "features", 2**15)
    methods = [*PIXELS, *FEATURES]
    _command(monkeypatch, data, tmp_path, methods)
    runs = json.loads((tmp_path / "runs.json").read_text())["runs"]
    places = [(run["method"], run["level"]) for run in runs]
    assert sorted(places) == sorted((name, level) for name in methods for level in (str(NO_LABELS), str(SIX)))
    for run in runs:
        assert all(0 <= run[figure] <= 1 for figure in METRICS), run
        assert run["score_ms"] > 0
    assert all(run["test_anomalous"] <= 12 - 6 for run in runs if run["level"] == str(SIX))
    by_place = dict(zip(places, runs, strict=True))
    alike = [by_place[name, str(NO_LABELS)] for name in ("vqvae-pixels", "pixels", "pixels-negation")]
    assert len({run["score_ms"] for run in alike}) == 1  # one training under three names
    assert (tmp_path / "plot.svg").exists()
    assert (tmp_path / "plot.png").exists()
    printed = capsys.readouterr().out
    assert printed.count("outliers=6") >= len(methods)

    def never(*arguments: object) -> None:
        raise AssertionError("run again")

    monkeypatch.setattr(accuracy, "run", never)
    _command(monkeypatch, data, tmp_path, methods)
    assert (
        capsys.readouterr().out.strip().splitlines()[1:]
        == printed.strip().splitlines()[-2 * len(methods) - 1 :]
    )


def test_figures_are_those_of_evaluate(manifests: Manifests, small: Build, tmp_path: Path) -> None:
    settings = small(tiles=TILES.model_dump())
    bundle = untrained_bundle(settings, threshold=1.0)
    scorer = ImageScorer(bundle.model, settings, settings.scoring)
    manifest = manifests("sample", SIX, 0)
    results, _ = score_test(scorer, manifest)
    origin = provenance(bundle, "run", "settings", "float32")
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
    manifest = manifests("sample", NO_LABELS, 0)
    results, _ = score_test(scorer, manifest)
    for image in read_manifest(manifest).images.values():
        tiling = results[image.image_id].tiling
        mask = MaskReader().read(image.mask_uri, tiling.height, tiling.width)
        truth = np.zeros((tiling.height, tiling.width), np.float32) if mask is None else np.float32(mask)
        results[image.image_id] = replace(results[image.image_id], anomaly_map=truth)
    found = measure(results, manifest)
    assert found["pixel_auroc"] == found["tile_auroc"] == 1


def test_labelled_outliers_leave_the_test_and_no_image_comes(manifests: Manifests) -> None:
    images = [set(read_manifest(manifests("sample", level, 1)).images) for level in (NO_LABELS, SIX)]
    labelled = select(manifests("sample", SIX, 1), label=ANOMALOUS).to_pylist()
    assert sum(row["split"] in ("train", "validation") for row in labelled) == 6
    assert images[1] < images[0]
    assert all(read_bytes(row["uri"]) for row in labelled)


def test_a_run_is_told_apart_by_all_that_decides_its_figures() -> None:
    def digest(name: str, level: Level, seed: int = 0, *overrides: str) -> str:
        method = METHODS[name]
        return run_digest("magnetic_tile", method, level, method.settings("magnetic_tile", seed, overrides))

    gamma = Level("gamma", 0.2)
    different = [digest(name, level) for name in PIXELS for level in (SIX, gamma)]
    different += [digest("pixels", SIX, 1), digest("pixels", SIX, 0, "training.steps=7")]
    assert len(set(different)) == len(different)
    assert digest("pixels", NO_LABELS) == digest("pixels-negation", NO_LABELS)
    assert digest("pixels", NO_LABELS) == digest("vqvae-pixels", NO_LABELS)
    assert digest("pixels", NO_LABELS) != digest("deep-sad", NO_LABELS)
    assert digest("pixels", NO_LABELS) != digest("pixels", NO_LABELS, 0, "objective.beta=2")
    assert digest("pixels", SIX) == digest("pixels", SIX, 0, "scoring.tile_batch=2")


def test_methods_without_labels_are_trained_once_a_seed() -> None:
    jobs = plan(["magnetic_tile"], ["pixels", "autoencoder"], [NO_LABELS, SIX], [0, 1], [])
    assert [(job.method, len(job.levels)) for job in jobs] == 2 * [
        ("pixels", 1),
        ("pixels", 1),
        ("autoencoder", 2),
    ]


def test_records_are_whole_after_every_run(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "runs.json"
    for number in range(3):
        records = Records(path)
        assert len(records.runs) == number
        records.add({"digest": str(number), "method": "pixels"})
    assert Records(path).find("1") == {"digest": "1", "method": "pixels"}
    assert Records(path).find("1", "deep-sad") is None
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
    line = accuracy.table(found).splitlines()[1]
    assert "1 ran away" in line
    assert "0.750 ± 0.000" in line
    plot(found, tmp_path / "plot.svg")
    assert "pixels, negation" in (tmp_path / "plot.svg").read_text()
