"""Inspections that are killed at each of their steps, and the crash table of the docs."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from raysvq.errors import DataError
from raysvq.fleet import inspect as inspection
from raysvq.ledger.nights import read_nights
from raysvq.ledger.records import SCORED
from raysvq.ledger.runs import read_runs
from tests.fleet.world import World

pytestmark = pytest.mark.usefixtures("small_cluster")
ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize(
    "place",
    [
        pytest.param("raysvq.fleet.inspect.prepare", id="before anything is listed"),
        pytest.param("raysvq.fleet.inspect.note_unfinished", id="before the note"),
        pytest.param("raysvq.fleet.night.work.score_parts", id="before the first image"),
        pytest.param("raysvq.fleet.night.entering.append_entries", id="between commit and ledger"),
        pytest.param("raysvq.fleet.inspect.write_nights", id="before the nights"),
        pytest.param("raysvq.fleet.inspect.tell", id="before anybody is told"),
        pytest.param("raysvq.fleet.inspect.publish_run", id="before the record"),
        pytest.param("raysvq.fleet.inspect.clear_unfinished", id="behind the record"),
    ],
)
def test_killed_at_any_step_the_next_run_ends_with_the_same(world: World, place: str) -> None:
    world.inspect_killed(place)
    run = world.inspect()
    recorded = read_runs(world.out, 9)
    assert sum(each.scored for each in recorded) == 5  # each image counts in one run, and in one only
    assert sum(night.new for nights in read_nights(world.out, 9) for night in nights) == 5
    assert world.scored("north.a") == ["a1", "a2", "a3"]
    assert world.scored("north.b") == ["b1", "b2"]
    assert world.ledger() == dict.fromkeys(["a1", "a2", "a3", "b1", "b2"], SCORED)
    assert not list(Path(world.out, "ledger/unfinished").glob("*"))
    assert run.exit_code == 0
    assert world.inspect().scored == 0


def test_what_was_finished_is_taken_over(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.inspect_killed("raysvq.scoring.run.publish")
    capsys.readouterr()
    assert world.inspect().scored == 5
    printed = capsys.readouterr().out
    assert "cameras/north.a: took over 3 images" in printed
    assert "cameras/north.b: took over 2 images" in printed
    assert world.scored("north.a") == ["a1", "a2", "a3"]


def test_what_a_killed_run_committed_is_entered_though_its_images_are_gone(world: World) -> None:
    world.inspect_killed("raysvq.fleet.night.entering.append_entries")
    shutil.rmtree(world.folder / "raw/north/a")
    world.inspect()
    assert world.ledger()["a1"] == SCORED
    assert world.nights()["north.a"].scored == 3


def test_a_run_that_wakes_after_another_one_finished_has_no_record(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease was taken over while it was halted; its own check came too early."""
    publish = inspection.publish_run

    def halted(out: str, run: Any) -> str:
        monkeypatch.setattr(inspection, "publish_run", publish)
        shutil.rmtree(f"{out}/_leases")  # as if its holder had died
        Path(out, "ledger/nights", f"{run.number:020d}.parquet").unlink()  # both chose the same number
        world.inspect()
        return publish(out, run)

    monkeypatch.setattr(inspection, "publish_run", halted)
    with pytest.raises(DataError, match="another run of this fleet has finished since"):
        world.inspect()
    (run,) = read_runs(world.out, 9)
    assert run.scored == 5
    assert world.inspect().scored == 0


def test_every_row_of_the_crash_table_names_a_test_that_exists() -> None:
    _, found, below = (ROOT / "docs/fleet.md").read_text().partition("## Killed at any instant\n")
    assert found
    rows = [line for line in below.partition("\n## ")[0].splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 10
    here = Path(__file__).read_text()
    for row in rows:
        test = row.rstrip(" |").rpartition("| ")[2]
        if named := re.fullmatch(r"\[`(\w+)`\]\(\.\./(tests/[\w/]+\.py)\)", test):
            assert f"def {named[1]}(" in (ROOT / named[2]).read_text(), row
        elif test != "as there":
            assert f'id="{test.strip("`")}"' in here, row
