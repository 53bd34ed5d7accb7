"""What a run takes over from interrupted ones, and what it scores again; without a cluster."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysvq.data.manifest import Row
from raysvq.decisions import fixed_decisions
from raysvq.model.bundle import save_decisions
from raysvq.model.engines import EXACT
from raysvq.results.reconcile import require_complete
from raysvq.schema import MANIFEST
from raysvq.scoring.pending import Pending
from raysvq.scoring.request import open_request
from raysvq.scoring.spec import Job, SessionConfig
from raysvq.scoring.summary import ScoreSummary
from raysvq.scoring.takeover import (
    CHANGED,
    OTHERWISE,
    REFUSED,
    Leftovers,
    Takeover,
    find_leftovers,
    finished_folders,
    take_over,
)
from raysvq.scoring.work import RejectBudget, Run, UnitReport, new_run, provenance, remove_work, work_folders
from raysvq.scoring.worker import UnitScorer
from raysvq.settings import StorageSettings
from tests.commits import commit_run
from tests.plates import Plates, make_plates, plate

UNIT = 4


@dataclass
class Start:
    """A run up to where Ray comes in."""

    plates: Plates
    run: Run
    origin: Row
    pending: Pending
    leftovers: Leftovers
    found: Takeover
    budget: RejectBudget
    scoring: dict[str, Any]

    @property
    def size(self) -> int:
        return int(self.scoring.get("batch_images", UNIT))

    def work(self, *units: int) -> list[UnitReport]:
        """Score some units, and stop."""
        settings = self.plates.settings(**self.scoring)
        bundle = self.plates.bundle
        versions = bundle.model_version, bundle.decisions.digest
        session = SessionConfig(self.plates.model, *versions, settings.scoring, StorageSettings())
        work = self.run.begin(self.plates.out, self.found.rest.path)
        origin = tuple(self.origin.items())
        scorer = UnitScorer(Job(session, self.plates.out, work, origin, self.size, RejectBudget(100, 1.0)))
        return [scorer.score(unit) for unit in units]

    def finish(self) -> None:
        """Score the rest, account for all, and commit."""
        summary = ScoreSummary(self.plates.out, self.run.run_id, self.pending.images)
        units = range(-(-self.found.rest.images // self.size))
        for report in [*self.found.reports, *(self.work(*units) if units else [])]:
            summary.add(report)
        require_complete(self.plates.out, summary.files, self.pending.path, self.leftovers.folder)
        commit_run(self.plates.out, self.origin, summary.files)
        remove_work([*finished_folders(self.leftovers, self.pending.path), self.run.folder(self.plates.out)])


Begin = Callable[..., Start]


@pytest.fixture
def begin(tmp_path: Path) -> Begin:
    """Starts a run over 8 images, cut into units of 4; keywords are settings of the section `scoring`."""
    plates = make_plates(str(tmp_path / "plates"), 2 * UNIT)

    def build(origin: Row | None = None, manifest: str | None = None, **scoring: Any) -> Start:
        folder = tmp_path / uuid.uuid4().hex
        folder.mkdir()
        settings = plates.settings(**scoring)
        request = open_request(manifest or plates.manifest, plates.model, plates.out, settings)
        settings_digest = request.digests()["settings_digest"]
        run_id = f"run-{len(work_folders(plates.out))}-{uuid.uuid4().hex[:4]}"
        columns = provenance(plates.bundle, run_id, settings_digest, EXACT) | (origin or {})
        leftovers = find_leftovers(plates.out, folder)
        pending = request.find_pending(folder, leftovers.paths)
        budget = RejectBudget(pending.images, settings.scoring.max_rejected)
        run = new_run(columns, request.bundle.decisions.digest, settings.scoring, pending.version)
        found = take_over(leftovers, run, pending, budget)
        return Start(plates, run, columns, pending, leftovers, found, budget, scoring)

    return build


def _counts(start: Start) -> tuple[int, int, dict[str, int]]:
    """Images taken over, left to score, and finished but scored again, by why."""
    return start.found.images, start.found.rest.images, dict(start.found.rescored)


def test_nothing_is_taken_over_where_nothing_was_left(begin: Begin) -> None:
    first = begin()
    assert _counts(first) == (0, 8, {})
    assert first.found.rest is first.pending
    assert list(first.found.lines()) == []


@pytest.mark.parametrize(
    "change",
    [
        {"tile_batch": 8},
        {"batch_images": 2},
        {"worst": 3},
        {"max_rejected": 0.5},
        {"decode_timeout_s": 7.0},
        {"retry_rejected": True},
        {"maps": "all"},
    ],
    ids=str,
)
def test_progress_outlives_a_change_that_decides_no_row(begin: Begin, change: dict[str, Any]) -> None:
    (report,) = begin().work(0)
    again = begin(**change)
    assert _counts(again) == (4, 4, {})
    assert again.found.reports == [report]
    assert list(again.found.lines()) == ["took over 4 images of interrupted runs"]
    again.finish()
    assert again.plates.rows().keys() == again.plates.contents.keys()
    assert not work_folders(again.plates.out)


@pytest.mark.parametrize(
    ("origin", "scoring"),
    [
        ({"precision": "bfloat16"}, {}),
        ({"engine": "openvino"}, {}),
        ({"model_digest": "other", "model_version": "other"}, {}),
        ({"code_version": "9"}, {}),
        ({}, {"max_pixels": 10**6}),
        ({}, {"heatmaps": "anomalous"}),
    ],
    ids=str,
)
def test_what_decides_rows_must_be_as_it_was(begin: Begin, origin: Row, scoring: dict[str, Any]) -> None:
    begin().work(1)
    assert _counts(begin(origin, **scoring)) == (0, 8, {OTHERWISE: 4})


def test_thresholds_must_be_as_they_were(begin: Begin) -> None:
    first = begin()
    first.work(1)
    save_decisions(fixed_decisions(9.0, 0.5, "fitted anew", "manual"), first.plates.model)
    assert _counts(begin()) == (0, 8, {OTHERWISE: 4})


def test_the_group_that_decides_must_be_as_it_was(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    plates = begin().plates
    plates.bundle = replace(plates.bundle, decisions=replace(plates.bundle.decisions, group_by="site"))
    save_decisions(plates.bundle.decisions, plates.model)
    begin().work(0, 1)
    assert _counts(begin()) == (8, 0, {})
    monkeypatch.setattr("tests.plates.SITES", ("north/1", "west"))
    plates.index()
    assert _counts(begin()) == (0, 8, {CHANGED: 8})


def test_what_an_earlier_version_left_is_scored_again(begin: Begin) -> None:
    first = begin()
    first.work(0)
    work = Path(first.run.folder(first.plates.out))
    pending = pq.read_table(work / "pending.parquet")
    pq.write_table(pending.drop_columns(["decision_group"]), work / "pending.parquet")
    run = json.loads((work / "run.json").read_text())
    del run["depends_on"]["decisions_digest"]
    (work / "run.json").write_text(json.dumps(run))
    assert _counts(begin()) == (0, 8, {OTHERWISE: 4})


@pytest.mark.parametrize("scoring", [{"partition_by": ("label",)}, {"maps": "none"}], ids=str)
def test_files_must_be_where_and_hold_what_this_run_s_would(begin: Begin, scoring: dict[str, Any]) -> None:
    begin().work(0)
    assert _counts(begin(**scoring)) == (0, 8, {CHANGED: 4})


def test_one_more_image_in_the_manifest_costs_one_image(begin: Begin) -> None:
    first = begin()
    first.work(0, 1)
    first.plates.put("another.png", plate(77))
    first.plates.index()
    second = begin()
    assert _counts(second) == (8, 1, {})
    second.finish()
    assert second.plates.rows().keys() == second.plates.contents.keys()


def test_a_unit_with_an_image_that_changed_is_scored_again(begin: Begin) -> None:
    first = begin()
    first.work(0, 1)
    first.plates.put("plate-01.png", plate(50))
    first.plates.index()
    second = begin()
    assert _counts(second) == (4, 4, {CHANGED: 4})
    second.finish()
    scores = {name: row["image_score"] for name, row in second.plates.rows().items()}
    assert scores == pytest.approx(second.plates.direct(), rel=1e-5)


def test_runs_are_taken_over_one_after_the_other(begin: Begin) -> None:
    begin(batch_images=2).work(0)
    begin(batch_images=3).work(1)
    third = begin()
    assert _counts(third) == (5, 3, {})
    assert len(third.found.run_ids) == 2
    third.finish()
    assert third.plates.rows().keys() == third.plates.contents.keys()


def test_a_part_of_a_unit_is_taken_over(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    first = begin()
    with monkeypatch.context() as patch:
        patch.setattr("raysvq.scoring.worker.PART_S", 0.0)
        first.work(1)
    receipts = sorted(Path(first.run.folder(first.plates.out), "receipts").iterdir())
    assert len(receipts) == UNIT
    receipts[0].unlink()
    receipts[-1].unlink()
    second = begin()
    assert _counts(second) == (2, 6, {})
    second.finish()
    assert second.plates.rows().keys() == second.plates.contents.keys()


def test_an_image_that_two_interrupted_runs_have_finished_counts_once(begin: Begin) -> None:
    first = begin()
    first.work(0, 1)
    hidden = Path(first.plates.out, "_work").rename(Path(first.plates.folder, "hidden"))
    begin(batch_images=3).work(0)
    for folder in hidden.iterdir():
        folder.rename(Path(first.plates.out, "_work", folder.name))
    third = begin()
    assert third.found.images in (7, 8)  # of units that share an image one
    third.finish()
    assert third.plates.rows().keys() == third.plates.contents.keys()


def test_what_is_committed_is_not_taken_over(begin: Begin) -> None:
    first = begin()
    Path(first.plates.uri("plate-01.png")).unlink()
    first.work(0, 1)
    second = begin()
    second.finish()
    begin().run.begin(second.plates.out, second.pending.path)
    Path(second.plates.out, "_work").rename(Path(second.plates.folder, "left"))
    third = begin(retry_rejected=True)
    assert third.pending.images == 1
    assert _counts(third) == (0, 1, {})


@pytest.mark.parametrize(
    ("share", "taken", "refused"), [(0.125, 8, {}), (0.25, 8, {}), (0.1, 8, {}), (0.0, 4, {REFUSED: 4})]
)
def test_rejections_beyond_the_budget_are_tried_again(
    begin: Begin, share: float, taken: int, refused: dict[str, int]
) -> None:
    first = begin()
    Path(first.plates.uri("plate-01.png")).unlink()
    first.work(0, 1)
    assert _counts(begin(max_rejected=share)) == (taken, 8 - taken, refused)


def test_rejections_are_tried_again_once_when_asked(begin: Begin) -> None:
    first = begin(max_rejected=1)
    Path(first.plates.uri("plate-01.png")).unlink()
    first.work(0, 1)
    second = begin(max_rejected=1, retry_rejected=True)
    assert _counts(second) == (4, 4, {REFUSED: 4})
    second.work(0)
    assert _counts(begin(max_rejected=1, retry_rejected=True))[0] == 8


@pytest.mark.parametrize("left", [b"", b'{"token": "a", "sco'], ids=["empty", "half"])
def test_a_receipt_that_was_cut_off_is_none(begin: Begin, left: bytes) -> None:
    first = begin()
    first.work(0, 1)
    receipt = Path(first.run.folder(first.plates.out), "receipts/000000000000.json")
    receipt.write_bytes(left)
    second = begin()
    assert _counts(second) == (4, 4, {})
    assert list(second.found.lines())[1:] == [
        "not taken over from interrupted runs: what 1 receipts said that were cut off"
    ]
    second.finish()
    assert second.plates.rows().keys() == second.plates.contents.keys()


@pytest.mark.parametrize("gone", ["pending.parquet", "run.json", "receipts/000000000000.json"])
def test_a_removal_that_was_cut_off_does_no_harm(begin: Begin, gone: str) -> None:
    first = begin()
    first.work(0, 1)
    Path(first.run.folder(first.plates.out), gone).unlink()
    second = begin()
    assert second.found.images == (4 if gone.startswith("receipts") else 0)
    second.finish()
    assert second.plates.rows().keys() == second.plates.contents.keys()
    assert not work_folders(second.plates.out)


def test_a_folder_keeps_what_was_done_of_another_manifest(begin: Begin, tmp_path: Path) -> None:
    first = begin()
    first.work(0)
    rows = pq.read_table(first.plates.manifest, schema=MANIFEST)
    others = str(tmp_path / "others.parquet")
    pq.write_table(rows.slice(6), others)
    second = begin(manifest=others)
    assert _counts(second) == (0, 2, {})
    second.finish()
    third = begin()
    assert _counts(third) == (4, 2, {})
    third.finish()
    assert third.plates.rows().keys() == third.plates.contents.keys()
    assert not work_folders(third.plates.out)


def test_what_another_version_left_is_left_alone_and_removed(begin: Begin) -> None:
    old = Path(begin().plates.out, "_work", "0123456789abcdef")
    (old / "receipts").mkdir(parents=True)
    (old / "receipts/000000000000.json").write_text("{}")
    (old / "run.json").write_text('{"run_id": "r", "precision": "float32"}')
    pq.write_table(pa.table({"image_id": ["a"]}), old / "pending.parquet")
    start = begin()
    assert _counts(start) == (0, 8, {})
    start.finish()
    assert not old.exists()
