from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from raysvq.evaluation.evaluate import evaluate
from raysvq.report.evaluation import render
from raysvq.settings import EvaluationSettings, TileSettings

if TYPE_CHECKING:
    from conftest import ScoredSet

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SUMMARY = {"data": "plates", "created_at": "2025-03-04", "training": {"steps": 1500, "gamma": None}}
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


class _Page(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def _render(scored_set: ScoredSet, history: dict[str, Any] | None = None, gallery: int = 4) -> str:
    scored_set.commit()
    settings = EvaluationSettings(bootstrap=50, gallery=gallery)
    found = evaluate(scored_set.manifest, scored_set.scores, settings, TileSettings(size=32))
    out = scored_set.root / "report.html"
    render(found, history, SUMMARY, str(out))
    return out.read_text()


def test_the_page_shows_metrics_pictures_and_provenance(plates: Plates) -> None:
    html = _render(plates(), training_history())
    page = _Page(html)
    assert len(page.of("svg")) == 6
    assert all(svg["aria-label"] for svg in page.of("svg"))
    images = page.of("img")
    assert len(images) == 12 * 2 + sum("mask" in (image["alt"] or "") for image in images)
    assert all(image["alt"] and (image["src"] or "").startswith("data:image/jpeg") for image in images)
    for text in ("plates-1", "scratch", "pit", "run-1", "d" * 16, "1500", "Codebook usage", "threshold 3"):
        assert text in html
    assert all("scope" in header for header in page.of("th"))


def test_the_page_needs_nothing_beside_it(plates: Plates) -> None:
    html = _render(plates(), training_history(), gallery=8)
    for tag, attributes in _Page(html).elements:
        for name in ("src", "href", "srcset", "action"):
            assert (attributes.get(name) or "data:").startswith("data:"), (tag, attributes)
    assert "url(" not in html
    assert "@import" not in html
    assert len(html) < 4_000_000


def test_names_of_files_are_text_not_markup(scored_set: ScoredSet) -> None:
    image_id = scored_set.list_image("<script>alert(1)</script>.png", "normal")
    scored_set.score(image_id, 1.0, (32, 32), [(0, 0, 32, 32)], [1.0])
    html = _render(scored_set)
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)" in html


def test_what_is_missing_is_said(scored_set: ScoredSet) -> None:
    image_id = scored_set.list_image("gone.png", "normal")
    scored_set.score(image_id, 1.0, (32, 32), [(0, 0, 32, 32)], [1.0])
    scored_set.reject(scored_set.list_image("cut.png", "normal"), "corrupt", "PNG: cut off")
    html = _render(scored_set)
    for text in (
        "no anomalous test image was scored",
        "No model bundle was given",
        "cannot be read any more",
        "no map kept",
        "No anomalous test image to show.",
        "PNG: cut off",
    ):
        assert text in html


def test_an_empty_evaluation_still_makes_a_page(scored_set: ScoredSet) -> None:
    html = _render(scored_set, {"history": [], "codebook_usage": [0, 0]})
    assert "No labelled test image was scored, so there is nothing to measure." in html
    assert "training history is empty" in html


def test_a_training_without_outliers_has_no_auroc_curve(plates: Plates) -> None:
    html = _render(plates(), training_history(outliers=False))
    assert "Validation AUROC" not in html
    assert "labelled outliers" not in html


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH")
def test_a_browser_opens_it_without_complaint(plates: Plates, tmp_path: Path) -> None:
    _render(plates(), training_history())
    command = [
        str(CHROMIUM),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
    ]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--v=0", "--dump-dom"]
    done = subprocess.run(
        [*command, (tmp_path / "report.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert not [line for line in done.stderr.splitlines() if re.search(r":CONSOLE[:(]", line)]
    assert "How to read the metrics" in done.stdout
    assert len(_Page(done.stdout).of("svg")) == 6


def test_an_image_overwritten_since_it_was_scored_is_not_shown(scored_set: ScoredSet) -> None:
    image = np.zeros((32, 32, 3), np.uint8)
    path = scored_set.root / "a.bmp"
    cv2.imwrite(str(path), image)
    os.utime(path, (0, 0))
    image_id = scored_set.list_image("a.bmp", "normal")
    scored_set.score(image_id, 1.0, (32, 32), [(0, 0, 32, 32)], [1.0])
    cv2.imwrite(str(path), image + 255)
    assert "has changed since it was scored (changed 20" in _render(scored_set)
