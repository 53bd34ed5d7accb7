"""Index, train, score, evaluate on a small sample fleet, on a real Ray cluster of this machine."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from raysvq import schema
from raysvq.data.index import build_index
from raysvq.errors import DataError
from raysvq.evaluate_model import evaluate_model
from raysvq.model.bundle import Bundle, load_bundle, make_bundle, save_bundle
from raysvq.model.device import TOLERANCE
from raysvq.model.engines import engines_with_bfloat16
from raysvq.model.network import build_network
from raysvq.model.scorer import ImageScorer
from raysvq.results import open_results, read_commits, read_scores
from raysvq.sample import write_sample
from raysvq.scoring.job import score
from raysvq.scoring.summary import ScoreSummary
from raysvq.settings import Settings, SplitSettings, load_settings
from raysvq.storage import list_objects, read_bytes
from raysvq.training.ray_trainer import train

OVERRIDES = [
    "split.outliers=6",
    "tiles.anomalous_fraction=0.01",
    "model.hidden=16",
    "model.codebook_size=32",
    "model.embedding_dim=8",
    "training.steps=16",
    "training.batch_size=16",
    "training.validate_every=8",
    "training.workers=2",
    "scoring.batch_images=16",
    "scoring.worst=2",
    "evaluation.bootstrap=50",
    "scoring.precision=float32",
]


@dataclass(frozen=True)
class Run:
    """What the stages made."""

    settings: Settings
    manifest: str
    model: str
    scores: str
    bundle: Bundle
    summary: ScoreSummary


@pytest.fixture(scope="module")
def run(small_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("run")
    settings = load_settings(None, OVERRIDES)
    listing = write_sample(folder / "sample", seed=1, normal=30, anomalous=14)
    manifest, model, scores = (str(folder / name) for name in ("manifest.parquet", "model", "scores"))
    build_index(listing, manifest, settings.split)
    bundle = train(manifest, model, settings)
    summary = score(manifest, model, scores, settings)
    return Run(settings, manifest, model, scores, bundle, summary)


def test_every_image_is_scored_or_rejected_once(run: Run) -> None:
    wanted = pq.read_table(run.manifest)["image_id"].to_pylist()
    scored = read_scores(run.scores)["image_id"].to_pylist()
    rejected = open_results(run.scores, "rejects").to_table()
    assert sorted(scored + rejected["image_id"].to_pylist()) == sorted(wanted)
    assert sorted(rejected["reason"].to_pylist()) == ["corrupt", "not_an_image"]


def test_rows_follow_the_schema_and_name_their_origin(run: Run) -> None:
    table = read_scores(run.scores)
    assert table.schema.equals(schema.SCORES)
    assert set(table["model_digest"].to_pylist()) == {run.bundle.model_digest}
    assert set(table["run_id"].to_pylist()) == {run.summary.run_id}
    first = table.to_pylist()[0]
    assert len(first["tiles"]) == -(-first["width"] // 64) * -(-first["height"] // 64)
    right = max(tile["x"] + tile["w"] for tile in first["tiles"])
    bottom = max(tile["y"] + tile["h"] for tile in first["tiles"])
    assert (right, bottom) == (first["width"], first["height"])


def test_the_job_scores_as_the_library_does(run: Run) -> None:
    bundle = load_bundle(run.model)
    scorer = ImageScorer(bundle.model, bundle.settings, bundle.settings.scoring)
    for row in read_scores(run.scores).slice(0, 12).to_pylist():
        result = scorer(read_bytes(row["uri"]))
        assert row["image_score"] == pytest.approx(result.image_score, rel=1e-5)
        tiles = [tile["score"] for tile in row["tiles"]]
        np.testing.assert_allclose(tiles, result.tile_scores, rtol=1e-5)


def test_rows_say_what_decided_as_the_bundle_does(run: Run) -> None:
    decisions = load_bundle(run.model).decisions
    for row in read_scores(run.scores).to_pylist():
        decision = decisions.decide(row["image_score"])
        assert row["decisions_digest"] == decisions.digest
        assert row["policy"] == "max_false_alarm_rate"
        assert (row["threshold"], row["p_value"]) == (decision.threshold, decision.p_value)
        assert row["is_anomalous"] == decision.is_anomalous == (row["margin"] >= 0)


def test_training_scores_validation_images_as_the_job_does(run: Run) -> None:
    rows = pq.read_table(run.manifest).to_pylist()
    ids = {row["image_id"] for row in rows if row["split"] == "validation" and row["label"] == "normal"}
    scores = [row["image_score"] for row in read_scores(run.scores).to_pylist() if row["image_id"] in ids]
    assert len(scores) == run.bundle.reference.validation["normal"]
    assert np.quantile(scores, 0.5) == pytest.approx(run.bundle.reference.normal_scores["0.5"], rel=1e-5)


def test_training_measures_how_far_bfloat16_moves_scores(run: Run) -> None:
    model = load_bundle(run.model)
    found = model.reference.deviations
    measured = engines_with_bfloat16(model.settings.model, True)
    assert [engine for engine, deviation in found.items() if deviation is not None] == measured
    assert all(0 < deviation < TOLERANCE for deviation in found.values() if deviation is not None)


def test_the_bundle_holds_no_pickle_and_what_a_report_needs(run: Run) -> None:
    names = sorted(Path(info.uri).name for info in list_objects(run.model))
    made = ["bundle.json", "card.md", "decisions.json", "events.out.tfevents.raysvq", "history.json"]
    assert names == [*made, "reference.parquet", "training_ids.parquet", "weights.safetensors"]
    assert [row["step"] for row in run.bundle.history["history"]] == [8, 16]
    assert len(run.bundle.history["codebook_usage"]) == 32
    assert load_bundle(run.model).settings == run.settings


def test_heat_maps_of_the_worst(run: Run) -> None:
    worst = sorted(read_scores(run.scores).to_pylist(), key=lambda row: -row["image_score"])[:2]
    assert [Path(uri).stem.split("-")[1] for uri in run.summary.heatmaps] == [
        row["image_id"] for row in worst
    ]
    assert all(read_bytes(uri).startswith(b"\xff\xd8") for uri in run.summary.heatmaps)


def test_maps_are_kept_for_labelled_test_images(run: Run) -> None:
    rows = pq.read_table(run.manifest).to_pylist()
    wanted = {row["image_id"] for row in rows if row["split"] == "test"}
    assert set(open_results(run.scores, "maps").to_table()["image_id"].to_pylist()) == wanted


def test_a_finished_run_is_not_doubled(run: Run) -> None:
    again = score(run.manifest, run.model, run.scores, run.settings)
    assert (again.images, again.done_before) == (0, run.summary.images)
    assert len(read_commits(run.scores)) == 1


def test_evaluation_and_report(run: Run, tmp_path: Path) -> None:
    evaluation, report = evaluate_model(
        run.manifest, run.scores, run.model, str(tmp_path), run.settings.evaluation
    )
    assert evaluation.overall.image_auroc.value is not None
    assert evaluation.overall.au_pro.value is not None
    assert evaluation.counts.scored == run.summary.scored
    assert "<html" in Path(report).read_text()
    assert json.loads((tmp_path / "evaluation.json").read_text())["counts"]["rejected"] == 2


def test_scores_of_another_model_are_not_evaluated(run: Run, tmp_path: Path) -> None:
    other = make_bundle(
        build_network(run.settings),
        run.settings,
        run.bundle.reference,
        run.bundle.decisions,
        run.bundle.training,
        {},
    )
    save_bundle(other, str(tmp_path / "other"))
    with pytest.raises(
        DataError, match=f"made with model {run.bundle.model_version}, but .* {other.model_digest[:8]}"
    ):
        evaluate_model(
            run.manifest, run.scores, str(tmp_path / "other"), str(tmp_path), run.settings.evaluation
        )


def test_scoring_from_and_to_an_object_store(run: Run, s3: str) -> None:
    import raysvq.storage as storage

    rows = [row for row in pq.read_table(run.manifest).to_pylist() if row["label"] != "unknown"][:6]
    for row in rows:
        storage.write_bytes(f"{s3}/images/{Path(row['uri']).name}", read_bytes(row["uri"]))
    storage.write_bytes(f"{s3}/images/empty #1.png", b"")
    names = {Path(row["uri"]).name for row in rows}
    manifest, scores = f"{s3}/manifest.parquet", f"{s3}/scores"
    build_index(f"{s3}/images", manifest, SplitSettings())
    summary = score(manifest, run.model, scores, run.settings)
    assert summary.scored == len(names)
    assert summary.rejects == {"empty": 1}
    table = read_scores(scores, columns=["uri", "etag", "image_score"]).to_pylist()
    assert {row["uri"].rpartition("/")[2] for row in table} == names
    assert all(row["etag"] for row in table)
    stored = [read_bytes(info.uri) for info in list_objects(scores)]
    assert not any(b"AWS" in content or b"secret" in content.lower() for content in stored)
    assert isinstance(open_results(scores, "scores"), ds.Dataset)
