"""Trouble stays where it is, and no image is lost, scored twice or counted twice for it."""

from __future__ import annotations

import shutil
from datetime import date, timedelta
from typing import Any

import pytest

from raysvq.errors import DataError, SettingsError
from raysvq.fleet.night.unfinished import note_unfinished
from raysvq.ledger.nights import read_nights
from raysvq.ledger.records import SCORED
from raysvq.model.alias import promote
from tests.fleet.world import FIRST, SECOND, World

pytestmark = pytest.mark.usefixtures("small_cluster")


def _land(world: World, path: str) -> None:
    """Put one more image somewhere below the world's folder."""
    target = world.folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(world.path("north.a", FIRST, "a1"), target)


def _templates(world: World, *templates: str) -> None:
    world.values = {"cameras": [{"images": f"{world.folder}/{template}"} for template in templates]}


def test_a_known_camera_whose_overrides_contradict_each_other_fails_alone(world: World) -> None:
    world.inspect()
    world.put("north.a", SECOND, "a4")
    world.values = {
        "overrides": [
            {"match": {"camera": "b"}, "expect": {"warn_after": "2d"}},
            {"match": {"site": "north", "camera": "b*"}, "expect": {"error_after": "1d"}},
        ],
    }
    run = world.inspect(SECOND)
    assert (run.scored, run.failed, run.exit_code) == (1, 1, 1)
    assert "warn_after is longer" in str(world.nights()["north.b"].failure)


def test_a_folder_that_is_missing_fails_no_camera_of_another_entry(world: World) -> None:
    world.inspect()
    shutil.rmtree(world.folder / "raw/north/b")
    below = "{site}/{camera}/{date:%Y-%m-%d}/{name}.png"
    _templates(world, f"raw/{below}", f"absent/{below}")
    run = world.inspect(SECOND)
    assert (run.by_state, run.exit_code) == ({"quiet": 2}, 1)


@pytest.mark.parametrize("gone", [False, True])
def test_an_alias_that_changes_after_planning(
    world: World, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    other, version = world.another_model()
    alias = world.folder / "models@b"
    promote(str(alias), other)
    world.values = {"overrides": [{"match": {"camera": "b"}, "model": str(alias)}]}

    def changed(*arguments: Any) -> None:
        note_unfinished(*arguments)
        if gone:
            (world.folder / "models/b.alias.json").unlink()
        else:
            promote(str(alias), str(world.folder / "model"))

    monkeypatch.setattr("raysvq.fleet.inspect.note_unfinished", changed)
    assert world.inspect().scored == 5
    assert world.nights()["north.b"].model_version == version


def test_a_reference_that_is_damaged_leaves_the_others_watched(world: World) -> None:
    other, _ = world.another_model()
    (world.folder / "other/reference.parquet").write_bytes(b"no table")
    world.values = {"overrides": [{"match": {"camera": "b"}, "model": other}]}
    (problem,) = world.inspect().problems
    assert "reference.parquet cannot be read" in problem
    assert all("exposure" in night.signals for night in world.nights().values())


def test_what_runs_passed_by_counts_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raysvq.fleet.planning.asked.HISTORY", 2)
    world.inspect()
    for _ in range(2):
        world.inspect(only=("*.a",))
    assert world.inspect().scored == 0
    for _ in range(2):
        world.inspect(only=("*.a",))
    world.put("north.b", FIRST, "b3")
    assert world.inspect().scored == 1
    assert sum(night.new for nights in read_nights(world.out) for night in nights) == 6


def test_what_a_killed_run_committed_is_entered_though_its_folder_is_empty(world: World) -> None:
    world.inspect_killed("raysvq.fleet.night.entering.append_entries")
    for name in ("a1", "a2", "a3"):
        world.path("north.a", FIRST, name).unlink()
    world.inspect()
    assert world.nights()["north.a"].scored == 3
    assert world.ledger()["a1"] == SCORED


def test_the_note_of_a_killed_run_goes_though_its_camera_was_taken_out(world: World) -> None:
    world.inspect_killed("raysvq.fleet.night.work.score_parts")
    shutil.rmtree(world.folder / "raw/north/b")
    _templates(world, "raw/north/{camera}/{date:%Y-%m-%d}/{name}.png")
    world.inspect()
    assert not list((world.folder / "fleet/ledger/unfinished").glob("*"))


def test_a_first_run_over_some_days_hides_none_before_them(world: World) -> None:
    world.put("north.a", FIRST - timedelta(days=10), "old")
    assert world.inspect(since=FIRST).scored == 5
    assert world.inspect(SECOND).scored == 1


def test_a_run_over_some_cameras_hides_no_day_of_others_where_dates_come_first(world: World) -> None:
    for camera in ("a", "b"):
        for day in (FIRST, FIRST - timedelta(days=10)):
            _land(world, f"flat/north/{day}/{camera}_1.png")
    _templates(world, "flat/{site}/{date:%Y-%m-%d}/{camera}_{name}.png")
    assert world.inspect(only=("*.a",)).scored == 2
    assert world.inspect().scored == 2

    _land(world, f"more/{FIRST - timedelta(days=10)}/c_1.png")
    world.values["cameras"].append(
        {"images": f"{world.folder}/more/{{date:%Y-%m-%d}}/{{camera}}_{{name}}.png"}
    )
    assert world.inspect().scored == 1


def test_an_image_whose_day_is_read_otherwise_is_not_there_twice(world: World) -> None:
    _land(world, "flat/north/a/20260412_20260504_x.png")
    _templates(world, "flat/{site}/{camera}/{date:%Y%m%d}_{*}_{name}.png")
    assert world.inspect(SECOND).scored == 1
    _templates(world, "flat/{site}/{camera}/{*}_{date:%Y%m%d}_{name}.png")
    world.inspect(SECOND)
    assert world.scored("north.a") == ["20260412_20260504_x"]
    assert world.inspect(SECOND).scored == 0


def test_a_prefix_that_is_emptied_has_its_images_noted_as_gone(world: World) -> None:
    _land(world, "whole/w1.png")
    (world.folder / "whole/note.txt").touch()
    images = f"{world.folder}/whole/{{name}}.png"
    world.values = {"cameras": [{"images": images, "camera": "w", "whole_prefix": True}]}
    world.inspect()
    (world.folder / "whole/w1.png").unlink()
    world.inspect(SECOND)
    assert world.nights()["w"].deleted == 1


def test_a_fleet_without_an_image_of_its_days_could_not_run(world: World) -> None:
    _templates(world, "raw/{site}/{date:%Y-%m-%d}/{camera}_{name}.png")
    run = world.inspect()
    assert (run.cameras, run.exit_code) == (0, 2)
    assert "no camera has an image of 2026-04-03 to 2026-05-04" in str(run.problems)


def test_a_run_without_a_failed_camera_cannot_be_repaired(world: World) -> None:
    _templates(world, "absent/{site}/{camera}/{date:%Y-%m-%d}/{name}.png")
    assert world.inspect().exit_code == 2
    world.values = {}
    with pytest.raises(DataError, match=r"--repair 1: .*nothing to repair .*absent: no such file"):
        world.inspect(None, repair="1")


def test_a_night_to_come_is_refused(world: World) -> None:
    with pytest.raises(SettingsError, match=r"--until 2999-01-01 is in the future"):
        world.inspect(date(2999, 1, 1))
