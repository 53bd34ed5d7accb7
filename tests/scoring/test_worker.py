"""A worker and its work units, without a cluster."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from raysvq.data.manifest import open_manifest
from raysvq.model import scorer
from raysvq.model.bundle import make_bundle, save_bundle
from raysvq.model.network import SSVQVAE
from raysvq.results import read_snapshot
from raysvq.scoring.budget import Budget
from raysvq.scoring.pending import PENDING, find_pending
from raysvq.scoring.rows import provenance
from raysvq.scoring.worker import Actor, Job, ScoreUnits, score_units
from raysvq.settings import StorageSettings
from raysvq.storage import create_file, put_file
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
    origin = provenance(plates.bundle, "run-1", "5e77", "float32")
    folder = Path(plates.folder, f"spool-{out}")
    folder.mkdir()
    pending = find_pending(open_manifest(plates.manifest), read_snapshot(plates.out), origin, scoring, folder)
    work = f"{plates.folder}/{out}/_work/w"
    put_file(pending.path, f"{work}/{PENDING}")
    return Job(
        model=plates.model,
        out=f"{plates.folder}/{out}",
        work=work,
        origin=tuple(origin.items()),
        scoring=scoring,
        storage=StorageSettings(),
        unit_images=UNIT,
        device="cpu",
        precision="float32",
        budget=Budget(2 * UNIT, scoring.max_rejected),
        decoders=0,
    )


def _reports(work: Any, *units: int) -> list[dict[str, Any]]:
    return [json.loads(text) for text in work({"id": np.array(units)})["report"]]


def _rows(job: Job, reports: list[dict[str, Any]]) -> list[dict[str, Any]]:
    files = [file["name"] for report in reports for kind in report["files"].values() for file in kind]
    rows = [row for name in files for row in pq.read_table(Path(job.out, name)).to_pylist()]
    return [{key: value for key, value in row.items() if key != "scored_at"} for row in rows]


def test_units_are_scored_and_counted(plates: Plates) -> None:
    job = _job(plates, "out")
    reports = _reports(Actor(job), 0, 1)
    assert [report["scored"] for report in reports] == [3, 4]
    assert [report["reasons"] for report in reports] == [{"not_an_image": 1}, {}]
    scores = {Path(row["uri"]).name: row["image_score"] for row in _rows(job, reports) if "tiles" in row}
    del plates.contents["plate-02.png"]
    assert scores == pytest.approx(plates.direct(), rel=1e-5)


def test_a_unit_that_is_finished_is_not_touched_again(plates: Plates) -> None:
    job = _job(plates, "out")
    (report,) = _reports(Actor(job), 1)
    for path in Path(job.out).rglob("part-*.parquet"):
        path.unlink()
    assert _reports(Actor(job), 1) == [report]
    assert not list(Path(job.out).rglob("part-*.parquet"))


def test_a_unit_begun_before_is_tried_with_care_and_has_the_same_rows(plates: Plates) -> None:
    plain, careful = _job(plates, "plain"), _job(plates, "careful")
    begun = Path(careful.work, "begun", "000000000")
    begun.parent.mkdir()
    begun.write_text("1")
    assert _rows(careful, _reports(Actor(careful), 0)) == _rows(plain, _reports(Actor(plain), 0))
    assert begun.read_text() == "2"


def test_a_model_that_was_replaced_meanwhile_ends_the_run_by_name(plates: Plates) -> None:
    job = _job(plates, "out")
    settings = plates.bundle.settings
    other = make_bundle(SSVQVAE(settings), settings, plates.bundle.reference, {}, {})
    save_bundle(other, plates.model)
    for work in (Actor(job), lambda units: score_units(units, job)):
        (report,) = _reports(work, 0)
        assert report["error"] == "BundleError"
        assert "another model than when this run started" in report["says"]


def test_a_place_that_cannot_be_written_ends_the_run_by_name(plates: Plates) -> None:
    job = _job(plates, "out")
    Path(job.out, "scores").write_text("a file where a folder is to be")
    (report,) = _reports(Actor(job), 0)
    assert report["error"] == "StorageError"
    assert f"cannot write {job.out}/scores/part-" in report["says"]


def test_of_two_workers_on_one_unit_the_first_to_end_counts(plates: Plates) -> None:
    job = _job(plates, "out")
    thought_lost, its_successor = ScoreUnits(job), ScoreUnits(job)
    sources = thought_lost.rows.read(0, UNIT)
    late = json.dumps(thought_lost._score(sources, cautiously=False))
    (first,) = _reports(its_successor, 0)
    written = Path(job.out, first["files"]["scores"][0]["name"]).read_bytes()
    assert not create_file(f"{job.work}/receipts/{0:09d}.json", late.encode())
    assert _reports(thought_lost, 0) == [first]
    assert Path(job.out, first["files"]["scores"][0]["name"]).read_bytes() == written


def test_an_image_without_a_finite_score_is_rejected_and_its_neighbours_are_not(
    plates: Plates, monkeypatch: pytest.MonkeyPatch
) -> None:
    tile_scores = scorer.tile_scores
    calls = itertools.count()
    monkeypatch.setattr(
        scorer, "tile_scores", lambda maps: tile_scores(maps) * (np.nan if next(calls) == 1 else 1)
    )
    job = _job(plates, "out")
    rows = _rows(job, _reports(ScoreUnits(job), 1))
    assert [row.get("reason") for row in rows].count("not_finite") == 1
    assert sum(np.isfinite(row["image_score"]) for row in rows if "image_score" in row) == UNIT - 1


def test_a_unit_that_ends_no_worker_alive_ends_the_run_by_name(plates: Plates) -> None:
    job = _job(plates, "out")
    begun = Path(job.work, "begun", "000000001")
    begun.parent.mkdir()
    begun.write_text("20")
    (report,) = _reports(Actor(job), 1)
    assert report["error"] == "ScoringError"
    assert "plate-04.png and the 3 images after it died 20 times" in report["says"]


def test_a_unit_is_not_gone_through_to_its_end_where_the_store_refuses_all_of_it(plates: Plates) -> None:
    job = _job(plates, "out", max_rejected=0.2)
    assert job.budget.allowed == 2
    for number in range(UNIT):
        Path(plates.uri(f"plate-{number:02d}.png")).unlink()
    (report,) = _reports(Actor(job), 0)
    assert report["error"] == "ScoringError"
    assert "3 of the run's 8 images are rejected for reasons outside them (not_found 3)" in report["says"]
    assert not list(Path(job.work).glob("receipts/*"))
    (report,) = _reports(Actor(_job(plates, "again", max_rejected=0.5)), 0)
    assert report["reasons"] == {"not_found": 4}
    assert report["example"]["uri"] == plates.uri("plate-00.png")


def test_a_unit_whose_receipt_was_cut_off_is_scored_and_has_a_new_one(plates: Plates) -> None:
    job = _job(plates, "out")
    receipt = Path(job.work, "receipts/000000000.json")
    receipt.parent.mkdir()
    receipt.write_bytes(b'{"by": "')
    (report,) = (json.loads(text) for text in Actor(job)({"id": np.array([0])})["report"])
    assert report["scored"] + sum(report["reasons"].values()) == UNIT
    assert json.loads(receipt.read_text()) == report
