"""A night's plan: what is new, replaced, gone or to be tried again, whatever was killed before."""

from __future__ import annotations

import shutil
from collections import Counter
from datetime import date, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from raysvq.errors import BundleError
from raysvq.ledger.entries import entry_files, spool_entries
from raysvq.results.commit_log import record_uri
from raysvq.scoring.pending import SCHEMA
from raysvq.storage import remove_folder
from tests.fleet.plant import FIRST, Killed, Plant, kill_at

NEXT = FIRST + timedelta(days=1)


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    """Two cameras with three images."""
    plant = Plant(tmp_path)
    plant.land("a", "a1", "a2")
    plant.land("b", "b1")
    return plant


def counts(plant: Plant, folder: Path) -> dict[str, str]:
    """What each camera has to do, in short."""
    folder.mkdir(exist_ok=True)
    return {
        name: f"{each.listed} listed {each.new} new {each.replaced} replaced {each.deleted} deleted"
        f" {each.retried} retried"
        for name, each in plant.plan(folder).cameras.items()
    }


def test_new_images_are_planned_once(plant: Plant, tmp_path: Path) -> None:
    plan = plant.inspect()
    assert {name: each.new for name, each in plan.cameras.items()} == {"a": 2, "b": 1}
    assert plant.results() == plant.expected()
    assert counts(plant, tmp_path / "p") == {
        "a": "2 listed 0 new 0 replaced 0 deleted 0 retried",
        "b": "1 listed 0 new 0 replaced 0 deleted 0 retried",
    }
    assert all(each.pending is None and each.version == 1 for each in plant.plan(tmp_path).cameras.values())


def test_pending_rows_are_those_that_scoring_takes(plant: Plant, tmp_path: Path) -> None:
    plant.land("a", "z", day=None)
    plan = plant.plan(tmp_path)
    pending = plan.cameras["a"].pending
    assert pending
    table = pq.read_table(pending.path)
    assert table.schema == SCHEMA
    assert (pending.images, pending.size_bytes, pending.version, pending.done) == (3, 3, 0, 0)
    assert {(row["uri"], row["folder"], row["rescored"], row["keeps_map"]) for row in table.to_pylist()} == {
        ("/raw/a/2026-05-04/a1.png", "date=2026-05-04", False, False),
        ("/raw/a/2026-05-04/a2.png", "date=2026-05-04", False, False),
        ("/raw/a/None/z.png", "date=__HIVE_DEFAULT_PARTITION__", False, False),
    }


def test_replaced_deleted_and_retried_images(plant: Plant, tmp_path: Path) -> None:
    plant.broken.add(plant.uri("b", FIRST, "b1"))
    plant.inspect()
    plant.today = NEXT
    plant.land("a", "a1", version=2)
    plant.land("a", "a3", day=NEXT)
    del plant.images["a", FIRST, "a2"]
    assert counts(plant, tmp_path / "p") == {
        "a": "2 listed 1 new 1 replaced 1 deleted 0 retried",
        "b": "1 listed 0 new 0 replaced 0 deleted 1 retried",
    }
    plant.broken.clear()
    plan = plant.inspect()
    again = plan.cameras["b"].pending
    assert again
    assert (again.rescored, again.retried, len(again.replaces)) == (1, 1, 1)
    gone = (plant.uri("a", FIRST, "a2"), 1)
    assert plant.results() == plant.expected() | {"a": sorted([*plant.expected()["a"], gone])}
    assert {name: each.pending for name, each in plant.plan(tmp_path).cameras.items()} == {
        "a": None,
        "b": None,
    }
    plant.land("a", "a2")  # it is back
    plan = plant.inspect()
    assert (plan.cameras["a"].replaced, plan.cameras["a"].deleted) == (1, 0)
    assert plant.results() == plant.expected()


def test_images_of_a_camera_that_cannot_be_listed_are_not_gone(plant: Plant, tmp_path: Path) -> None:
    plant.inspect()
    plant.failures["a"] = "access denied"
    plan = plant.plan(tmp_path)
    assert (plan.cameras["a"].failure, plan.cameras["a"].deleted) == ("access denied", 0)
    assert plan.cameras["b"].failure is None


def test_only_entries_of_the_window_are_opened(plant: Plant, tmp_path: Path) -> None:
    plant.land("a", "old", day=FIRST - timedelta(days=5))
    plant.inspect()
    (old,) = entry_files(plant.out, FIRST - timedelta(days=5))
    Path(old.uri).write_bytes(b"not to be opened")
    plant.land("a", "a3")
    assert counts(plant, tmp_path / "p")["a"] == "3 listed 1 new 0 replaced 0 deleted 0 retried"


def test_a_night_killed_anywhere_ends_as_one_never_killed(tmp_path: Path) -> None:
    steps = Counter[str]()
    first = Plant(tmp_path / "first", today=NEXT)
    for camera in ("a", "b"):
        first.land(camera, f"{camera}1")
        first.land(camera, f"{camera}2", day=NEXT)
    first.inspect()
    for wanted in range(1, 40):
        plant = Plant(tmp_path / str(wanted), dict(first.images), cameras={"a", "b"}, today=NEXT, runs=1)
        shutil.copytree(first.folder, plant.folder)
        plant.land("a", "a1", version=2)
        plant.land("a", "a3", "a4", day=NEXT)
        plant.land("b", "b3", day=NEXT)
        try:
            plant.inspect(kill_at(wanted))
        except Killed as killed:
            steps[str(killed)] += 1
        else:
            break
        plant.land("a", "a5", day=NEXT)
        plan = plant.inspect()
        assert plant.results() == plant.expected(), steps
        assert not any(each.failure for each in plan.cameras.values())
        folder = tmp_path / f"{wanted}-after"
        folder.mkdir()
        assert not any(each.pending for each in plant.plan(folder).cameras.values())
        rows = pq.read_table(spool_entries(plant.out, [FIRST, NEXT, None], folder / "all").path).to_pylist()
        known = sorted((row["camera"], row["uri"], row["size_bytes"]) for row in rows)
        assert known == sorted((camera, *row) for camera, some in plant.expected().items() for row in some)
    assert sum(steps.values()) == 10


def test_entries_that_were_cut_off_are_taken_from_the_commits(plant: Plant, tmp_path: Path) -> None:
    plant.inspect()
    for info in entry_files(plant.out, FIRST):
        content = Path(info.uri).read_bytes()
        Path(info.uri).write_bytes(content[: len(content) // 2])
    plan = plant.plan(tmp_path)
    assert {name: (each.new, each.pending) for name, each in plan.cameras.items()} == {
        "a": (0, None),
        "b": (0, None),
    }


@pytest.mark.parametrize("emptied", [True, False])
def test_a_camera_that_was_emptied_or_rolled_back_fails_in_words(
    plant: Plant, tmp_path: Path, emptied: bool
) -> None:
    plant.inspect()
    plant.land("a", "a3")
    plant.inspect()
    plant.land("a", "a4")
    plant.land("b", "b2")
    folder = plant.camera("a").folder(plant.out)
    if emptied:
        remove_folder(folder)
    else:
        Path(record_uri(folder, 2)).unlink()
    plan = plant.plan(tmp_path)
    failure = plan.cameras["a"].failure or ""
    assert f"holds version {0 if emptied else 1}, but the ledger knows version 2" in failure
    assert plan.cameras["a"].pending is None
    assert plan.cameras["b"].pending


def test_groups_are_fields_of_the_template(plant: Plant, tmp_path: Path) -> None:
    plant.group_by = "recipe"
    pending = plant.plan(tmp_path).cameras["b"].pending
    assert pending
    assert pq.read_table(pending.path)["decision_group"].to_pylist() == ["b"]
    plant.group_by = "lot"
    failure = plant.plan(tmp_path).cameras["a"].failure
    assert failure
    assert "no image of camera a has 'lot'" in failure


def test_a_model_that_cannot_be_opened_fails_its_camera_alone(
    plant: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def group_by(camera: object) -> None:
        if getattr(camera, "name", "") == "a":
            raise BundleError("no bundle there")

    real = plant.plan.__globals__["plan_night"]
    monkeypatch.setitem(
        plant.plan.__globals__, "plan_night", lambda *given: real(*given[:5], group_by, given[-1])
    )
    plan = plant.plan(tmp_path)
    assert (plan.cameras["a"].failure, plan.cameras["a"].pending) == ("no bundle there", None)
    assert plan.cameras["b"].pending


def test_what_was_skipped_and_nights_that_were_missed_are_made_up_for(plant: Plant) -> None:
    plant.inspect()
    for days in range(1, 8):
        plant.today = FIRST + timedelta(days=days)
        plant.land("a", f"a-{days}", day=plant.today)
        plant.land("b", f"b-{days}", day=plant.today)
        if days in (1, 2, 6):
            plant.inspect(only=["a"])  # b is skipped
    assert plant.results() != plant.expected()
    plant.inspect()
    assert plant.results() == plant.expected()


def test_a_camera_whose_nights_are_forgotten_is_caught_up(plant: Plant, tmp_path: Path) -> None:
    plant.inspect()
    plant.land("a", "a3")
    plant.inspect()
    remove_folder(f"{plant.out}/ledger")
    assert counts(plant, tmp_path / "p")["a"] == "3 listed 0 new 0 replaced 0 deleted 0 retried"
    assert date(2026, 5, 4) == FIRST
