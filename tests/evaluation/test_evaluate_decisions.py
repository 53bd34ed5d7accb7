"""Evaluations with the decisions of the model: promise, outcome, defects found, operating points."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from raysvq.decisions import CalibrationScores, Decisions, fit_decisions, fixed_decisions
from raysvq.evaluate_model import result_text
from raysvq.evaluation.evaluate import evaluate
from raysvq.evaluation.result import Costs, Evaluation
from raysvq.settings import DecisionSettings, EvaluationSettings, TileSettings

if TYPE_CHECKING:
    from conftest import ScoredSet

SIZE = (32, 32)
COSTS = Costs(defect_rate=0.1, miss=50.0, false_alarm=2.0)
NEW = ["p_value", "margin", "policy", "decision_group", "decisions_digest"]


def _decisions(pixel_threshold: float = 2.0) -> Decisions:
    scores = np.linspace(1, 3, 99, dtype=np.float32)
    calibration = CalibrationScores(scores, np.zeros(99, bool), (None,) * 99, tuple(map(str, range(99))))
    return fit_decisions(calibration, DecisionSettings(max_false_alarm_rate=0.05), pixel_threshold, {})


def _add(
    scored_set: ScoredSet,
    name: str,
    score: float,
    decisions: Decisions,
    hot: list[tuple[int, int]],
    **listed: Any,
) -> None:
    """An image whose map is over the pixel threshold in some of its 4 x 4 cells."""
    label = "anomalous" if listed.get("mask_uri") or listed.pop("anomalous", False) else "normal"
    image_id = scored_set.list_image(name, label, **listed)
    decided = decisions.decide(score)
    scored_set.score(
        image_id,
        score,
        SIZE,
        [(0, 0, 32, 32)],
        [score],
        threshold=decided.threshold,
        is_anomalous=decided.is_anomalous,
        p_value=decided.p_value,
        margin=decided.margin,
        policy=decisions.policy,
        decisions_digest=decisions.digest,
        regions=[{"x": 8 * x, "y": 8 * y, "w": 8, "h": 8, "area": 64, "peak": 3.0} for y, x in hot],
    )
    values = np.ones((4, 4), np.float32)
    for cell in hot:
        values[cell] = 3
    scored_set.keep_map(image_id, values, SIZE)


def _mask(folder: Path, *marked: tuple[slice, slice]) -> str:
    mask = np.zeros(SIZE, np.uint8)
    for part in marked:
        mask[part] = 255
    cv2.imwrite(str(folder / "mask.png"), mask)
    return str(folder / "mask.png")


def _fill(scored_set: ScoredSet, decisions: Decisions) -> None:
    mask_uri = _mask(scored_set.root, (slice(0, 4), slice(0, 4)), (slice(20, 32), slice(20, 32)))
    _add(scored_set, "good-0.png", 1.5, decisions, [])
    _add(scored_set, "good-1.png", 2.0, decisions, [(0, 0), (3, 3)])
    _add(scored_set, "good-2.png", 9.0, decisions, [(1, 1)])
    _add(scored_set, "bad-0.png", 8.0, decisions, [(3, 3), (0, 3)], mask_uri=mask_uri, defect_type="pit")
    _add(scored_set, "bad-1.png", 1.0, decisions, [], anomalous=True)


def _evaluate(scored_set: ScoredSet, decisions: Decisions | None) -> Evaluation:
    scored_set.commit()
    settings = EvaluationSettings(bootstrap=0)
    return evaluate(
        scored_set.manifest, scored_set.scores, settings, TileSettings(mode="whole"), None, decisions, COSTS
    )


def test_each_image_says_how_it_was_decided_and_what_was_found(scored_set: ScoredSet) -> None:
    decisions = _decisions()
    _fill(scored_set, decisions)
    by_name = {Path(image.uri).stem: image for image in _evaluate(scored_set, decisions).images}
    bad = by_name["bad-0"]
    assert (bad.flagged, bad.p_value, bad.policy) == (True, 0.01, "max_false_alarm_rate")
    assert bad.margin == pytest.approx(8 / decisions.threshold - 1)
    assert (bad.defects, bad.largest_defect, bad.defect_area) == (2, 144, 160 / 1024)
    assert (bad.defects_found, bad.false_regions) == (1, 1)
    assert [region.x for region in bad.regions] == [24, 24]
    good = by_name["good-1"]
    assert (good.defects, good.defects_found, good.false_regions, good.flagged) == (None, None, 2, False)
    unmarked = by_name["bad-1"]
    assert (unmarked.defects, unmarked.defects_found, unmarked.false_regions) == (None, None, None)


def test_defects_found_and_false_regions_add_up(scored_set: ScoredSet) -> None:
    decisions = _decisions()
    _fill(scored_set, decisions)
    found = _evaluate(scored_set, decisions).defects
    assert found is not None
    assert (found.images, found.defects, found.found) == (1, 2, 1)
    assert (found.normal_images, found.false_regions, found.pixel_threshold) == (3, 3, 2.0)
    assert [(band.name, band.found) for band in found.by_size] == [
        ("under 100 pixels", 0),
        ("100 to 999 pixels", 1),
    ]


def test_promise_and_outcome_are_printed_with_what_was_found(scored_set: ScoredSet) -> None:
    decisions = _decisions()
    _fill(scored_set, decisions)
    found = _evaluate(scored_set, decisions)
    assert found.promise == decisions.promise
    assert found.outcome is not None
    assert (found.outcome.normals, found.outcome.false_alarms) == (3, 1)
    text = result_text(found)
    for part in (
        f"promise: {decisions.promise.sentence}",
        f"outcome: {found.outcome.sentence}",
        "images found",
        "1 of 2\n",
        "defects found: 1 of 2 (0 of 1 under 100 pixels, 1 of 1 100 to 999 pixels)",
        "regions per normal image: 1",
    ):
        assert part in text


def test_operating_points_are_of_all_images_at_the_prior_and_costs(scored_set: ScoredSet) -> None:
    decisions = _decisions()
    _fill(scored_set, decisions)
    found = _evaluate(scored_set, decisions)
    point = next(point for point in found.operating_points if point.threshold == found.threshold)
    assert (point.false_alarm_rate, point.recall) == (pytest.approx(1 / 3), 0.5)
    assert point.cost == pytest.approx(50 * 50.0 + 300 * 2.0)


def test_images_that_earlier_decisions_decided_do_not_judge_the_promise(scored_set: ScoredSet) -> None:
    decisions = _decisions()
    _fill(scored_set, decisions)
    scored_set.score_rows[0]["decisions_digest"] = "e" * 16
    scored_set.score_rows[1]["decisions_digest"] = None
    found = _evaluate(scored_set, decisions)
    assert found.outcome is None
    assert found.promise is not None
    assert found.notes[0].startswith("2 of 5 images were scored before the model was calibrated as it is now")
    assert "1 of 3 normal images are flagged" in result_text(found)


def test_rows_of_an_earlier_version_are_evaluated_without_what_they_lack(scored_set: ScoredSet) -> None:
    decisions = _decisions()
    _fill(scored_set, decisions)
    scored_set.commit()
    path = Path(scored_set.scores, "scores/part-run-1.parquet")
    pq.write_table(pq.read_table(path).drop_columns(NEW), path)
    earlier = fixed_decisions(decisions.threshold, 2.0, "a quantile", "quantile")
    settings = (EvaluationSettings(bootstrap=0), TileSettings(mode="whole"))
    found = evaluate(scored_set.manifest, scored_set.scores, *settings, None, earlier)
    assert {(image.p_value, image.policy, image.margin) for image in found.images} == {(None, None, None)}
    assert found.outcome is not None
    assert (found.outcome.judgement, found.outcome.uniform_p) == ("none", None)
    assert found.defects is not None


def test_without_decisions_there_are_no_regions_to_match(scored_set: ScoredSet) -> None:
    _fill(scored_set, _decisions())
    found = _evaluate(scored_set, None)
    assert (found.promise, found.outcome, found.defects) == (None, None, None)
    assert {image.false_regions for image in found.images} == {None}
    assert found.overall.pixel_auroc.value is not None


def test_thresholds_of_groups_are_no_mix_of_decisions(scored_set: ScoredSet) -> None:
    decisions = _decisions()
    _fill(scored_set, decisions)
    for row in scored_set.score_rows[:2]:
        row.update(decision_group="left", threshold=5.0)
    found = _evaluate(scored_set, decisions)
    assert found.threshold is None
    assert not any("different thresholds" in note for note in found.notes)
    shipped = next(point for point in found.operating_points if point.threshold == 1)  # times each one's own
    assert (shipped.false_alarm_rate, shipped.recall) == (pytest.approx(1 / 3), 0.5)


def test_only_frequent_types_of_defects_have_pixel_metrics(
    scored_set: ScoredSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raysvq.evaluation.pixel_metrics._TYPES", 1)
    decisions = _decisions()
    mask_uri = _mask(scored_set.root, (slice(0, 8), slice(0, 8)))
    _add(scored_set, "good.png", 1.5, decisions, [])
    for name, kind in (("a", "pit"), ("b", "pit"), ("c", "rust")):
        _add(scored_set, f"{name}.png", 8.0, decisions, [(0, 0)], mask_uri=mask_uri, defect_type=kind)
    found = _evaluate(scored_set, decisions)
    assert found.overall.pixel_auroc.value is not None
    assert found.by_defect_type["pit"].pixel_auroc.value is not None
    assert found.by_defect_type["rust"].pixel_auroc.value is None
    assert found.by_defect_type["rust"].image_auroc.value == 1
    assert "Defect types without pixel metrics, as others are more frequent: 1." in found.notes
