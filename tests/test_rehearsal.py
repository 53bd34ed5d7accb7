"""The rehearsal of a fleet: its bookkeeper notices what is not as it must be, and its short form is well."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from devtools.rehearsal.bookkeeper import SCORED, Bookkeeper, Entries, Found, Rows
from devtools.rehearsal.pages import page_problems
from devtools.rehearsal.script import REVOKED, SHORT, Camera, Script
from raysvq.ledger.records import CameraNight, FleetRun
from raysvq.report.fleet import write_page

ROOT = Path(__file__).parent.parent
SCRIPT = replace(SHORT, nights=6, missed=4)


@dataclass
class Fleet:
    """A fleet that does all it must, without images: content is the name of a shot."""

    script: Script
    books: Bookkeeper = field(init=False)
    store: dict[Camera, dict[str, tuple[str, int, bool]]] = field(default_factory=dict)
    rows: dict[Camera, Rows] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.books = Bookkeeper(self.script)
        for product in ("plates", "panels"):
            self.books.promote(product, f"{product}-1", 1)

    def night(self, night: int) -> None:
        """Uploads, a promotion, and the run."""
        if night == self.script.promoted:
            self.books.promote("plates", "plates-2", night)
        for camera in self.script.all_cameras():
            for shot in self.script.uploads(camera, night):
                content = f"{shot.number}-{shot.edition}".encode() * 9
                self.books.upload(shot, content, night)
                uri = f"s3://raysvq-test/{shot.key(self.script.first)}"
                md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
                self.store.setdefault(camera, {})[uri] = (md5, len(content), shot.kind == "broken")
            if self.script.is_found(camera, night):
                self.score(camera, night)

    def score(self, camera: Camera, night: int) -> None:
        """What is new or changed, by the model in force."""
        model = "plates-2" if camera.product == "plates" and night >= self.script.promoted else None
        known = self.rows.setdefault(camera, {})
        for uri, (etag, size, broken) in self.store.get(camera, {}).items():
            if uri not in known or known[uri][0].etag != etag:
                outcome = "truncated" if broken else SCORED
                version = model or f"{camera.product}-1"
                known[uri] = [Found(uri, etag, size, outcome, version, f"run-{night}")]

    def entries(self) -> Entries:
        """Of the ledger: what the rows say."""
        return {
            (camera.name, row.image_id): {
                "etag": row.etag,
                "outcome": row.outcome,
                "model_version": row.model,
                "run_id": row.run_id,
            }
            for camera, rows in self.rows.items()
            for [row] in rows.values()
        }

    def audit(self, night: int) -> dict[str, int]:
        """What the bookkeeper says."""
        return dict(self.books.compare(self.rows, self.entries(), night))


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    made = Fleet(SCRIPT)
    for night in range(1, SCRIPT.nights + 1):
        made.night(night)
        if night != SCRIPT.missed:
            assert made.audit(night) == {}, f"night {night}"
    return made


def _some(fleet: Fleet, habit: str) -> tuple[Camera, str]:
    """A camera of that habit, and an image of it that came in time."""
    camera = next(each for each in fleet.rows if each.habit == habit)
    return camera, next(uri for uri in fleet.rows[camera] if uri.endswith("005.jpg"))


def test_of_a_fleet_that_does_all_it_must_nothing_differs(fleet: Fleet) -> None:
    images = sum(len(images) for images in fleet.books.log.values())
    assert images > 500
    assert sum(fleet.books.new_in(night) for night in range(1, SCRIPT.nights + 1)) == images


def test_the_script_has_every_kind_of_trouble(fleet: Fleet) -> None:
    rows = {uri: row for rows in fleet.rows.values() for uri, [row] in rows.items()}
    assert {row.outcome for row in rows.values()} == {SCORED, "truncated"}
    assert {row.model for row in rows.values()} == {"plates-1", "plates-2", "panels-1"}
    assert {row.run_id for row in rows.values()} == {"run-1", "run-2", "run-3", "run-5", "run-6"}
    revoked = fleet.script.all_cameras()[REVOKED]
    assert {row.run_id for [row] in fleet.rows[revoked].values()} == {"run-1", "run-3", "run-5", "run-6"}


def test_an_image_that_is_lost_is_noticed(fleet: Fleet) -> None:
    camera, uri = _some(fleet, "punctual")
    del fleet.rows[camera][uri]
    assert fleet.audit(SCRIPT.nights) == {"lost": 1}


def test_an_image_with_two_rows_is_noticed(fleet: Fleet) -> None:
    camera, uri = _some(fleet, "again")
    entries = fleet.entries()
    fleet.rows[camera][uri] *= 2
    assert dict(fleet.books.compare(fleet.rows, entries, SCRIPT.nights)) == {"twice": 1}


@pytest.mark.parametrize(
    ("change", "noticed"),
    [
        ({"etag": "other"}, "old version"),
        ({"outcome": "unreadable"}, "wrong outcome"),
        ({"model": "plates-0"}, "wrong model"),
        ({"run_id": "run-99"}, "scored again"),
    ],
)
def test_a_row_that_says_something_else_is_noticed(
    fleet: Fleet, change: dict[str, str], noticed: str
) -> None:
    camera, uri = _some(fleet, "replaced")
    fleet.rows[camera][uri] = [replace(fleet.rows[camera][uri][0], **change)]
    assert fleet.audit(SCRIPT.nights) == {noticed: 1}


def test_a_ledger_that_says_something_else_is_noticed(fleet: Fleet) -> None:
    entries = fleet.entries()
    entries.pop(next(iter(entries)))
    assert dict(fleet.books.compare(fleet.rows, entries, SCRIPT.nights)) == {"ledger": 1}


def test_a_page_that_says_something_else_is_noticed(tmp_path: Path) -> None:
    denied = "cannot read <images>: permission denied"
    nights = [
        CameraNight("plates.line-1.cam-00", "run", "2026-05-04", "warning"),
        CameraNight("panels.line-1.cam-<1>", "run", "2026-05-04", "failed", failure=denied),
    ]
    times = ("2026-05-04T01:00:00+00:00", "2026-05-04T01:02:00+00:00")
    counts = {"listed": 0, "scored": 0, "anomalous": 0, "rejected": 0, "skipped": 0, "failed": 1}
    run = FleetRun(
        1, "run", "fleet", "2026-05-04", *times, "0", "0", {}, 2, {}, **counts,
        images_per_s=0.0, worker_seconds=0.0, findings={},
    )  # fmt: skip
    write_page(str(tmp_path), [run], [nights])
    assert page_problems(nights, str(tmp_path)) == []
    other = [replace(nights[0], state="ok"), replace(nights[1], failure="another reason")]
    assert page_problems(other, str(tmp_path)) == [
        "panels.line-1.cam-<1> does not say why it failed",
        "plates.line-1.cam-00 is '▲ warning', expected ok",
    ]
    assert page_problems(nights[:1], str(tmp_path)) == [f"{nights[1].camera} is shown, and no camera"]
    more = CameraNight("plates.line-1.cam-02", "run", "2026-05-04", "ok")
    assert page_problems([*nights, more], str(tmp_path)) == [f"{more.camera} is missing"]
    assert page_problems(nights, str(tmp_path / "elsewhere")) == ["there is none"]


def test_the_short_form_is_as_it_must_be(tmp_path: Path) -> None:
    figures = tmp_path / "rehearsal.json"
    command = [sys.executable, "-m", "devtools.rehearsal", "--short", "--json", str(figures)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    found = json.loads(figures.read_text())
    assert [claim["against"] for claim in found["claims"]] == [[]] * 7
    assert len(found["nights"]) == SHORT.nights
    assert all(night["new"] > 0 for night in found["nights"])
