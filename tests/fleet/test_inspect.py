"""Nights of a small fleet: what is new is scored once, what fails is named, what is killed goes on."""

from __future__ import annotations

import shutil
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from raysvq.errors import DataError
from raysvq.fleet import inspect as inspection
from raysvq.fleet.housekeeping import keep_house
from raysvq.ledger.nights import read_nights
from raysvq.ledger.records import SCORED
from raysvq.ledger.runs import read_runs
from raysvq.results import read_results
from tests.fleet.world import FIRST, SECOND, World

pytestmark = pytest.mark.usefixtures("small_cluster")


def test_two_nights_score_each_image_once_and_say_so(world: World) -> None:
    first = world.inspect()
    assert (first.number, first.scored, first.failed, first.exit_code) == (1, 5, 0, 0)
    nights = world.nights()
    assert {name: (night.new, night.scored, night.state) for name, night in nights.items()} == {
        "north.a": (3, 3, "ok"),
        "north.b": (2, 2, "ok"),
    }
    assert nights["north.a"].fields == {"site": "north", "camera": "a"}
    assert nights["north.a"].model_version
    assert nights["north.a"].version == 1
    assert len(nights["north.a"].worst) == 3

    world.put("north.a", SECOND, "a4")
    world.put("north.c", SECOND, "c1")
    second = world.inspect(SECOND)
    assert (second.number, second.scored, second.cameras) == (2, 2, 3)
    assert world.nights()["north.b"].state == "quiet"
    assert world.scored("north.a") == ["a1", "a2", "a3", "a4"]
    assert world.scored("north.c") == ["c1"]
    assert world.ledger() == {**world.outcomes("north.a"), **world.outcomes("north.b"), "c1": SCORED}
    assert [run.number for run in read_runs(world.out, 5)] == [1, 2]


def test_a_night_without_anything_new_starts_no_ray(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world.inspect()
    monkeypatch.setattr("raysvq.fleet.work.score_night", None)
    run = world.inspect(SECOND)
    assert (run.scored, run.exit_code, run.by_state) == (0, 0, {"quiet": 2})
    assert world.nights()["north.a"].model_version == read_nights(world.out, 2)[0][0].model_version
    assert "nothing to score" in capsys.readouterr().out


def test_what_is_replaced_is_scored_again_and_what_is_gone_is_noted(world: World) -> None:
    world.inspect()
    before = world.rows("north.a")
    world.put("north.a", FIRST, "a2", seed=7)
    world.path("north.a", FIRST, "a3").unlink()
    run = world.inspect(SECOND)
    night = world.nights()["north.a"]
    assert (run.scored, night.replaced, night.deleted, night.new) == (1, 1, 1, 0)
    rows = world.rows("north.a")
    assert rows["a2"] != before["a2"]
    assert rows["a1"] == before["a1"]
    assert world.ledger()["a3"] == "deleted"
    assert world.inspect(SECOND).scored == 0


def test_late_images_and_missed_nights_are_made_up_for(world: World) -> None:
    world.inspect()
    world.put("north.a", FIRST - timedelta(days=2), "late")
    later = FIRST + timedelta(days=9)
    world.put("north.b", FIRST + timedelta(days=5), "missed")
    run = world.inspect(later)
    assert run.scored == 2
    assert world.nights()["north.b"].listed_since == (FIRST - timedelta(days=3)).isoformat()
    assert "late" in world.scored("north.a")
    assert "missed" in world.scored("north.b")


def test_a_broken_image_is_rejected_once(world: World) -> None:
    world.path("north.a", FIRST, "broken").write_bytes(b"no image")
    assert (run := world.inspect()).rejected == 1
    assert run.exit_code == 0
    assert world.nights()["north.a"].rejects == {"not_an_image": 1}
    assert world.scored("north.a", "rejects") == ["broken"]
    assert world.inspect(SECOND).rejected == 0


def test_a_camera_whose_model_is_missing_is_named_and_the_others_go_on(world: World) -> None:
    world.values = {"overrides": [{"match": {"camera": "b"}, "model": str(world.folder / "absent")}]}
    run = world.inspect()
    assert (run.scored, run.failed, run.skipped, run.exit_code) == (3, 1, 2, 1)
    night = world.nights()["north.b"]
    assert night.state == "failed"
    assert "absent" in str(night.failure)
    world.values = {}
    assert world.inspect(FIRST + timedelta(days=20)).scored == 2  # listed again from where it failed


def test_where_no_camera_can_be_scored_nothing_could_run(world: World) -> None:
    shutil.rmtree(world.folder / "model")
    assert world.inspect().exit_code == 2


def test_a_run_beside_another_is_refused_or_waits(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    at_work, go_on = threading.Event(), threading.Event()
    prepare = inspection.prepare

    def halted(*arguments: Any) -> Any:
        at_work.set()
        go_on.wait(30)
        return prepare(*arguments)

    monkeypatch.setattr(inspection, "ASK_AGAIN_S", 0.1)
    monkeypatch.setattr(inspection, "prepare", halted)
    runs: list[int] = []
    first = threading.Thread(target=lambda: runs.append(world.inspect().scored))
    first.start()
    assert at_work.wait(30)
    monkeypatch.setattr(inspection, "prepare", prepare)
    with pytest.raises(DataError, match=r"being written by run .*--wait SECONDS"):
        world.inspect()
    threading.Timer(0.5, go_on.set).start()
    runs.append(world.inspect(wait_s=60).scored)
    first.join()
    assert sorted(runs) == [0, 5]
    assert [run.scored for run in read_runs(world.out, 2)] == [5, 0]


def test_a_camera_that_is_gone_is_late_until_it_is_given_up(world: World) -> None:
    world.inspect()
    shutil.rmtree(world.folder / "raw/north/b")
    assert world.inspect(SECOND).by_state == {"quiet": 2}
    assert world.inspect(FIRST + timedelta(days=80)).cameras == 1


def test_where_nothing_is_found_any_more_every_camera_fails(world: World) -> None:
    world.inspect()
    shutil.rmtree(world.folder / "raw")
    run = world.inspect(SECOND)
    assert (run.failed, run.exit_code) == (2, 2)
    assert str(world.folder / "raw") in str(world.nights()["north.a"].failure)


def test_only_some_cameras(world: World) -> None:
    run = world.inspect(only=("*.b",))
    assert (run.cameras, run.scored, run.arguments) == (1, 2, {"only": ["*.b"], "until": FIRST.isoformat()})
    with pytest.raises(DataError, match=r"fits --only x\*"):
        world.inspect(only=("x*",))
    assert world.inspect().scored == 3


def test_days_that_are_asked_for(world: World) -> None:
    world.put("north.a", FIRST - timedelta(days=40), "old")
    assert world.inspect().scored == 5
    run = world.inspect(since=FIRST - timedelta(days=40))
    assert run.scored == 1
    assert "old" in world.scored("north.a")


def test_another_model_over_past_days_has_results_of_its_own(world: World) -> None:
    world.inspect()
    other, version = world.another_model()
    before = world.ledger()
    run = world.inspect(rescore=other, since=FIRST)
    assert run.scored == 5
    rescored = f"{world.out}/rescored/{version}/cameras/north.a"
    assert {each.model_version for each in read_results(rescored).runs} == {version}
    assert world.ledger() == before
    assert len(read_runs(world.out, 9)) == 1
    assert world.inspect(rescore=other, since=FIRST).scored == 0


def test_what_failed_in_a_run_is_repaired(world: World) -> None:
    hidden = world.folder / "hidden"
    world.values = {"overrides": [{"match": {"camera": "b"}, "model": str(hidden)}]}
    failed = world.inspect()
    shutil.copytree(world.folder / "model", hidden)
    world.put("north.a", FIRST, "a4")
    run = world.inspect(None, repair=str(failed.number))
    assert (run.cameras, run.scored, run.night) == (1, 2, FIRST.isoformat())
    assert set(world.nights()) == {"north.b"}
    with pytest.raises(DataError, match="--repair 2: that run left nothing to repair"):
        world.inspect(None, repair="2")
    with pytest.raises(DataError, match=r"--repair 77: .* has no such run; the last ones are 1 to 2"):
        world.inspect(None, repair="77")


def test_nights_go_on_after_house_keeping(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.inspect()
    world.put("north.a", FIRST, "a4")
    world.inspect(SECOND)
    monkeypatch.setattr("raysvq.fleet.housekeeping.MANY_COMMITS", 1)
    report = keep_house(world.fleet(), timedelta(0), lambda: None)
    assert report.merged.keys() == {"north.a"}
    world.put("north.a", SECOND, "a5")
    run = world.inspect(SECOND)
    assert (run.scored, world.nights()["north.a"].new) == (1, 1)
    assert world.scored("north.a") == ["a1", "a2", "a3", "a4", "a5"]
    assert world.inspect(SECOND).scored == 0


def test_a_ledger_of_a_later_version_is_refused_with_what_to_do(world: World) -> None:
    world.inspect()
    (record,) = Path(world.out, "ledger/runs").glob("*.json")
    record.write_text(record.read_text().replace('"format": 1', '"format": 2'))
    world.put("north.a", SECOND, "a4")
    with pytest.raises(DataError, match="update raysvq"):
        world.inspect(SECOND)


@pytest.mark.parametrize("there", [False, True])
def test_a_fleet_without_a_camera_could_not_run(tmp_path: Path, there: bool) -> None:
    world = World(tmp_path)
    if there:
        (tmp_path / "raw").mkdir()
    run = world.inspect()
    assert (run.cameras, run.exit_code) == (0, 2)
    assert any(str(tmp_path / "raw") in problem for problem in run.problems)
