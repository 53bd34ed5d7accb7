"""The card of a model where others show or change it: the report, and thresholds fitted anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from markupsafe import escape

from devtools.untrained import untrained_bundle
from raysvq.calibrate_model import calibrate_model
from raysvq.data.training_set import HeldOutlier, TrainingSet
from raysvq.evaluate_model import evaluate_model
from raysvq.model.bundle import Bundle, load_bundle, save_bundle
from raysvq.model.card import make_card, markdown
from raysvq.settings import EvaluationSettings, Settings, load_settings
from tests.evaluation.conftest import ScoredSet, fill_with_plates
from tests.report.parsed import ParsedPage

HOSTILE = "<script>alert(1)</script>`<b>"
SHOWN = ("trained_on", "held_out", "limits", "untested")


@pytest.fixture
def plates(tmp_path: Path) -> ScoredSet:
    return fill_with_plates(ScoredSet(tmp_path), normal=5, anomalous=5, size=(64, 72))


def _saved(plates: ScoredSet, settings: Settings) -> Bundle:
    """A model that flags from 3 on, with names that are no markup; its scores are those of the plates."""
    data = TrainingSet(1, 0, {HOSTILE: 2}, 2, places={"camera": {HOSTILE: 5}})
    made = untrained_bundle(settings, threshold=3.0)
    validation = {"normal": 5, "anomalous": 2, "auroc": 0.9, "auroc_interval": [0.8, 1.0], "confidence": 0.95}
    validation |= {"outliers": [HeldOutlier(score, None).plain() for score in (2.5, 7.5)]}
    bundle = replace(
        made,
        training={"normals": 5, "outliers": 2, "manifest": plates.manifest, "data": data.plain()},
        reference=replace(made.reference, validation=validation),
        history={"history": [], "codebook_usage": [0.0]},
    )
    save_bundle(bundle, str(plates.root / "model"))
    for row in plates.score_rows:
        row["model_digest"] = bundle.model_digest
    return bundle


def test_the_report_shows_the_card_and_names_as_text(
    plates: ScoredSet, small: Callable[..., Settings]
) -> None:
    bundle = _saved(plates, small())
    plates.commit({"model_digest": bundle.model_digest})
    settings = EvaluationSettings(bootstrap=0, gallery=1, latent_images=0)
    model, out = str(plates.root / "model"), str(plates.root / "report")
    _, report = evaluate_model(plates.manifest, plates.scores, model, out, settings)
    html = Path(report).read_text()
    assert ParsedPage(html).data
    section = html.partition('id="card-title"')[2].partition("</section>")[0]
    assert HOSTILE not in html
    assert section.count(f"<code>{escape(HOSTILE.replace('`', chr(39)))}</code>") >= 3
    card = make_card(bundle)
    for part in (getattr(card, name) for name in SHOWN):
        assert f"<h3>{part.title}</h3>" in section
        assert all(f"<dt>{line.name}</dt>" in section for line in part.lines)
    assert "1 of 2 labelled outliers" in section
    assert "{" not in section


def test_thresholds_that_are_fitted_anew_are_in_the_card(
    plates: ScoredSet, small: Callable[..., Settings]
) -> None:
    settings = small()
    bundle = _saved(plates, settings)
    for number, row in enumerate(plates.manifest_rows):
        row |= {"split": "validation", "group": f"part {number}"}
    plates.commit({"model_digest": bundle.model_digest})
    model = str(plates.root / "model")
    before = Path(model, "card.md").read_text()
    assert before == markdown(make_card(load_bundle(model)))
    assert "1 of 2 labelled outliers" in before
    given = load_settings(None, ["decision.policy=manual", "decision.threshold=2.25"])
    calibrate_model(model, plates.manifest, given, plates.scores)
    after = Path(model, "card.md").read_text()
    assert after == markdown(make_card(load_bundle(model)))
    assert "2 of 2 labelled outliers" in after
    assert "2.25, by `manual`" in after
    copy = str(plates.root / "copy")
    rate = load_settings(None, ["decision.policy=max_false_alarm_rate", "decision.max_false_alarm_rate=0.3"])
    calibrate_model(model, plates.manifest, rate, plates.scores, copy)
    assert Path(model, "card.md").read_text() == after
    assert load_bundle(copy).decisions.promise.sentence in Path(copy, "card.md").read_text()
