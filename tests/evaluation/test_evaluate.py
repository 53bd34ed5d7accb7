from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from raysvq import schema
from raysvq.errors import DataError, StorageError
from raysvq.evaluate_model import evaluate_model, metrics_table
from raysvq.evaluation.evaluate import evaluate
from raysvq.evaluation.result import Evaluation, to_json
from raysvq.report.evaluation import render
from raysvq.settings import EvaluationSettings, TileSettings

if TYPE_CHECKING:
    from conftest import ScoredSet

SIZE = (32, 32)
HALVES = [(0, 0, 16, 32), (16, 0, 16, 32)]
Plates = Callable[..., "ScoredSet"]


def _evaluate(
    scored_set: ScoredSet,
    bootstrap: int = 50,
    gallery: int = 8,
    model_digest: str | None = None,
    **tiles: object,
) -> Evaluation:
    settings = EvaluationSettings(bootstrap=bootstrap, gallery=gallery)
    scored_set.commit()
    cut = TileSettings.model_validate(tiles)
    return evaluate(scored_set.manifest, scored_set.scores, settings, cut, model_digest)


def _write_mask(
    scored_set: ScoredSet, name: str, marked: tuple[slice, slice], size: tuple[int, int] = SIZE
) -> str:
    mask = np.zeros(size, np.uint8)
    mask[marked] = 255
    uri = str(scored_set.root / name)
    cv2.imwrite(uri, mask)
    return uri


def _two_images(scored_set: ScoredSet, mask_uri: str | None) -> ScoredSet:
    normal = scored_set.list_image("normal.png", "normal")
    scored_set.score(normal, 1.0, SIZE, HALVES, [1.0, 2.0])
    anomalous = scored_set.list_image("anomalous.png", "anomalous", mask_uri=mask_uri)
    scored_set.score(anomalous, 5.0, SIZE, HALVES, [5.0, 1.5])
    return scored_set


def test_image_metrics_are_those_of_the_joined_rows(plates: Plates) -> None:
    scored_set = plates(normal=12, anomalous=12)
    found = _evaluate(scored_set, bootstrap=200)
    truth = {row["image_id"]: row["label"] == "anomalous" for row in scored_set.manifest_rows}
    labels = [truth[row["image_id"]] for row in scored_set.score_rows]
    scores = [row["image_score"] for row in scored_set.score_rows]
    area, precision = found.overall.image_auroc, found.overall.average_precision
    assert area.value == pytest.approx(roc_auc_score(labels, scores), abs=1e-6)
    assert precision.value == pytest.approx(average_precision_score(labels, scores), abs=1e-6)
    assert area.low is not None
    assert area.high is not None
    assert area.low <= area.value <= area.high
    assert found.counts.test_scored == {"normal": 12, "anomalous": 12}
    assert found.counts.manifest == {"test": {"normal": 12, "anomalous": 12}}
    assert sum(found.histogram.normal) == sum(found.histogram.anomalous) == 12


def test_pixel_metrics_are_those_of_full_size_maps(plates: Plates) -> None:
    scored_set = plates(normal=3, anomalous=3)
    found = _evaluate(scored_set)
    truth, values = [], []
    for row, kept in zip(scored_set.manifest_rows, scored_set.map_rows, strict=True):
        cells = np.frombuffer(kept["values"], "<f4").reshape(kept["map_height"], kept["map_width"])
        span = (kept["span_width"], kept["span_height"])
        values.append(cv2.resize(cells, span)[: kept["height"], : kept["width"]].ravel())
        mask = cv2.imread(row["mask_uri"], 0) > 0 if row["mask_uri"] else np.zeros(values[-1].size, bool)
        truth.append(mask.ravel())
    expected = roc_auc_score(np.concatenate(truth), np.concatenate(values))
    assert found.overall.pixel_auroc.value == pytest.approx(expected, abs=1e-4)
    assert found.overall.au_pro.value is not None
    assert found.notes == ()


def test_each_defect_type_stands_against_all_normal_images(plates: Plates) -> None:
    found = _evaluate(plates(normal=5, anomalous=7))
    sizes = {kind: (part.normal_images, part.anomalous_images) for kind, part in found.by_defect_type.items()}
    assert sizes == {"pit": (5, 4), "scratch": (5, 3)}
    one, other = (part.pixel_auroc.value for part in found.by_defect_type.values())
    assert one is not None
    assert other is not None
    assert found.overall.pixel_auroc.value is not None
    assert min(one, other) <= found.overall.pixel_auroc.value <= max(one, other)


@pytest.mark.parametrize(
    ("fraction", "labels"),
    [(0.05, [0, 0, 1, 0]), (0.0, [0, 0, 1, 1]), (0.5, None)],  # left half 25 %, right half 0.2 % marked
)
def test_tile_labels_follow_the_share_of_the_mask(
    scored_set: ScoredSet, fraction: float, labels: list[int] | None
) -> None:
    mask = np.zeros(SIZE, np.uint8)
    mask[:8, :16] = 255
    mask[31, 31] = 255
    cv2.imwrite(str(scored_set.root / "mask.png"), mask)
    _two_images(scored_set, str(scored_set.root / "mask.png"))
    scored_set.score_rows[1]["tiles"][0]["score"] = 1.75
    found = _evaluate(scored_set, anomalous_fraction=fraction).overall.tile_auroc
    if labels is None:
        assert (found.value, found.reason) == (None, "no anomalous tile is known")
        return
    assert found.value == pytest.approx(roc_auc_score(labels, [1.0, 2.0, 1.75, 1.5]))


def test_without_a_mask_tiles_and_pixels_of_an_anomalous_image_are_left_out(scored_set: ScoredSet) -> None:
    _two_images(scored_set, None)
    for row in scored_set.manifest_rows:
        scored_set.keep_map(row["image_id"], np.ones((4, 4)), SIZE)
    found = _evaluate(scored_set)
    assert found.overall.image_auroc.value == 1.0
    assert found.overall.tile_auroc.reason == "no anomalous tile is known"
    assert found.overall.pixel_auroc.reason == "no pixel is marked"
    assert found.notes == (
        "Anomalous images without a usable mask, left out of tile AUROC: 1.",
        "Anomalous images without a usable mask, left out of pixel metrics: 1.",
    )


def test_a_whole_image_tile_takes_the_label_of_the_image(scored_set: ScoredSet) -> None:
    for name, label, score in (("a.png", "normal", 1.0), ("b.png", "anomalous", 5.0)):
        scored_set.score(scored_set.list_image(name, label), score, SIZE, [(0, 0, 32, 32)], [score])
    assert _evaluate(scored_set, mode="whole").overall.tile_auroc.value == 1.0


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"no image", "cannot be decoded"),
        (None, "cannot be read"),
        ("small", "is 16 x 16 pixels, its image 32 x 32"),
        ("black", "marks nothing"),
    ],
)
def test_an_unusable_mask_is_named_and_left_out(
    scored_set: ScoredSet, content: bytes | str | None, problem: str
) -> None:
    path = scored_set.root / "mask.png"
    if content == "small":
        _write_mask(scored_set, path.name, (slice(4), slice(4)), (16, 16))
    elif content == "black":
        _write_mask(scored_set, path.name, (slice(0), slice(0)))
    elif isinstance(content, bytes):
        path.write_bytes(content)
    found = _evaluate(_two_images(scored_set, str(path)))
    assert found.overall.tile_auroc.value is None
    assert any(str(path) in note and problem in note for note in found.notes)


def test_without_maps_pixel_metrics_say_why(scored_set: ScoredSet) -> None:
    mask_uri = _write_mask(scored_set, "mask.png", (slice(8), slice(16)))
    found = _evaluate(_two_images(scored_set, mask_uri))
    assert found.overall.au_pro.reason == "no anomaly map of these images was kept, or no mask is usable"
    assert found.overall.tile_auroc.value == 1.0
    assert found.map_range is None


def test_only_labelled_test_images_count(scored_set: ScoredSet) -> None:
    _two_images(scored_set, None)
    for name, label, split in (("t.png", "normal", "train"), ("u.png", "unknown", "test")):
        scored_set.score(scored_set.list_image(name, label, split), 99.0, SIZE, HALVES, [9.0, 9.0])
    found = _evaluate(scored_set)
    assert found.overall.normal_images == found.overall.anomalous_images == 1
    assert found.counts.scored == 4
    assert found.counts.manifest == {
        "test": {"anomalous": 1, "normal": 1, "unknown": 1},
        "train": {"normal": 1},
    }


def test_rejected_and_missing_images_are_accounted_for(scored_set: ScoredSet) -> None:
    _two_images(scored_set, None)
    scored_set.reject(scored_set.list_image("cut.png", "normal"), "corrupt", "PNG: cut off")
    scored_set.reject(scored_set.list_image("gone.png", "unknown", "none"), "not_found", "no such file")
    scored_set.list_image("later.png", "normal")
    found = _evaluate(scored_set)
    assert (found.counts.rejected, found.counts.test_rejected, found.counts.test_missing) == (2, 1, 1)
    assert {group.reason: group.images for group in found.rejected} == {"corrupt": 1, "not_found": 1}
    assert found.rejected[0].examples == ((str(scored_set.root / "cut.png"), "PNG: cut off"),)


def test_decisions_are_those_made_when_scoring(scored_set: ScoredSet) -> None:
    found = _evaluate(_two_images(scored_set, None))
    assert found.threshold == 3.0
    assert (found.confusion.true_positives, found.confusion.true_negatives) == (1, 1)
    scored_set.score_rows[0]["threshold"] = 4.0
    again = _evaluate(scored_set)
    assert again.threshold is None
    assert "different thresholds" in again.notes[0]


def test_only_normal_images_leave_reasons_instead_of_metrics(scored_set: ScoredSet) -> None:
    scored_set.score(scored_set.list_image("a.png", "normal"), 1.0, SIZE, HALVES, [1.0, 2.0])
    found = _evaluate(scored_set)
    assert found.overall.image_auroc.reason == "no anomalous test image was scored"
    assert (found.roc, found.by_defect_type) == ((), {})


def test_an_empty_run_can_be_reported(scored_set: ScoredSet) -> None:
    scored_set.list_image("later.png", "normal")
    found = _evaluate(scored_set)
    assert found.overall.image_auroc.reason == "no labelled test image was scored"
    assert (found.counts.test_missing, found.images) == (1, ())
    json.loads(to_json(found))


def test_json_holds_every_metric(plates: Plates) -> None:
    found = _evaluate(plates())
    plain = json.loads(to_json(found))
    assert plain["overall"]["image_auroc"]["value"] == found.overall.image_auroc.value
    assert plain["tiles"]["anomalous_fraction"] == 0.05
    assert plain["confusion"]["true_positives"] == found.confusion.true_positives


def test_an_image_scored_twice_is_named(scored_set: ScoredSet) -> None:
    _two_images(scored_set, None)
    scored_set.score_rows.append({**scored_set.score_rows[0], "run_id": "run-2"})
    with pytest.raises(DataError, match=r"normal\.png was scored twice, in runs run-1 and run-2"):
        _evaluate(scored_set)


OTHER = {"run_id": "run-0", "model_version": "plates-0", "model_digest": "e" * 16}


def _of_two_models(scored_set: ScoredSet, split: str) -> None:
    """The other model has scored one image of the split, the usual one two test images."""
    older = scored_set.list_image("older.png", "normal", split)
    scored_set.score(older, 99.0, SIZE, HALVES, [99.0, 99.0])
    scored_set.score_rows[0].update(OTHER)
    scored_set.commit(OTHER)
    scored_set.score_rows.clear()
    _two_images(scored_set, None)


def test_a_model_is_evaluated_in_a_folder_that_holds_another_ones_scores(scored_set: ScoredSet) -> None:
    _of_two_models(scored_set, "none")
    found = _evaluate(scored_set, model_digest="d" * 16)
    assert found.overall.image_auroc.value == 1.0
    assert (found.provenance.model_version, found.provenance.run_ids) == ("plates-1", ("run-1",))
    assert sorted(image.score for image in found.images) == [1.0, 5.0]
    assert found.counts.scored == 2


def test_test_images_of_another_model_are_counted_and_named(scored_set: ScoredSet) -> None:
    _of_two_models(scored_set, "test")
    for digest, images, version in (("d", 1, "older.png by plates-0"), ("e", 2, ".png by plates-1")):
        with pytest.raises(DataError, match=rf"{images} of 3 test images .* another model, .*{version}"):
            _evaluate(scored_set, model_digest=digest * 16)
    with pytest.raises(DataError, match=r"made with model plates-0, plates-1, but .* digest f+…; name"):
        _evaluate(scored_set, model_digest="f" * 16)


def test_runs_that_were_taken_over_are_named(scored_set: ScoredSet) -> None:
    _two_images(scored_set, None)
    scored_set.commit({"run_ids": ["run-0", "run-1"]})
    settings = EvaluationSettings(bootstrap=0)
    found = evaluate(scored_set.manifest, scored_set.scores, settings, TileSettings())
    assert found.provenance.run_ids == ("run-0", "run-1")


def test_a_manifest_without_images_has_nothing_to_evaluate(scored_set: ScoredSet) -> None:
    pq.write_table(schema.MANIFEST.empty_table(), scored_set.manifest)
    with pytest.raises(DataError, match=r"manifest\.parquet holds no image: there is nothing to evaluate"):
        evaluate_model(scored_set.manifest, scored_set.scores, "model", "report", EvaluationSettings())


def test_a_test_image_that_is_listed_twice_is_named(scored_set: ScoredSet) -> None:
    _two_images(scored_set, None)
    scored_set.manifest_rows.append(scored_set.manifest_rows[1])
    with pytest.raises(DataError, match=r"anomalous\.png has several rows"):
        _evaluate(scored_set)


def test_a_score_that_is_not_finite_is_named(scored_set: ScoredSet) -> None:
    _two_images(scored_set, None).score_rows[0]["image_score"] = float("nan")
    with pytest.raises(DataError, match=r"normal\.png has a score that is not finite"):
        _evaluate(scored_set)


def test_a_map_cut_short_is_named(scored_set: ScoredSet) -> None:
    _two_images(scored_set, None)
    scored_set.keep_map(scored_set.manifest_rows[0]["image_id"], np.ones((4, 4)), SIZE)
    scored_set.map_rows[0]["map_width"] = 5
    with pytest.raises(DataError, match="has 16 values, expected 4 x 5"):
        _evaluate(scored_set)


def test_what_is_no_manifest_is_named(scored_set: ScoredSet, tmp_path: Path) -> None:
    _two_images(scored_set, None).commit()
    settings = (EvaluationSettings(), TileSettings())
    (tmp_path / "text.parquet").write_text("no table")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"text\.parquet: cannot be read as Parquet"):
        evaluate(str(tmp_path / "text.parquet"), scored_set.scores, *settings)
    with pytest.raises(DataError, match=r"found no \.parquet file"):
        evaluate(str(tmp_path / "empty"), scored_set.scores, *settings)
    with pytest.raises(DataError, match="found no column defect_type, label"):
        evaluate(f"{scored_set.scores}/maps/part-run-1.parquet", scored_set.scores, *settings)
    with pytest.raises(StorageError, match="no such file"):
        evaluate(str(tmp_path / "absent.parquet"), scored_set.scores, *settings)


def test_a_manifest_may_be_a_folder(scored_set: ScoredSet, tmp_path: Path) -> None:
    _two_images(scored_set, None).commit()
    folder = tmp_path / "manifest"
    folder.mkdir()
    Path(scored_set.manifest).rename(folder / "part-0.parquet")
    found = evaluate(str(folder), scored_set.scores, EvaluationSettings(bootstrap=0), TileSettings())
    assert found.overall.image_auroc.value == 1.0
    assert found.overall.image_auroc.low is None


NAMES = ["all", "(all)", "unnamed", "overall", "normal", "good", "a, b", "two\nlines", "<b>bold</b>", "Größe"]


def _one_of_each(scored_set: ScoredSet) -> Evaluation:
    """Anomalous images of odd defect types, and one without any, under a normal one."""
    scored_set.score(scored_set.list_image("good.png", "normal"), 1.0, SIZE, HALVES, [1.0, 2.0])
    for number, name in enumerate([*NAMES, None, ""]):
        image_id = scored_set.list_image(f"{number}.png", "anomalous", defect_type=name)
        scored_set.score(image_id, 2.0 + number, SIZE, HALVES, [1.0, 2.0])
    return _evaluate(scored_set)


def test_defect_types_of_any_name_stand_beside_the_overall_metrics(scored_set: ScoredSet) -> None:
    found = _one_of_each(scored_set)
    sizes = {kind: metrics.anomalous_images for kind, metrics in found.by_defect_type.items()}
    assert sizes == dict.fromkeys(NAMES, 1) | {"(unnamed)": 2}
    lines = metrics_table(found).splitlines()
    assert len(lines) == 2 + len(sizes)
    assert lines[1].startswith("((all)) ")
    assert {line[:13].strip() for line in lines[2:]} == {name.replace("\n", "\\n") for name in sizes}
    assert set(json.loads(to_json(found))["slices"]["defect_type"]) == set(sizes)


def test_the_page_shows_defect_types_of_any_name(scored_set: ScoredSet, tmp_path: Path) -> None:
    render(_one_of_each(scored_set), None, {}, str(tmp_path / "report.html"))
    html = (tmp_path / "report.html").read_text()
    for name in ("((all))", "(all)", ">all<", "(unnamed)", "&lt;b&gt;bold", "a, b", "Größe"):
        assert name in html
    assert "<b>bold" not in html


def test_pixels_of_a_type_called_unnamed_are_its_own(scored_set: ScoredSet) -> None:
    for number, (name, side) in enumerate([("unnamed", 8), (None, 16)]):
        mask_uri = _write_mask(scored_set, f"mask-{number}.png", (slice(side), slice(side)))
        image_id = scored_set.list_image(f"{number}.png", "anomalous", defect_type=name, mask_uri=mask_uri)
        scored_set.score(image_id, 2.0, SIZE, HALVES, [1.0, 2.0])
        values = np.zeros((4, 4))
        values[0, 0] = 1
        scored_set.keep_map(image_id, values, SIZE)
    found = {kind: part.pixel_auroc.value for kind, part in _evaluate(scored_set).by_defect_type.items()}
    assert found["unnamed"] > 0.99 > found["(unnamed)"]
