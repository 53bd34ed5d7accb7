"""Reports of work units, and how many images may be rejected for reasons outside them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from raysvq.errors import ScoringError
from raysvq.results.format import File
from raysvq.scoring.work import RejectBudget, UnitReport, joined, read_receipt

EXAMPLE = "s3://plates/a.png: permission denied"


@pytest.mark.parametrize(
    ("images", "max_rejected", "allowed"),
    [
        (10, 0.0, 0),
        (1, 0.02, 1),
        (50, 0.02, 1),
        (51, 0.02, 2),
        (150, 0.02, 3),
        (10_000, 0.02, 200),
        (7, 1, 7),
    ],
)
def test_a_fraction_of_the_images_rounded_up(images: int, max_rejected: float, allowed: int) -> None:
    budget = RejectBudget(images, max_rejected)
    assert budget.allowed == allowed
    budget.require({"not_found": allowed, "corrupt": images}, "")
    with pytest.raises(ScoringError, match="rejected for reasons outside them"):
        budget.require({"not_found": allowed, "crashed": 1}, "")
    with pytest.raises(ScoringError, match="rejected for reasons outside them"):
        budget.require({"not_finite": allowed + 1}, "")  # the model is broken


def test_images_that_are_tried_again_may_all_be_rejected_again() -> None:
    budget = RejectBudget(60, 0.02, rejected_before=10)
    budget.require({"not_found": 12}, "")
    with pytest.raises(ScoringError, match="allows 12"):
        budget.require({"not_found": 13}, "")


def test_what_is_wrong_with_images_themselves_never_counts() -> None:
    RejectBudget(100, 0.0).require(dict.fromkeys(["corrupt", "empty", "too_large", "unsupported"], 25), "")


def test_the_error_names_counts_an_example_and_the_setting() -> None:
    with pytest.raises(ScoringError) as failure:
        RejectBudget(100, 0.02).require({"unreadable": 1, "access_denied": 4, "corrupt": 9}, EXAMPLE)
    assert str(failure.value) == (
        "5 of the run's 100 images are rejected for reasons outside them (access_denied 4, unreadable 1),"
        " such as s3://plates/a.png: permission denied; setting `scoring.max_rejected`: 0.02 allows 2."
        " Nothing was committed: mend the cause, and start the run again, it goes on where it was"
    )
    assert failure.value.exit_code == 1


def _report() -> UnitReport:
    files = {"scores": [File("scores/part-1.parquet", 3, "ab")], "rejects": [], "maps": []}
    return UnitReport("token", 8, 3, 1, {"empty": 1}, "", files, {"read": 0.5, "score": 1.25})


def test_a_report_is_read_as_it_was_written() -> None:
    report = _report()
    assert UnitReport.from_json(report.to_json()) == report


def test_parts_of_a_unit_are_counted_together() -> None:
    report = _report()
    after = replace(report, first=12, example="a.png: gone", reasons={"empty": 2, "not_found": 1})
    both = joined([report, after])
    assert (both.first, both.done, both.anomalous) == (8, 10, 2)
    assert (both.reasons, both.example) == ({"empty": 3, "not_found": 1}, "a.png: gone")
    assert both.files["scores"] == report.files["scores"] * 2
    assert both.seconds == {"read": 1.0, "score": 2.5}
    assert joined([report]) is report


@pytest.mark.parametrize(
    "change",
    [{"more": 1}, {"scored": 0, "reasons": {}}, {"files": {"scores": [{"name": "a"}]}}, {"files": None}],
    ids=str,
)
def test_a_report_of_another_version_counts_as_none(tmp_path: Path, change: dict[str, object]) -> None:
    receipt = tmp_path / "receipts" / "000000000008.json"
    receipt.parent.mkdir()
    receipt.write_text(json.dumps(json.loads(_report().to_json()) | change))
    assert read_receipt(str(tmp_path), 8) is None
    receipt.write_text("[]")
    assert read_receipt(str(tmp_path), 8) is None
    receipt.write_text(_report().to_json())
    assert read_receipt(str(tmp_path), 8) == _report()
