"""Evaluation with the model at hand: encodings and codes in the report."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from markupsafe import escape

from devtools.untrained import untrained_bundle
from raysvq import storage
from raysvq.decisions import CalibrationScores, fit_decisions
from raysvq.evaluate_model import evaluate_model, result_text
from raysvq.model.bundle import load_bundle, save_bundle
from raysvq.settings import DecisionSettings, EvaluationSettings, Settings
from tests.evaluation.conftest import ScoredSet, fill_with_plates
from tests.report.evaluations import evaluation, records

SECTION = "What the model sees"


def _report(scored: ScoredSet, settings: Settings, latent_images: int = 8) -> str:
    """The page of an evaluation of an untrained model, with the scores of plates."""
    curves = {"history": [], "codebook_usage": [0.0]}
    bundle = replace(untrained_bundle(settings, threshold=3.0), history=curves)
    model = str(scored.root / "model")
    save_bundle(bundle, model)
    for row in scored.score_rows:
        row["model_digest"] = bundle.model_digest
    scored.commit({"model_digest": bundle.model_digest})
    evaluation = EvaluationSettings(bootstrap=0, gallery=1, latent_images=latent_images)
    _, report = evaluate_model(scored.manifest, scored.scores, model, str(scored.root / "report"), evaluation)
    return Path(report).read_text()


@pytest.fixture
def plates(tmp_path: Path) -> ScoredSet:
    return fill_with_plates(ScoredSet(tmp_path), normal=5, anomalous=5, size=(64, 72))


def test_the_report_shows_encodings_of_as_many_images_as_asked(
    plates: ScoredSet, small: Callable[..., Settings]
) -> None:
    html = _report(plates, small())
    assert "Encodings of 4 normal and 4 anomalous test images" in html
    assert "Codes that normal positions use most" in html


def test_without_latent_images_the_section_is_left_out(
    plates: ScoredSet, small: Callable[..., Settings]
) -> None:
    assert SECTION not in _report(plates, small(), latent_images=0)


def test_an_image_that_is_gone_is_named_in_the_section(
    plates: ScoredSet, small: Callable[..., Settings]
) -> None:
    gone = plates.manifest_rows[0]["uri"]
    Path(gone).unlink()
    html = _report(plates, small(), latent_images=10)
    assert "Encodings of 4 normal and 5 anomalous test images" in html
    _, _, section = html.partition(SECTION)
    assert f'<bdi class="mono">{gone}</bdi> cannot be read' in section


def test_images_and_masks_on_an_object_store(
    plates: ScoredSet, small: Callable[..., Settings], s3: str
) -> None:
    """The images are uploaded after they were scored, as the local files whose scores are the same."""
    for row in plates.manifest_rows:
        for name in ("uri", "mask_uri"):
            if row[name]:
                there = f"{s3}/plates/{Path(row[name]).name}"
                storage.write_bytes(there, Path(row[name]).read_bytes())
                row[name] = there
        [info] = storage.file_infos([row["uri"]])
        assert info is not None
        version = {"size_bytes": info.size_bytes, "etag": info.etag, "mtime": info.mtime}
        row |= version
        [scored] = [scored for scored in plates.score_rows if scored["image_id"] == row["image_id"]]
        scored |= {"uri": row["uri"], **version}
    html = _report(plates, small(), latent_images=10)
    assert "Encodings of 5 normal and 5 anomalous test images" in html
    assert "Left out of this section" not in html


def test_names_in_printed_notes_do_not_reach_the_terminal_as_they_are() -> None:
    note = "Column \x1b[2J has 21 values, more than 20: no metrics by its values."
    printed = result_text(evaluation(records(20, 10), notes=(note,)))
    assert "\x1b" not in printed
    assert r"Column \x1b[2J has 21 values" in printed


def test_what_is_printed_what_is_stored_and_what_the_page_shows_is_one_sentence(
    plates: ScoredSet, small: Callable[..., Settings]
) -> None:
    scores = np.linspace(0.5, 1.5, 19).astype(np.float32)
    calibration = CalibrationScores(scores, np.zeros(19, bool), (None,) * 19, tuple(map(str, range(19))))
    fitted = fit_decisions(calibration, DecisionSettings(max_false_alarm_rate=0.05), 1.5, {})
    curves = {"history": [], "codebook_usage": [0.0]}
    bundle = replace(untrained_bundle(small(), threshold=3.0), decisions=fitted, history=curves)
    model, report = str(plates.root / "model"), plates.root / "report"
    save_bundle(bundle, model)
    bundle = load_bundle(model)
    for row in plates.score_rows:
        row |= {"model_digest": bundle.model_digest, "decisions_digest": bundle.decisions.digest}
        row["is_anomalous"] = True
    plates.commit({"model_digest": bundle.model_digest})
    settings = EvaluationSettings(bootstrap=0, gallery=1, latent_images=0)
    found, _ = evaluate_model(plates.manifest, plates.scores, model, str(report), settings)
    assert found.outcome is not None
    assert found.outcome.judgement == "broken"
    said = found.outcome.sentence
    assert f"outcome: {said}" in result_text(found).splitlines()
    stored = json.loads((report / "evaluation.json").read_text())["outcome"]
    assert (stored["sentence"], stored["judgement"]) == (said, "broken")
    page = (report / "report.html").read_text()
    assert page.count(str(escape(said))) == 2
    assert "Promise broken" in page
