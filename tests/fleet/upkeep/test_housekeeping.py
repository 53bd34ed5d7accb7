"""House-keeping under readers: they see the same all the time; killed anywhere it ends the same."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from raysvq.fleet.settings.file import load_fleet
from raysvq.fleet.settings.fleet import Fleet
from raysvq.fleet.upkeep import housekeeping
from raysvq.fleet.upkeep.housekeeping import HouseReport, keep_house
from raysvq.ledger.entries import entry_files, spool_entries
from raysvq.ledger.nights import read_nights
from raysvq.results import open_results
from raysvq.results.format import SCHEMAS
from raysvq.storage import create_file, put_file, remove_file, write_bytes
from tests.fleet.plant import FIRST, Killed, Plant, kill_at

GRACE = timedelta(hours=24)
TODAY = datetime.now(UTC).date()  # also when midnight passes in between
# So long that the results of FIRST go, and later ones stay.
DAYS = (TODAY - FIRST).days - 1
RETENTION = f"retention_days: {DAYS}"

Seen = dict[str, Any]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Plant:
    """Two cameras after five nights."""
    plant = Plant(tmp_path_factory.mktemp("built") / "plant")
    for number in range(5):
        plant.today = FIRST + timedelta(days=number // 2)
        plant.land("a", f"a{number}", day=plant.today)
        if number == 1:
            plant.land("a", "a0", version=2)
            plant.land("b", "b0")
        plant.inspect()
    return plant


@pytest.fixture
def plant(built: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plant:
    """A copy of it, where there are many commits and nights already."""
    monkeypatch.setattr(housekeeping, "MANY_COMMITS", 4)
    monkeypatch.setattr(housekeeping, "NIGHTS_APART", 2)
    monkeypatch.setattr(housekeeping, "MANY_NIGHTS", 2)
    monkeypatch.setattr(Fleet, "today", lambda fleet, now: TODAY)
    return copy_of(built, tmp_path / "plant")


def copy_of(plant: Plant, folder: Path) -> Plant:
    """The same cameras and files elsewhere."""
    shutil.copytree(plant.folder, folder)
    return replace(plant, folder=folder, images=dict(plant.images), cameras=set(plant.cameras))


def fleet_of(plant: Plant, retention: str = "") -> Fleet:
    """As its file would say it."""
    file = plant.folder / "fleet.yaml"
    images = "/raw/{camera}/{date:%Y-%m-%d}/{name}.png"
    file.write_text(
        f"fleet: plant\nout: {plant.out}\ntimezone: UTC\nlateness_days: 2\n"
        f"cameras:\n  - images: '{images}'\n    model: model\n    {retention}\n"
    )
    return load_fleet(str(file))


def house(plant: Plant, grace: timedelta = GRACE, retention: str = "", plan: bool = False) -> HouseReport:
    """One house-keeping."""
    return keep_house(fleet_of(plant, retention), grace, lambda: None, plan)


def seen(plant: Plant) -> Seen:
    """All that readers see: results, entries and nights."""
    found: Seen = {"nights": read_nights(plant.out)}
    for camera in sorted(plant.cameras):
        for kind in SCHEMAS:
            rows = open_results(plant.camera(camera).folder(plant.out), kind).to_table().to_pylist()
            found[f"{camera} {kind}"] = sorted(rows, key=lambda row: str(row["image_id"]))
    entries = spool_entries(
        plant.out, [FIRST + timedelta(days=n) for n in range(9)], plant.folder / "entries"
    )
    found["entries"] = sorted(pa_rows(entries.path), key=str)
    return found


def pa_rows(path: Path) -> list[Any]:
    """Rows of a local Parquet file."""
    rows: list[Any] = pq.read_table(path).to_pylist()
    return rows


def test_readers_see_the_same_and_a_second_time_there_is_nothing_to_do(plant: Plant) -> None:
    before = seen(plant)
    planned = house(plant, plan=True)
    assert (planned.merged, planned.nights, planned.dates) == (
        {"a": 4},
        3,
        {"2026-05-04": 4, "2026-05-05": 2},
    )
    report = house(plant)
    assert (report.merged, report.nights, report.dates, report.failures) == (
        planned.merged,
        planned.nights,
        planned.dates,
        {},
    )
    assert seen(plant) == before
    assert len(entry_files(plant.out, FIRST)) == 5
    assert list(house(plant).lines()) == ["nothing to do: the fleet is in order"]


def test_after_the_grace_time_what_was_merged_goes(plant: Plant) -> None:
    before = seen(plant)
    house(plant, timedelta(0))
    lines = list(house(plant, timedelta(0)).lines())
    assert len(entry_files(plant.out, FIRST)) == 1
    assert lines[-1] == "9 files of the ledger that no reader needs removed"
    assert seen(plant) == before
    plant.land("a", "new", day=plant.today)
    plan = plant.inspect()
    assert {name: each.new for name, each in plan.cameras.items()} == {"a": 1, "b": 0}


def test_results_past_their_retention_go_and_are_not_scored_again(plant: Plant) -> None:
    folder = plant.camera("a").folder(plant.out)
    old, young = f"{folder}/heatmaps/old.jpg", f"{folder}/heatmaps/young.jpg"
    for uri in (old, young):
        write_bytes(uri, b"")
    day = (datetime.now(UTC) - timedelta(days=DAYS + 9)).timestamp()
    os.utime(old, (day, day))
    before = seen(plant)
    reader = open_results(folder, "scores")
    report = house(plant, retention=RETENTION, plan=True)
    assert report.dropped == {"a": 2, "b": 1}
    assert seen(plant) == before
    report = house(plant, retention=RETENTION)
    assert report.dropped == {"a": 2, "b": 1}
    assert (Path(old).exists(), Path(young).exists()) == (False, True)
    after = seen(plant)
    assert [row["uri"] for row in after["a scores"]] == [
        row["uri"] for row in before["a scores"] if "2026-05-04" not in row["uri"]
    ]
    assert after["b scores"] == []
    assert after["entries"] == before["entries"]
    assert reader.count_rows() == len(before["a scores"])  # who opened before reads on
    assert not house(plant, retention=RETENTION).dropped
    plant.land("a", "a0", version=3)  # replaced, though its row is gone
    plant.land("b", "b9", day=plant.today)
    plan = plant.inspect()
    pending = plan.cameras["a"].pending
    assert pending
    assert (plan.cameras["a"].replaced, pending.rescored, pending.replaces) == (1, 0, ())
    assert {name: each.new for name, each in plan.cameras.items()} == {"a": 0, "b": 1}
    house(plant, timedelta(0))
    assert len(seen(plant)["a scores"]) == len(after["a scores"]) + 1


def test_the_longest_retention_of_a_camera_counts_and_none_is_for_ever(plant: Plant) -> None:
    fleet = fleet_of(plant, RETENTION)
    (night, *_) = read_nights(plant.out)[-1]
    assert housekeeping.retention_days(fleet, night) == DAYS
    assert housekeeping.retention_days(fleet_of(plant), night) is None


def test_what_fails_at_one_camera_is_named(plant: Plant) -> None:
    (record,) = Path(plant.camera("b").folder(plant.out), "_commits").glob("*.json")
    record.rename(record.with_name(f"{3:020d}.json"))
    report = house(plant)
    assert list(report.failures) == ["b"]
    assert "00000000000000000002.json is missing" in report.failures["b"]
    assert report.merged == {"a": 4}


WRITES: dict[str, Callable[..., Any]] = {
    "write_bytes": write_bytes,
    "create_file": create_file,
    "put_file": put_file,
    "remove_file": remove_file,
}


def test_killed_between_any_two_writes_the_next_one_ends_the_same(
    plant: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = ["raysvq.ledger.entries", "raysvq.ledger.merge", "raysvq.ledger.nights", "raysvq.ledger.runs"]
    modules += ["raysvq.results.commit_log", "raysvq.results.writer", "raysvq.results.expire"]
    retention = RETENTION

    def run(plant: Plant, step: Callable[[str], None]) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(housekeeping, "WORKERS", 1)
            for module in modules:
                for name, real in WRITES.items():

                    def stepping(*given: Any, real: Callable[..., Any] = real, name: str = name) -> Any:
                        step(name)
                        return real(*given)

                    patch.setattr(f"{module}.{name}", stepping, raising=False)
            house(plant, timedelta(0), retention)

    before, expected = seen(plant), None
    kills = 0
    for wanted in range(1, 60, 4):
        mine = copy_of(plant, tmp_path / str(wanted))
        try:
            run(mine, kill_at(wanted))
        except Killed:
            kills += 1
        in_the_middle = seen(mine)
        house(mine, timedelta(0), retention)
        after = seen(mine)
        expected = expected or after
        assert after == expected
        assert in_the_middle["entries"] == expected["entries"]
        assert in_the_middle["nights"] == expected["nights"]
        for camera in ("a", "b"):  # all rows, or those without the dropped ones
            rows = in_the_middle[f"{camera} scores"]
            assert rows in (after[f"{camera} scores"], before[f"{camera} scores"])
    assert kills > 8
