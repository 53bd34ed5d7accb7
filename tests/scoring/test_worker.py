"""A worker and its work units, without a cluster."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from raysvq.data.manifest import open_manifest
from raysvq.decisions import fixed_decisions
from raysvq.errors import BundleError, ScoringError, StorageError
from raysvq.imaging.region import Region
from raysvq.model import scorer
from raysvq.model.bundle import make_bundle, save_bundle, save_decisions
from raysvq.model.engines import EXACT
from raysvq.model.network import build_network
from raysvq.runtime.failures import require_success
from raysvq.scoring import worker
from raysvq.scoring.pending import PENDING, find_pending
from raysvq.scoring.spec import Job, SessionConfig
from raysvq.scoring.work import RejectBudget, UnitReport, begun_uri, provenance, stopped_uri
from raysvq.scoring.worker import UnitScorer, score_unit
from raysvq.settings import StorageSettings
from raysvq.storage import create_file, put_file, write_bytes
from tests.plates import Plates, make_plates

UNIT = 4


@pytest.fixture
def plates(tmp_path: Path) -> Plates:
    plates = make_plates(str(tmp_path), 2 * UNIT)
    plates.put("plate-02.png", b"no image")
    plates.index()
    return plates


def _job(plates: Plates, out: str, **settings: Any) -> Job:
    """A run into a folder of its own, up to where Ray comes in."""
    scoring = plates.settings(**settings).scoring
    origin = provenance(plates.bundle, "run-1", "5e77", EXACT)
    folder = Path(plates.folder, f"spool-{out}")
    folder.mkdir()
    pending = find_pending(open_manifest(plates.manifest), plates.out, origin, scoring, folder)
    work = f"{plates.folder}/{out}/_work/w"
    versions = plates.bundle.model_version, plates.bundle.decisions.digest
    put_file(pending.path, f"{work}/{PENDING}")
    return Job(
        session=SessionConfig(plates.model, *versions, scoring, StorageSettings()),
        out=f"{plates.folder}/{out}",
        work=work,
        origin=tuple(origin.items()),
        unit_images=UNIT,
        budget=RejectBudget(2 * UNIT, scoring.max_rejected),
    )


def _reports(job: Job, *units: int) -> list[UnitReport]:
    """What the driver is told. Raises the error that ended the first unit."""
    reports = [require_success(score_unit(job, unit)) for unit in units]
    return [report for report in reports if report]


def _rows(job: Job, reports: list[UnitReport]) -> list[dict[str, Any]]:
    files = [file.name for report in reports for kind in report.files.values() for file in kind]
    rows = [row for name in files for row in pq.read_table(Path(job.out, name)).to_pylist()]
    return [{key: value for key, value in row.items() if key != "scored_at"} for row in rows]


def _images(job: Job, report: UnitReport) -> list[str]:
    """URIs of score and reject rows."""
    return [row["uri"] for row in _rows(job, [report]) if "uri" in row]


def test_units_are_scored_and_counted(plates: Plates) -> None:
    job = _job(plates, "out")
    reports = _reports(job, 0, 1)
    assert [report.scored for report in reports] == [3, 4]
    assert [report.reasons for report in reports] == [{"not_an_image": 1}, {}]
    scores = {Path(row["uri"]).name: row["image_score"] for row in _rows(job, reports) if "tiles" in row}
    del plates.contents["plate-02.png"]
    assert scores == pytest.approx(plates.direct(), rel=1e-5)


def test_a_unit_that_is_finished_is_not_touched_again(plates: Plates) -> None:
    job = _job(plates, "out")
    (report,) = _reports(job, 1)
    for path in Path(job.out).rglob("part-*.parquet"):
        path.unlink()
    assert _reports(job, 1) == [report]
    assert not list(Path(job.out).rglob("part-*.parquet"))


def test_a_unit_begun_before_is_decoded_in_a_sandbox_and_has_the_same_rows(plates: Plates) -> None:
    plain, sandboxed = _job(plates, "plain"), _job(plates, "sandboxed")
    begun = Path(sandboxed.work, "begun", "000000000000")
    begun.parent.mkdir()
    begun.write_text("1")
    assert _rows(sandboxed, _reports(sandboxed, 0)) == _rows(plain, _reports(plain, 0))
    assert begun.read_text() == "2"


def test_a_model_that_was_replaced_meanwhile_ends_the_run_by_name(plates: Plates) -> None:
    job = _job(plates, "out")
    settings = plates.bundle.settings
    other = make_bundle(
        build_network(settings), settings, plates.bundle.reference, plates.bundle.decisions, {}, {}
    )
    save_bundle(other, plates.model)
    with pytest.raises(BundleError, match="another model than when this run started"):
        _reports(job, 0)


def test_thresholds_that_were_replaced_meanwhile_end_the_run_by_name(plates: Plates) -> None:
    job = _job(plates, "out")
    save_decisions(fixed_decisions(9.0, 0.5, "fitted anew", "manual"), plates.model)
    with pytest.raises(BundleError, match="other thresholds than when this run started"):
        _reports(job, 0)


def test_a_place_that_cannot_be_written_ends_the_run_by_name(plates: Plates) -> None:
    job = _job(plates, "out")
    Path(job.out, "scores").write_text("a file where a folder is to be")
    with pytest.raises(StorageError, match=f"cannot write {job.out}/scores/part-"):
        _reports(job, 0)


def test_of_two_workers_on_one_unit_the_first_to_end_counts(plates: Plates) -> None:
    job = _job(plates, "out")
    thought_lost, its_successor = UnitScorer(job), UnitScorer(job)
    sources = thought_lost.rows.read(0, UNIT)
    late = thought_lost.score_images(0, sources, sandboxed=False)
    first = its_successor.score(0)
    written = Path(job.out, first.files["scores"][0].name).read_bytes()
    assert not create_file(f"{job.work}/receipts/{0:012d}.json", late.to_json().encode())
    assert thought_lost.score(0) == first != late
    assert Path(job.out, first.files["scores"][0].name).read_bytes() == written


def test_a_unit_that_takes_long_is_written_in_parts_and_has_the_same_rows(
    plates: Plates, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = _job(plates, "whole"), _job(plates, "parts")
    at_once = UnitScorer(whole).score(0)
    monkeypatch.setattr(worker, "PART_S", 0.0)
    report = UnitScorer(parts).score(0)
    assert len(list(Path(parts.work).glob("receipts/*"))) == UNIT
    assert (report.scored, report.anomalous, report.reasons) == (3, at_once.anomalous, {"not_an_image": 1})
    assert _rows(parts, [report]) == _rows(whole, [at_once])


def test_a_worker_that_dies_loses_what_it_had_not_written(
    plates: Plates, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = _job(plates, "out")
    monkeypatch.setattr(worker, "PART_S", 0.0)
    dying = UnitScorer(job)
    for row in (0, 1):
        dying._score_part(row, dying.rows.read(row, UNIT - row))
    monkeypatch.setattr(worker, "PART_S", 60.0)
    written = set(Path(job.out).rglob("part-*.parquet"))
    report = UnitScorer(job).score(0)
    assert {path.name for path in Path(job.work).glob("receipts/*")} == {
        f"{row:012d}.json" for row in (0, 1, 2)
    }
    assert {Path(job.out, file.name) for some in report.files.values() for file in some} > written
    assert report.done == UNIT
    assert len(_images(job, report)) == len(set(_images(job, report))) == UNIT


def test_two_workers_that_part_a_unit_differently_agree_on_every_image(
    plates: Plates, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = _job(plates, "out")
    thought_lost, its_successor = UnitScorer(job), UnitScorer(job)
    sources = thought_lost.rows.read(0, UNIT)
    monkeypatch.setattr(worker, "PART_S", 0.0)
    assert thought_lost._score_part(0, sources).done == 1
    monkeypatch.setattr(worker, "PART_S", 60.0)
    assert its_successor._score_part(1, sources[1:]).done == UNIT - 1
    monkeypatch.setattr(worker, "PART_S", 0.0)
    assert thought_lost.score(0) == its_successor.score(0)
    assert sorted(_images(job, its_successor.score(0))) == sorted(source["uri"] for source in sources)


def test_an_image_without_a_finite_score_is_rejected_and_its_neighbours_are_not(
    plates: Plates, monkeypatch: pytest.MonkeyPatch
) -> None:
    tile_scores = scorer.tile_scores
    calls = itertools.count()
    monkeypatch.setattr(
        scorer, "tile_scores", lambda maps: tile_scores(maps) * (np.nan if next(calls) == 1 else 1)
    )
    job = _job(plates, "out")
    rows = _rows(job, [UnitScorer(job).score(1)])
    assert [row.get("reason") for row in rows].count("not_finite") == 1
    assert sum(np.isfinite(row["image_score"]) for row in rows if "image_score" in row) == UNIT - 1


def test_a_unit_that_ends_no_worker_alive_ends_the_run_by_name(plates: Plates) -> None:
    job = _job(plates, "out")
    begun = Path(job.work, "begun", f"{UNIT:012d}")
    begun.parent.mkdir()
    begun.write_text("20")
    with pytest.raises(ScoringError, match=r"plate-04\.png and the 3 images after it died 20 times"):
        _reports(job, 1)


def test_a_unit_is_not_gone_through_to_its_end_where_the_store_refuses_all_of_it(plates: Plates) -> None:
    job = _job(plates, "out", max_rejected=0.2)
    assert job.budget.allowed == 2
    for number in range(UNIT):
        Path(plates.uri(f"plate-{number:02d}.png")).unlink()
    with pytest.raises(ScoringError, match=r"3 of the run's 8 .* reasons outside them \(not_found 3\)"):
        _reports(job, 0)
    assert not list(Path(job.work).glob("receipts/*"))
    (report,) = _reports(_job(plates, "again", max_rejected=0.5), 0)
    assert report.reasons == {"not_found": 4}
    assert report.example.startswith(f"{plates.uri('plate-00.png')}: ")


def test_a_unit_whose_receipt_was_cut_off_is_scored_and_has_a_new_one(plates: Plates) -> None:
    job = _job(plates, "out")
    receipt = Path(job.work, "receipts/000000000000.json")
    receipt.parent.mkdir()
    receipt.write_bytes(b'{"token": "')
    (report,) = _reports(job, 0)
    assert report.scored + sum(report.reasons.values()) == UNIT
    assert UnitReport.from_json(receipt.read_text()) == report


def test_units_of_a_run_that_has_ended_are_passed_by_beside_others(plates: Plates) -> None:
    job = replace(_job(plates, "out"), alone=False)
    write_bytes(stopped_uri(job.work), b"")
    assert _reports(job, 0, 1) == []
    assert not list(Path(job.out).rglob("part-*.parquet"))
    assert len(_reports(replace(job, alone=True), 0)) == 1


def test_beside_others_an_unexpected_error_ends_its_run_alone(
    plates: Plates, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mistaken(*_: Any) -> Any:
        raise ValueError("shapes\nof many lines")

    monkeypatch.setattr(worker, "score_row", mistaken)
    job = _job(plates, "out")
    with pytest.raises(ValueError, match="shapes"):
        score_unit(job, 0)
    with pytest.raises(ScoringError, match=r"^ValueError: shapes \(test_worker\.py:\d+\)$"):
        _reports(replace(job, alone=False), 0)


def test_beside_others_a_unit_is_begun_less_often(plates: Plates) -> None:
    job = replace(_job(plates, "out"), alone=False)
    write_bytes(begun_uri(job.work, UNIT), b"5")
    with pytest.raises(ScoringError, match=r"the 3 images after it died 5 times"):
        _reports(job, 1)


def test_a_mask_that_was_replaced_meanwhile_ends_the_run_by_name(plates: Plates) -> None:
    mask = f"{plates.folder}/mask.png"
    write_bytes(mask, cv2.imencode(".png", np.full((4, 4), 255, np.uint8))[1].tobytes())
    digest = Region(mask_uri=mask).read().digest
    write_bytes(mask, cv2.imencode(".png", np.full((8, 8), 255, np.uint8))[1].tobytes())
    job = _job(plates, "out")
    session = replace(job.session, region=Region(mask_uri=mask), region_digest=digest)
    with pytest.raises(ScoringError, match=r"mask\.png is another one than when this run started"):
        _reports(replace(job, session=session), 0)
