"""Figures on images that a model has not learnt from, and the card of a model that was really trained."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from raysvq.data.index import build_index
from raysvq.data.training_set import HeldOutlier
from raysvq.evaluation.metrics import image_auroc
from raysvq.model.bundle import Bundle, load_bundle, save_bundle
from raysvq.model.card import make_card
from raysvq.sample import write_sample
from raysvq.settings import EvaluationSettings, Settings, load_settings
from raysvq.training.export import export_bundle
from raysvq.training.held_out import MAX_OUTLIERS, held_out, hint_at_resolution, images_seen
from raysvq.training.in_process import train_in_process
from raysvq.training.plan import require_trainable
from raysvq.training.validation import validate, validation_images
from raysvq.tuning.trial_data import prepare
from raysvq.tuning.trial_metrics import IMAGE_AUROC


def _outcome(scores: list[float], anomalous: list[bool], **more: Any) -> dict[str, Any]:
    names = [f"{number:03}" for number in range(len(scores))]
    made = {"image_ids": names, "image_scores": scores, "anomalous": anomalous, "units": names}
    return made | {"groups": [None] * len(scores), "masks": [None] * len(scores)} | more


def _mask(path: Path, marks: list[tuple[slice, slice]]) -> str:
    pixels = np.zeros((20, 30), np.uint8)
    for rows, columns in marks:
        pixels[rows, columns] = 255
    cv2.imwrite(str(path), pixels)
    return str(path)


def test_the_interval_holds_the_auroc_and_is_wide_where_few_were_scored() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for number in (10, 200):
        labels = [False] * number + [True] * number
        scores = np.concatenate([rng.normal(0, 1, number), rng.normal(1, 1, number)])
        found = held_out(_outcome(scores.tolist(), labels), EvaluationSettings())
        low, high = found["auroc_interval"]
        assert low < (image_auroc(np.array(labels), scores) or 0) < high
        assert found["confidence"] == 0.95
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


@pytest.mark.parametrize("anomalous", [[False] * 3, [False, False, True]])
def test_without_outliers_or_with_one_there_is_no_interval(anomalous: list[bool]) -> None:
    found = held_out(_outcome([1.0, 2.0, 3.0], anomalous), EvaluationSettings())
    assert found["auroc_interval"] is None
    assert len(found["outliers"]) == sum(anomalous)


def test_outliers_have_score_group_and_largest_defect(tmp_path: Path) -> None:
    two = _mask(tmp_path / "two.png", [(slice(0, 2), slice(0, 2)), (slice(8, 11), slice(8, 13))])
    none, broken = _mask(tmp_path / "none.png", []), tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    masks = [None, two, none, str(broken), str(tmp_path / "gone.png"), None]
    outcome = _outcome([float(n) for n in range(6)], [False] + [True] * 5, masks=masks)
    outcome["groups"] = [None, "left", *[None] * 4]
    found = [HeldOutlier.of(one) for one in held_out(outcome, EvaluationSettings())["outliers"]]
    assert found[0] == HeldOutlier(1.0, "left", 15, (30, 20))
    assert found[1:] == [HeldOutlier(float(number), None) for number in range(2, 6)]


def test_of_many_outliers_some_are_kept_and_a_checkpoint_without_masks_is_read() -> None:
    outcome = _outcome([1.0] * 400, [False] * 100 + [True] * 300)
    del outcome["masks"]
    assert len(held_out(outcome, EvaluationSettings(bootstrap=0))["outliers"]) == MAX_OUTLIERS


def test_sizes_are_ordered_by_area_and_images_without_warmth_are_grey() -> None:
    sizes = [(10, 40), (5, 5), (100, 100), (30, 30)]
    looks = [{"width": w, "height": h, "warmth": None if w == 5 else 0.1} for w, h in sizes]
    seen = images_seen({"reference": looks})
    assert seen is not None
    assert (seen.images, seen.grey) == (4, 1)
    assert (seen.smallest, seen.median, seen.largest) == ((5, 5), (10, 40), (100, 100))
    assert images_seen({"reference": []}) is None
    assert images_seen({}) is None


@pytest.fixture
def trained(small: Callable[..., Settings], tmp_path: Path) -> Bundle:
    """A small network, trained on the sample in this process."""
    settings = small(
        split={"outliers": 10},
        tiles={"size": 32, "anomalous_fraction": 0.01},
        training={"steps": 6, "validate_every": 6},
        evaluation={"bootstrap": 50},
    )
    manifest = str(tmp_path / "manifest.parquet")
    build_index(write_sample(tmp_path / "sample", seed=1, normal=16, anomalous=14), manifest, settings.split)
    summary, images = require_trainable(manifest, settings)
    data = prepare(manifest, settings, IMAGE_AUROC, lambda _: None, lambda part: part())
    model, state = train_in_process(
        settings, data.tiles(), None, partial(validate, images=images), progress=None
    )
    return export_bundle(model, settings, state, state.history, summary)


def test_the_card_of_a_trained_model_has_its_numbers(trained: Bundle, tmp_path: Path) -> None:
    save_bundle(trained, str(tmp_path / "model"))
    loaded = load_bundle(str(tmp_path / "model"))
    assert loaded.training == trained.training
    assert loaded.reference == trained.reference
    assert make_card(loaded) == make_card(trained)
    text = (tmp_path / "model" / "card.md").read_text()
    found, data = trained.reference.validation, trained.training["data"]
    assert f"**normal images:** {trained.training['normals']}\n" in text
    assert f"{found['normal']} normal and {found['anomalous']} anomalous" in text
    assert f"**image AUROC:** {found['auroc']:.3f}" in text
    assert len(found["outliers"]) == found["anomalous"] > 0
    assert all(one["pixels"] > 0 for one in found["outliers"])
    recall = sum(trained.decisions.decide(one["score"]).is_anomalous for one in found["outliers"])
    assert f"{recall} of {len(found['outliers'])} labelled outliers" in text
    assert trained.decisions.promise.sentence in text
    assert set(data["places"]) >= {"camera"}
    assert all(f"`{camera}`" in text for camera in data["places"]["camera"])
    assert data["first"] is not None
    assert data["test"]["normal"] > 0
    images = validation_images(trained.training["manifest"], 99)
    shapes = {cv2.imread(one.uri).shape[:2] for one in images if not one.anomalous}
    seen = trained.training["images_seen"]
    assert {tuple(seen[name][::-1]) for name in ("smallest", "largest")} <= shapes


def test_masks_of_small_defects_bring_a_hint_that_names_the_finer_configuration(tmp_path: Path) -> None:
    uris: list[str | None] = [None, str(tmp_path / "missing.png")]
    for side in (4, 40):
        mask = np.zeros((512, 512), np.uint8)
        mask[:side, :side] = 255
        uris.append(str(tmp_path / f"{side}.png"))
        assert cv2.imwrite(str(uris[-1]), mask)
    whole = load_settings("features")
    hint = hint_at_resolution(uris[:3], whole)
    assert hint is not None
    assert hint.startswith("hint: 1 of 1 defects")
    assert "features-tiles" in hint
    assert hint_at_resolution(uris[3:], whole) is None
    assert hint_at_resolution(uris, load_settings("features-tiles")) is None
