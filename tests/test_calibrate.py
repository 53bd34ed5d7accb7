"""Training with folds, and decisions fitted anew: what is learnt, what calibrates, what is left out."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from raysvq.calibrate_model import FOLDER, _choose, calibrate_model
from raysvq.data.index import build_index
from raysvq.data.manifest import select
from raysvq.errors import DataError
from raysvq.model.bundle import Bundle, load_bundle, load_reference, save_bundle
from raysvq.model.scorer import ImageScorer
from raysvq.results import read_scores
from raysvq.scoring.job import score
from raysvq.settings import Settings, load_settings
from raysvq.storage import read_bytes, write_bytes
from raysvq.training.ray_trainer import train
from tests.stripes import write_stripes

OVERRIDES = [
    "split.outliers=4",
    "tiles.mode=whole",
    "tiles.size=64",
    "model.encoder=features",
    "model.hidden=8",
    "model.codebook_size=16",
    "model.embedding_dim=4",
    "training.steps=12",
    "training.batch_size=8",
    "training.validate_every=6",
    "scoring.precision=float32",
    "decision.folds=3",
]


@dataclass(frozen=True)
class Trained:
    """A model, the manifest it was trained on, and one of images that came later."""

    settings: Settings
    manifest: str
    later: str
    model: str
    bundle: Bundle


@pytest.fixture(scope="module")
def trained(small_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("calibrate")
    settings = load_settings(None, OVERRIDES)
    manifest, later, model = (str(folder / name) for name in ("manifest.parquet", "later.parquet", "model"))
    build_index(write_stripes(folder / "tree"), manifest, settings.split)
    files = sorted(Path(write_stripes(folder / "later", normals=18, seed=1), "train", "good").glob("*"))
    listing = pa.table(
        {
            "uri": [str(file) for file in files],
            "label": ["normal"] * 18,
            "split": ["validation"] * 16 + ["test"] * 2,
            "camera": ["left", "right"] * 9,
        }
    )
    pyarrow.csv.write_csv(listing, folder / "later.csv")
    build_index(str(folder / "later.csv"), later, Settings().split)
    return Trained(settings, manifest, later, model, train(manifest, model, settings))


@pytest.fixture(scope="module")
def scores(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Scores of the images that came later."""
    folder = str(tmp_path_factory.mktemp("scores") / "scores")
    score(trained.later, trained.model, folder, trained.settings)
    return folder


@pytest.fixture
def model(trained: Trained, tmp_path: Path) -> str:
    """A copy of the model, to calibrate."""
    return str(shutil.copytree(trained.model, tmp_path / "model"))


def test_with_folds_all_labelled_images_are_learnt_and_calibrate(trained: Trained) -> None:
    learnt = select(trained.manifest, split=["train", "validation"], label=["normal", "anomalous"])
    ids = pq.read_table(f"{trained.model}/training_ids.parquet")["image_id"].to_pylist()
    assert sorted(ids) == sorted(learnt["image_id"].to_pylist())
    assert len(ids) == 12 + 4
    bundle = load_bundle(trained.model)
    assert (bundle.training["folds"], bundle.training["normals"], bundle.training["outliers"]) == (3, 12, 4)
    assert bundle.decisions.promise.normals == 12
    assert bundle.decisions.data["images"] == 16
    assert bundle.reference.validation["auroc"] is not None
    assert bundle.reference.bfloat16_deviation is not None
    assert len(bundle.reference.validation["outliers"]) == 4
    assert "3 models, each without the images it scored" in Path(trained.model, "card.md").read_text()
    reference = load_reference(trained.model)
    kept = set(np.float32(bundle.decisions.calibration.scores).tolist())
    assert 0 < len(reference) <= 12
    assert set(reference["image_score"].to_pylist()) <= kept


def test_with_folds_the_last_step_is_the_model(trained: Trained) -> None:
    assert trained.bundle.training["best_step"] == 12
    assert [row["validation_auroc"] for row in trained.bundle.history["history"]] == [None, None]


def test_decisions_are_fitted_anew_on_what_the_model_has_not_learnt(trained: Trained, model: str) -> None:
    before = read_bytes(f"{model}/bundle.json")
    done = calibrate_model(model, trained.later, trained.settings)
    assert done.images == {"normal": 16, "anomalous": 0}
    assert done.left_out["of the test split"] == 2
    bundle = load_bundle(model)
    assert bundle.decisions == done.after
    assert bundle.decisions.threshold != trained.bundle.decisions.threshold
    assert bundle.decisions.promise.normals == 16
    assert read_bytes(f"{model}/bundle.json") == before
    assert bundle.decisions.digest in Path(model, "card.md").read_text()
    uris = select(trained.later, split="validation")["uri"].to_pylist()
    scorer = ImageScorer(bundle.model, bundle.settings, bundle.settings.scoring)
    largest = max(scorer(read_bytes(uri)).image_score for uri in uris)
    assert bundle.decisions.threshold == pytest.approx(largest, rel=1e-5)
    assert bundle.decisions.threshold > largest * (1 - 1e-6)
    reference = load_reference(model)
    assert len(reference) == 16
    assert max(reference["image_score"].to_pylist()) == pytest.approx(largest, rel=1e-5)
    assert reference["exposure"].null_count == 0
    assert all(reference["codes"].to_pylist())
    maps = np.concatenate([scorer(read_bytes(uri)).anomaly_map.ravel() for uri in uris])
    assert bundle.decisions.pixel_threshold == pytest.approx(np.quantile(maps, 0.999), rel=1e-5)
    text = "\n".join(done.lines())
    assert "calibrated on 16 normal and 0 anomalous images" in text
    assert "left out: 2 of the test split" in text
    assert "16 normal images cannot promise" in text


def test_model_manifest_and_scores_may_lie_in_an_object_store(trained: Trained, s3: str) -> None:
    folder = f"{s3}/calibrate"
    for file in filter(Path.is_file, Path(trained.model).iterdir()):
        write_bytes(f"{folder}/model/{file.name}", file.read_bytes())
    write_bytes(f"{folder}/later.parquet", Path(trained.later).read_bytes())
    done = calibrate_model(f"{folder}/model", f"{folder}/later.parquet", trained.settings)
    assert done.images == {"normal": 16, "anomalous": 0}
    assert load_bundle(f"{folder}/model").decisions == done.after != trained.bundle.decisions
    assert len(read_scores(f"{folder}/model/{FOLDER}/scores")) == 16


def test_images_that_were_learnt_from_are_left_out(trained: Trained, model: str) -> None:
    with pytest.raises(DataError, match=r"no normal image .*16 that the model has learnt from.* test split"):
        calibrate_model(model, trained.manifest, trained.settings)
    Path(model, "training_ids.parquet").unlink()
    images, left_out = _choose(trained.manifest, model, trained.settings.decision)  # as of an earlier version
    train_split = len(select(trained.manifest, split="train"))
    assert left_out["that the model has learnt from"] == train_split
    assert len(images) == 16 - train_split


def test_scores_that_are_there_are_taken_and_a_copy_leaves_the_model_as_it_is(
    trained: Trained, scores: str, model: str, tmp_path: Path
) -> None:
    out = str(tmp_path / "copy")
    decision = trained.settings.decision.model_copy(update={"group_by": "camera"})
    grouped = load_settings(None, [*OVERRIDES, "decision.group_by=camera"])
    assert grouped.decision == decision
    done = calibrate_model(model, trained.later, grouped, scores, out)
    assert load_bundle(model).decisions == trained.bundle.decisions
    copy = load_bundle(out)
    assert copy.model_digest == trained.bundle.model_digest
    assert copy.decisions == done.after
    assert set(copy.decisions.groups) == {"left", "right"}
    assert copy.decisions.pixel_threshold == trained.bundle.decisions.pixel_threshold
    assert not Path(model, FOLDER).exists()
    assert Path(out, "training_ids.parquet").read_bytes() == Path(model, "training_ids.parquet").read_bytes()
    lines = list(done.lines())
    assert any("stays: these scores have no maps" in line for line in lines)
    assert any(line.startswith("left ") and line.split()[1] == "8" for line in lines)
    with pytest.raises(DataError, match="already holds a model"):
        calibrate_model(model, trained.later, grouped, scores, out)
    assert len(read_scores(scores)) == 18


def test_settings_that_are_not_given_are_the_models_own(trained: Trained, scores: str, model: str) -> None:
    given = load_settings(None, ["decision.max_false_alarm_rate=0.2"])
    done = calibrate_model(model, trained.later, given, scores)
    assert (done.after.promise.asked, done.after.promise.promised) == (0.2, 0.2)
    again = calibrate_model(model, trained.later, load_settings(None, []), scores)
    assert again.after.promise.asked == 0.2
    manual = load_settings(None, ["decision.policy=manual", "decision.threshold=7"])
    assert calibrate_model(model, trained.later, manual, scores).after.threshold == 7


def test_scores_of_another_model_do_not_calibrate(trained: Trained, scores: str, tmp_path: Path) -> None:
    bundle, alien = load_bundle(trained.model), str(tmp_path / "alien")
    bundle.model.quantizer.codebook += 1
    save_bundle(bundle, alien)
    with pytest.raises(DataError, match="found no score of a normal image by model"):
        calibrate_model(alien, trained.later, trained.settings, scores)
