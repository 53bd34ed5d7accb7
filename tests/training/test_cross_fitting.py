"""Folds: who is scored by whom, and that nobody is scored by a model that has learnt from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from raysvq.data.index import build_index
from raysvq.errors import DataError
from raysvq.model.card import LabelGain
from raysvq.model.scorer import ImageScorer
from raysvq.runtime.cluster import connect
from raysvq.schema import ANOMALOUS, NORMAL
from raysvq.settings import RaySettings, Settings
from raysvq.training import cross_fitting
from raysvq.training.cross_fitting import (
    LEARNT,
    FoldData,
    cross_fit,
    cut_folds,
    fold_data,
    label_gain,
    score_fold,
    train_without,
)
from raysvq.training.data_loading import Tiles
from raysvq.training.in_process import train_codebook, train_in_process
from raysvq.training.shuffling import in_memory
from raysvq.training.validation import ValidationImage, labelled_images
from tests.stripes import write_stripes

Build = Callable[..., Settings]


def _quiet(line: str) -> None:
    """Nobody listens."""


@pytest.fixture
def settings(small: Build) -> Settings:
    return small(
        tiles={"size": 64, "mode": "whole"},
        model={"encoder": "features"},
        split={"outliers": 4},
        training={"steps": 12, "validate_every": 6, "positions_per_tile": 20, "outlier_copies": 1},
    )


@pytest.fixture
def manifest(tmp_path: Path, settings: Settings) -> str:
    made = str(tmp_path / "manifest.parquet")
    build_index(write_stripes(tmp_path / "tree"), made, settings.split)
    return made


def _images(manifest: str) -> list[ValidationImage]:
    return [one for label in (NORMAL, ANOMALOUS) for one in labelled_images(manifest, LEARNT, label, None)]


@pytest.fixture
def data(manifest: str, settings: Settings) -> FoldData:
    return fold_data(manifest, _images(manifest), settings, _quiet, lambda part: part())


def _named(
    normal: int, anomalous: int, unit: Callable[[int], str | None] = lambda _: None
) -> list[ValidationImage]:
    return [
        ValidationImage(f"/{number}", number >= normal, image_id=f"{number:03}", unit=unit(number))
        for number in range(normal + anomalous)
    ]


def test_folds_are_even_stratified_and_the_same_every_time() -> None:
    images = _named(23, 7)
    folds = cut_folds(images, 5, 0)
    assert folds == cut_folds(images[::-1], 5, 0)
    assert folds.of != cut_folds(images, 5, 1).of
    sizes = Counter((folds.of[one.image_id], one.anomalous) for one in images)
    assert sorted(sizes[fold, False] for fold in range(5)) == [4, 4, 5, 5, 5]
    assert sorted(sizes[fold, True] for fold in range(5)) == [1, 1, 1, 2, 2]


def test_a_unit_stays_whole_and_with_an_outlier_counts_as_one() -> None:
    images = _named(20, 3, lambda number: f"part {number % 8}")
    folds = cut_folds(images, 4, 0)
    assert all(len({folds.of[f"{n:03}"] for n in range(part, 23, 8)}) == 1 for part in range(8))
    assert sorted(folds.of[f"{part:03}"] for part in (4, 5, 6)) == [0, 1, 2]  # parts of images 20, 21, 22
    assert folds.units["009"] == "part 1"


def test_there_are_no_more_folds_than_normal_units() -> None:
    assert cut_folds(_named(3, 9), 5, 0).number == 3


def test_the_only_outlier_is_learnt_by_all_and_scored_by_none() -> None:
    folds = cut_folds(_named(6, 1), 3, 0)
    assert folds.of["006"] not in range(3)


def test_one_unit_cannot_be_folded() -> None:
    with pytest.raises(DataError, match=r"decision\.folds.*found 1 unit.*expected at least 2"):
        cut_folds(_named(5, 2, lambda number: "all" if number < 5 else None), 5, 0)


def _scores(found: list[dict[str, object]]) -> dict[object, object]:
    return {row["image_id"]: row["score"] for row in found}


def test_every_image_is_scored_once_by_a_model_that_has_not_seen_it(
    manifest: str, settings: Settings, data: FoldData
) -> None:
    images = _images(manifest)
    folds = cut_folds(images, 3, 0)
    found = [score_fold(fold, folds, data, settings).to_pylist() for fold in range(3)]
    assert sorted(row["image_id"] for part in found for row in part) == sorted(one.image_id for one in images)
    anomalous = {one.image_id for one in images if one.anomalous}
    assert all((len(row["cells"]) == 0) == (row["image_id"] in anomalous) for part in found for row in part)
    # A normal image of the fold is exchanged: no other score changes.
    first = next(item for part in data.items for item in part if folds.of[item.image.image_id] == 0)
    assert first.features is not None
    other = replace(first, features=first.features * np.float16(1.5))
    items = [[other if item is first else item for item in part] for part in data.items]
    again = _scores(score_fold(0, folds, replace(data, items=items), settings).to_pylist())
    before = _scores(found[0])
    assert {one for one in before if before[one] != again[one]} == {first.image.image_id}


def test_outliers_of_a_fold_do_not_train_it(manifest: str, settings: Settings, data: FoldData) -> None:
    images = _images(manifest)
    held = {one.image_id for one in images if one.anomalous}
    folds = cut_folds(images, 2, 0)
    without = replace(folds, of=folds.of | dict.fromkeys(held, 0))
    unlabelled = replace(data, outlier=None)
    assert score_fold(0, without, data, settings) == score_fold(0, without, unlabelled, settings)
    assert score_fold(1, without, data, settings) != score_fold(1, without, unlabelled, settings)


def test_the_codebook_alone_comes_out_as_of_a_whole_training(
    manifest: str, settings: Settings, data: FoldData
) -> None:
    items = [item for part in data.items for item in part if not item.image.anomalous]
    columns = {"features": np.stack([item.features for item in items])}
    alone = train_codebook(settings, Tiles(in_memory(columns), None, True))
    validation = {"anomalous": [False], "auroc": None, "unreadable": []}
    whole, _ = train_in_process(settings, columns, None, lambda _: validation, progress=None)
    for item in items:
        one, other = (item.score(ImageScorer(model, settings, settings.scoring)) for model in (alone, whole))
        assert one.image_score == other.image_score
        assert np.array_equal(one.anomaly_map, other.anomaly_map)


def test_normal_images_that_nobody_verified_may_be_left_out(
    manifest: str, settings: Settings, data: FoldData
) -> None:
    training = settings.training.model_copy(update={"verified": False})
    folds = cut_folds(_images(manifest), 2, 0)
    alone = replace(data, outlier=None)

    def deviations(trim: float) -> np.ndarray:
        objective = settings.objective.model_copy(update={"trim": trim})
        changed = settings.model_copy(update={"training": training, "objective": objective})
        return train_without(0, folds, alone, changed).state_dict()["deviations"].numpy()

    kept = train_without(0, folds, alone, settings).state_dict()["deviations"].numpy()
    np.testing.assert_allclose(deviations(0.0), kept)
    assert not np.allclose(deviations(0.4), kept)


def test_a_run_that_is_started_again_trains_no_fold_twice(
    manifest: str, settings: Settings, small_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    capacity, folder = connect(RaySettings()), str(tmp_path / "folds")
    found = cross_fit(manifest, settings, 3, capacity, folder, _quiet)
    assert sorted(found["image_ids"]) == sorted(one.image_id for one in _images(manifest))
    assert found["auroc"] is not None
    trained: list[int] = []
    Path(folder, "fold-1.parquet").unlink()
    monkeypatch.setattr(cross_fitting, "_score_folds", lambda missing, *_: trained.extend(missing))
    with pytest.raises(FileNotFoundError):
        cross_fit(manifest, settings, 3, capacity, folder, _quiet)
    assert trained == [1]
    monkeypatch.undo()
    assert cross_fit(manifest, settings, 3, capacity, folder, _quiet) == found
    assert pq.read_table(Path(folder, "fold-1.parquet")).num_rows > 0


def test_the_gain_of_labels_is_between_two_scores_of_the_same_images(
    manifest: str, settings: Settings, data: FoldData
) -> None:
    folds = cut_folds(_images(manifest), 3, 0)
    rows = score_fold(0, folds, data, settings).to_pylist()
    assert all(row["score_without_labels"] <= row["score"] for row in rows)
    assert any(row["score_without_labels"] < row["score"] for row in rows)
    unlabelled = replace(data, outlier=None)
    rows = score_fold(0, folds, unlabelled, settings).to_pylist()
    assert {row["score_without_labels"] for row in rows} == {None}


def test_the_gain_counts_images_of_models_that_learnt_from_labels() -> None:
    scored = [(False, 1.0), (False, 3.0), (True, 2.0), (True, 4.0), (False, 9.0)]
    gain = label_gain(scored, [1.0, 2.0, 2.5, 2.5, None], 3)
    assert gain == LabelGain(without=1.0, with_labels=0.75, anomalous=2, normal=2, folds=3)
    assert label_gain(scored, [1.0, 2.0, None, None, None], 3) is None
