"""What is printed of a fleet: its state, what a night would do, how a run went; and its exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from raysvq.cli import main
from raysvq.errors import SettingsError
from raysvq.fleet.options import InspectOptions, exit_code, matches
from raysvq.fleet.views.summary import MAX_LINES, summary_lines
from raysvq.ledger.nights import write_nights
from raysvq.ledger.records import CameraNight, Finding
from raysvq.ledger.runs import publish_run
from tests.fleet.world import FIRST, SECOND, World
from tests.ledger.test_records import RUN as RECORD

ROOT = Path(__file__).parents[3]
NIGHT = CameraNight("north.a", "r1", "2026-05-04", "ok", new=3, scored=3, model_version="m1", version=1)
DARK = Finding("north.b", "exposure", "warning", "north.b is 0.8 stops darker", -0.8)
RUN = replace(
    RECORD,
    run_id="r1",
    arguments={},
    cameras=2,
    by_state={"ok": 1, "failed": 1},
    listed=5,
    scored=3,
    rejected=0,
    skipped=2,
    failed=1,
    problems=("alert route ops: no answer",),
    exit_code=1,
)
FAILED = replace(NIGHT, camera="north.b", state="failed", failure="no model", findings=(DARK,), scored=0)


def _prints(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(str(ended.value.code)), capsys.readouterr().out


@pytest.fixture
def inspected(tmp_path: Path) -> World:
    """A ledger of one run over two cameras, one of which failed."""
    world = World(tmp_path)
    write_nights(world.out, 1, [NIGHT, FAILED])
    publish_run(world.out, RUN)
    return world


def test_status_has_the_worst_first_and_says_why(
    inspected: World, capsys: pytest.CaptureFixture[str]
) -> None:
    code, printed = _prints(capsys, "inspect", "--fleet", inspected.file(), "--status")
    lines = printed.splitlines()
    assert code == 0
    assert [line.split()[:2] for line in lines[:2]] == [["camera", "state"], ["north.b", "failed"]]
    assert [line.strip() for line in lines[2:4]] == ["no model", "north.b is 0.8 stops darker"]
    assert lines[4].split()[:3] == ["north.a", "ok", "2026-05-04"]
    assert "exit code 1: 1 ok, 1 failed" in lines[5]
    assert lines[6] == "problem: alert route ops: no answer"


def test_status_as_json_is_of_the_cameras_asked_for(
    inspected: World, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["inspect", "--fleet", inspected.file(), "--status", "--json", "--only", "*.a"]
    _, printed = _prints(capsys, *arguments)
    values = json.loads(printed)
    assert values["run"]["number"] == 1
    assert [camera["camera"] for camera in values["cameras"]] == ["north.a"]
    assert values["cameras"][0]["scored"] == 3


def test_json_is_of_status_and_check_alone(inspected: World, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["inspect", "--fleet", inspected.file(), "--json"])
    assert ended.value.code == 2
    assert "--json goes with --status or --check" in capsys.readouterr().err


def test_status_of_a_fleet_that_no_run_has_seen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, printed = _prints(capsys, "inspect", "--fleet", World(tmp_path).file(), "--status")
    assert printed.startswith("no run has finished in ")


def test_a_dry_run_says_what_would_be_done_and_does_nothing(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["inspect", "--fleet", world.file(), "--dry-run", "--until", FIRST.isoformat()]
    code, printed = _prints(capsys, *arguments)
    assert code == 0
    rows = {line.split()[0]: line.split() for line in printed.splitlines()}
    assert rows["north.a"][1:9] == ["2026-04-03", "to", "2026-05-04", "3", "3", "0", "0", "0"]
    assert "5 images of 0.0 MB to score at 2 cameras, with 1 model(s)" in printed
    assert "nothing is known of the time" in printed
    assert not Path(world.out).exists()


def test_a_dry_run_knows_the_pace_of_earlier_runs(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    publish_run(world.out, RUN)
    _, printed = _prints(capsys, "inspect", "--fleet", world.file(), "--dry-run", "--until", str(SECOND))
    assert "at 10.0 images/s as in the last runs" in printed


@pytest.mark.parametrize("way", ["--status", "--until=2026-05-04"])
def test_looking_and_a_night_without_work_import_neither_ray_nor_pytorch(tmp_path: Path, way: str) -> None:
    world = World(tmp_path)
    code = f"""
import sys
sys.argv = ["raysvq", "inspect", "--fleet", {world.file()!r}, {way!r}]
from raysvq.cli import main
try:
    main()
except SystemExit:
    print([name for name in ("ray", "torch") if name in sys.modules])
"""
    environment = {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert ended.stdout.splitlines()[-1] == "[]", ended.stderr


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"since": SECOND, "until": FIRST}, "--since 2026-05-05 is after --until 2026-05-04"),
        ({"repair": "3", "since": FIRST}, "leave out --since"),
        ({"rescore": "model"}, "needs --since"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, object], why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        InspectOptions(**options)  # type: ignore[arg-type]


def test_patterns_are_of_names_and_their_case() -> None:
    assert matches("north.a", ())
    assert matches("north.a", ("south.*", "north.?"))
    assert not matches("North.a", ("north.*",))


@pytest.mark.parametrize(
    ("nights", "unlisted", "fail_on", "code"),
    [
        ([NIGHT], False, "error", 0),
        ([], False, "error", 0),
        ([NIGHT, FAILED], False, "never", 1),
        ([FAILED], False, "never", 2),
        ([], True, "error", 2),
        ([NIGHT], True, "error", 1),
        ([replace(NIGHT, findings=(DARK,))], False, "error", 0),
        ([replace(NIGHT, findings=(DARK,))], False, "warning", 1),
        ([replace(NIGHT, findings=(replace(DARK, level="error"),))], False, "error", 1),
        ([replace(NIGHT, findings=(replace(DARK, level="error"),))], False, "never", 0),
    ],
)
def test_exit_codes(nights: list[CameraNight], unlisted: bool, fail_on: str, code: int) -> None:
    assert exit_code(nights, unlisted, fail_on) == code  # type: ignore[arg-type]


def test_a_summary_names_what_failed_and_is_not_endless() -> None:
    lines = list(summary_lines(RUN, {"north.a": NIGHT, "north.b": FAILED}))
    assert lines[0] == "fleet plant, night of 2026-05-04, run 1: 1 of 2 cameras inspected, 1 failed"
    assert "3 images scored, 1 anomalous, 0 rejected, 2 left for the next run; 10.0 images/s" in lines
    assert "  failed: north.b: no model" in lines
    assert "  warning: north.b is 0.8 stops darker" in lines
    many = {f"c{n}": replace(FAILED, camera=f"c{n}", findings=()) for n in range(MAX_LINES + 5)}
    assert sum("no model" in line for line in summary_lines(RUN, many)) == MAX_LINES
    assert "  and 5 more cameras that failed; `raysvq inspect --status` has them" in summary_lines(RUN, many)
