from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from raysvq.evaluation.evaluate import evaluate
from raysvq.evaluation.result import Evaluation
from raysvq.report.evaluation import render
from raysvq.settings import EvaluationSettings, TileSettings
from tests.report.evaluations import evaluation, record, records
from tests.report.parsed import ParsedPage

if TYPE_CHECKING:
    from tests.evaluation.conftest import ScoredSet

SUMMARY = {"data": "plates", "created_at": "2025-03-04", "training": {"steps": 1500, "gamma": None}}
HOSTILE = [
    "</script><script>alert(1)</script>.png",
    "\"quotes'&amp;<img src=x onerror=alert(2)>.png",
    "שלום \u202egnp.exe.png",
    "scratch \U0001f527\u2028 --> ]]>.png",
]
Plates = Callable[..., "ScoredSet"]


def training_history(outliers: bool = True) -> dict[str, Any]:
    rows = []
    for step in range(50, 1501, 50):
        fade = math.exp(-step / 300)
        row = {
            "step": step,
            "loss": 0.05 + 2 * fade,
            "normal": 0.04 + 1.5 * fade,
            "codes_used": 512 - int(400 * fade),
        }
        row |= {
            "reconstruction": 0.02 + fade,
            "commitment": 0.01 + 0.3 * fade,
            "perplexity": 380 * (1 - fade),
        }
        row |= {"outlier": 0.1 + fade if outliers else None}
        row |= {"validation_auroc": 0.93 - 0.4 * fade if outliers and step % 250 == 0 else None}
        rows.append(row)
    return {"history": rows, "codebook_usage": [int(900 * math.exp(-code / 120)) for code in range(512)]}


def _render(scored_set: ScoredSet, history: dict[str, Any] | None = None, gallery: int = 12) -> str:
    scored_set.commit()
    settings = EvaluationSettings(bootstrap=50, gallery=gallery)
    found = evaluate(scored_set.manifest, scored_set.scores, settings, TileSettings(size=32))
    return _write(found, scored_set, history)


def _write(found: Evaluation, scored_set: ScoredSet, history: dict[str, Any] | None = None) -> str:
    """The page of an evaluation, with the scores of a set that is committed here if it is not yet."""
    if not Path(scored_set.scores).exists():
        scored_set.commit()
    found = replace(found, provenance=replace(found.provenance, scores=scored_set.scores))
    out = scored_set.root / "report.html"
    render(found, history, SUMMARY, str(out))
    return out.read_text()


def test_the_page_shows_metrics_pictures_and_provenance(plates: Plates) -> None:
    html = _render(plates(), training_history())
    page = ParsedPage(html)
    assert all(svg.get("aria-label") or svg.get("aria-hidden") for svg in page.of("svg"))
    pictures = page.data["pictures"].values()
    assert len(pictures) == 12
    for picture in pictures:
        assert picture["image"].startswith("data:image/webp;base64,")
        assert picture["heat"].startswith("data:image/webp;base64,")
        assert (picture["w"], picture["h"]) == (136, 120)
    assert sum("mask" in picture for picture in pictures) == 6
    for text in ("plates-1", "scratch", "pit", "run-1", "d" * 16, "1500", "Codebook usage"):
        assert text in html
    assert all("scope" in header for header in page.of("th"))


def test_the_page_needs_nothing_beside_it(plates: Plates) -> None:
    html = _render(plates(), training_history())
    page = ParsedPage(html)
    for tag, attributes in page.elements:
        for name in ("src", "href", "srcset", "action"):
            assert (attributes.get(name) or "data:").startswith(("data:", "#")), (tag, attributes)
    assert "url(" not in html
    assert "@import" not in html
    assert "fetch(" not in html
    policy = next(meta["content"] for meta in page.of("meta") if "http-equiv" in meta)
    assert policy is not None
    assert policy.startswith("default-src 'none'")


@pytest.mark.parametrize("name", HOSTILE)
def test_names_of_files_and_columns_are_text_not_markup(name: str, scored_set: ScoredSet) -> None:
    images = [
        record(name, 4.0, anomalous=True, defect_type=name, group=name, meta={name: name, "line": "1"}),
        record("other.png", 1.0, meta={name: "b"}),
    ]
    page = ParsedPage(_write(evaluation(images), scored_set))
    assert page.data["prefix"] + page.data["names"][0] == f"/parts/{name}"
    assert {name} == {value for column in page.data["columns"][:2] for value in column["values"]}
    assert len(page.of("script")) == 2
    assert not [image for image in page.of("img") if "onerror" in image]
    assert not {"<", ">", "&", "\u2028"} & set(page.scripts[0])


def test_what_is_missing_is_said(scored_set: ScoredSet) -> None:
    image_id = scored_set.list_image("gone.png", "normal")
    scored_set.score(image_id, 1.0, (32, 32), [(0, 0, 32, 32)], [1.0])
    scored_set.reject(scored_set.list_image("cut.png", "normal"), "corrupt", "PNG: cut off")
    html = _render(scored_set)
    assert "cannot be read any more" in ParsedPage(html).data["pictures"]["0"]["problem"]
    for text in ("no defective image was tested", "No model bundle was given", "PNG: cut off", "No promise"):
        assert text in html


@pytest.mark.parametrize(("normal", "anomalous"), [(0, 0), (1, 0), (0, 1), (30, 0), (0, 30)])
def test_a_page_is_made_of_any_mix_of_images(normal: int, anomalous: int, scored_set: ScoredSet) -> None:
    html = _write(evaluation(records(normal, anomalous)), scored_set)
    assert f"{normal + anomalous} of" not in html or normal + anomalous
    if normal + anomalous:
        assert len(ParsedPage(html).data["names"]) == normal + anomalous
    else:
        assert "No labelled test image was scored, so there is nothing to measure" in html
        assert not ParsedPage(html).scripts


def test_images_with_thresholds_of_their_own_are_compared_by_score_over_threshold(
    scored_set: ScoredSet,
) -> None:
    images = [record("a.png", 2.0), record("b.png", 8.0, threshold=9.0, flagged=False, margin=-1 / 9)]
    data = ParsedPage(html := _write(evaluation(images), scored_set)).data
    assert data["threshold"] is None
    assert data["thresholds"] == [3.0, 9.0]
    assert data["scale"]["low"] < 2 / 3 < 1 < data["scale"]["high"]
    assert "the image's own threshold" in html.replace("&#39;", "'")


def test_of_thresholds_of_their_own_the_page_says_what_the_rows_and_the_point_are(
    scored_set: ScoredSet,
) -> None:
    images = [replace(image, threshold=2.0 + place % 2) for place, image in enumerate(records(30, 12))]
    scored_set.commit()
    found = evaluation(images)
    found = replace(found, provenance=replace(found.provenance, scores=scored_set.scores))
    out = scored_set.root / "report.html"
    render(found, None, {}, str(out))
    html = out.read_text()
    assert "Multiples of the images' own thresholds: false alarms" in html
    assert "at the images&#39; own thresholds" in html
    assert "which the model does not use" not in html


def test_a_page_of_10_000_images_grows_by_their_rows_not_by_their_pictures(scored_set: ScoredSet) -> None:
    few = _write(evaluation(records(180, 20), gallery=100), scored_set)
    many = _write(evaluation(records(9800, 200), gallery=100), scored_set)
    data = ParsedPage(many).data
    assert len(data["names"]) == len(data["scores"]) == len(data["bad"]) == 10_000
    assert len(data["pictures"]) == 100
    assert "without a picture" in many
    assert (len(many) - len(few)) / 9_800 < 120  # characters for each further image


def test_an_empty_history_is_said(scored_set: ScoredSet) -> None:
    html = _render(scored_set, {"history": [], "codebook_usage": [0, 0]})
    assert "training history is empty" in html


def test_a_training_without_outliers_has_no_auroc_curve(plates: Plates) -> None:
    html = _render(plates(), training_history(outliers=False))
    assert "Validation AUROC" not in html
    assert "labelled outliers" not in html


def test_an_image_overwritten_since_it_was_scored_is_not_shown(scored_set: ScoredSet) -> None:
    image = np.zeros((32, 32, 3), np.uint8)
    path = scored_set.root / "a.bmp"
    cv2.imwrite(str(path), image)
    os.utime(path, (0, 0))
    image_id = scored_set.list_image("a.bmp", "normal")
    scored_set.score(image_id, 1.0, (32, 32), [(0, 0, 32, 32)], [1.0])
    cv2.imwrite(str(path), image + 255)
    [picture] = ParsedPage(_render(scored_set)).data["pictures"].values()
    assert re.match(r"has changed since it was scored \(changed 20", picture["problem"])
