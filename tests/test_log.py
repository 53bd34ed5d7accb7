"""What raysvq prints: on a terminal, in a log, as JSON lines."""

from __future__ import annotations

import json
import logging
import math
import os
import pickle
import pty
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from raysvq import log
from raysvq.cli import main
from raysvq.log import REPORT_EVERY_S, Format, Line, ProgressMeter, duration

ESCAPE = "\x1b"

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def json_lines(capsys: pytest.CaptureFixture[str]) -> Iterator[Lines]:
    """What was printed since, from stdout and then stderr."""
    log.use(Format.JSON, "score")

    def read() -> list[dict[str, Any]]:
        captured = capsys.readouterr()
        return [json.loads(line) for line in (captured.out + captured.err).splitlines()]

    yield read
    log.use(Format.PLAIN)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (7.4, "7 s"),
        (59.6, "1 min 00 s"),
        (200.0, "3 min 20 s"),
        (3599.4, "59 min 59 s"),
        (3600.0, "1 h 00 min"),
        (7530.0, "2 h 05 min"),
        (360_000.0, "100 h 00 min"),
    ],
)
def test_durations_read_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def _begun(total: int | None, seconds: float, before: int = 0, task: str = "") -> ProgressMeter:
    since = time.monotonic() - seconds
    return ProgressMeter(total, task=task, before=before, started=since, reported=since)


def test_a_line_has_counts_pace_and_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    _begun(100_000, 10_000).update(50_000, 3)
    assert capsys.readouterr().out == "50000/100000 images  5.0 images/s  3 rejected  2 h 46 min left\n"


def test_the_pace_is_of_this_run_alone(capsys: pytest.CaptureFixture[str]) -> None:
    _begun(100_000, 10_000, before=40_000).update(50_000, 3)
    assert capsys.readouterr().out == "50000/100000 images  1.0 images/s  3 rejected  13 h 53 min left\n"


def test_lines_do_not_follow_each_other_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    meter = _begun(100_000, 10_000)
    for done in range(1, 100):
        meter.update(done, 0)
    assert capsys.readouterr().out.count("\n") == 1


def test_the_last_line_is_printed_in_any_case(capsys: pytest.CaptureFixture[str]) -> None:
    meter = _begun(10, REPORT_EVERY_S / 100)
    meter.update(4, 0)
    assert capsys.readouterr().out == ""
    meter.update(10, 2)
    out = capsys.readouterr().out
    assert out.startswith("10/10 images ")
    assert out.endswith(" 2 rejected  0 s left\n")


def test_a_quick_step_beside_the_main_one_is_not_mentioned(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(ProgressMeter(3, task="listing").watched("abc")) == ["a", "b", "c"]
    assert list(ProgressMeter(None, task="listing").watched("abc")) == ["a", "b", "c"]
    assert capsys.readouterr().out == ""


def test_a_long_listing_is_counted_while_its_end_is_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    list(_begun(None, 10, task="listing").watched(range(50)))
    first, last = capsys.readouterr().out.splitlines()
    assert first == "listing  1 images  0.1 images/s"
    assert last == "listing  50 images  5.0 images/s"


def test_lines_of_others_pass_a_throttle_and_progress_now_and_then() -> None:
    throttle = log.Throttle()
    steps = [Line(f"step {n}/40", "progress", done=n, total=40) for n in (1, 2, 40)]
    assert [throttle.passes(line) for line in (*steps, "left out", Line("AUROC", "validation", done=2))] == [
        True,
        False,
        True,
        True,
        True,
    ]


def test_a_line_keeps_its_fields_on_its_way_from_a_worker() -> None:
    line = pickle.loads(pickle.dumps(Line("step 2/4", "progress", done=2, total=4)))
    assert (line, line.event, line.level) == ("step 2/4", "progress", "info")
    assert line.fields == {"done": 2, "total": 4}


def test_names_with_control_characters_cannot_write_to_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    log.info("left out: a\x1b[2Jb\rc\udce9.png\nsecond line")
    assert capsys.readouterr().out == "left out: a\\x1b[2Jb\\rc\\udce9.png\nsecond line\n"


def test_warnings_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    log.warning("the lease is left behind")
    log.warning("waiting for s3://bucket: 503", "waiting")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "warning: the lease is left behind\nwaiting for s3://bucket: 503\n"


def test_json_lines_have_counts_as_numbers(json_lines: Lines) -> None:
    _begun(100_000, 10_000).update(50_000, 3)
    (line,) = json_lines()
    assert line.pop("time").endswith("+00:00")
    assert line.pop("images_per_s") == pytest.approx(5, abs=0.01)
    assert line.pop("seconds_left") == pytest.approx(10_000, abs=5)
    assert line.pop("message").startswith("50000/100000 images ")
    assert line == {
        "level": "info",
        "event": "progress",
        "verb": "score",
        "done": 50_000,
        "total": 100_000,
        "rejected": 3,
    }


def test_json_lines_are_json_whatever_they_hold(json_lines: Lines) -> None:
    log.info("first\nsecond é\udce9", loss=math.nan, best=math.inf, folder=Path("/a"))
    (line,) = json_lines()
    assert line["message"] == "first\nsecond é\udce9"
    assert (line["loss"], line["best"], line["folder"]) == (None, None, "/a")


def test_what_libraries_log_comes_as_json_lines_too(json_lines: Lines) -> None:
    logging.getLogger("a.library").warning("half of it is %s", "missing")
    warnings.warn("it is old", UserWarning, stacklevel=1)
    first, second = json_lines()
    assert (first["level"], first["event"], first["logger"]) == ("warning", "log", "a.library")
    assert first["message"] == "half of it is missing"
    assert "it is old" in second["message"]


def _ends(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str], list[str]]:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    captured = capsys.readouterr()
    assert isinstance(stop.value.code, int)
    return stop.value.code, captured.out.splitlines(), captured.err.splitlines()


def test_an_error_is_one_json_line_with_its_type(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = _ends(capsys, "score", str(tmp_path / "absent.parquet"), "--log", "json")
    assert (code, out) == (2, [])
    (line,) = map(json.loads, err)
    assert (line["level"], line["verb"], line["type"], line["exit_code"]) == (
        "error",
        "score",
        "DataError",
        2,
    )
    assert line["message"].startswith(f"manifest {tmp_path}/absent.parquet does not exist")


@pytest.mark.parametrize("refused", ["--lgo", "--config"])
def test_arguments_that_are_refused_are_json_lines_too(
    refused: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = _ends(capsys, "score", "--log=json", "m.parquet", refused)
    (line,) = map(json.loads, err)
    assert (code, line["exit_code"], line["verb"]) == (2, 2, "score")
    assert refused in line["message"]


def test_an_unknown_format_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = _ends(capsys, "score", "m.parquet", "--log", "jsn")
    assert code == 2
    assert "'jsn' is not one of 'auto', 'plain', 'json'" in err[-1]


def test_the_environment_chooses_json_and_an_option_overrides_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYSVQ_LOG", "json")
    _, out, _ = _ends(capsys, "settings", "--set", "objective.eta=0.7")
    found = {line["key"]: line for line in map(json.loads, out)}
    assert (found["objective.eta"]["value"], found["objective.eta"]["event"]) == (0.7, "setting")
    _, out, _ = _ends(capsys, "settings", "--log", "plain")
    assert out[0].count(" = ") == 1


def test_a_mistake_of_the_program_is_a_json_line_with_the_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("nothing to divide by")

    monkeypatch.setattr("raysvq.cli.results.load_settings", fail)
    code, _, err = _ends(capsys, "settings", "--log", "json")
    (line,) = map(json.loads, err)
    assert (code, line["type"], line["message"]) == (1, "ZeroDivisionError", "nothing to divide by")
    assert "in fail" in line["traceback"]
    with pytest.raises(ZeroDivisionError):
        main(["settings"])


WORK = """
import sys, time
from raysvq import log
log.use(sys.argv[1])
meter = log.ProgressMeter(40)
for done in range(41):
    meter.update(done, 3)
    if done == 20:
        log.info("first half")
        log.warning("slow store", "waiting")
    time.sleep(0.02)
log.info("all of it", "result")
"""


def _on_a_terminal(wanted: str, **environment: str) -> str:
    """What arrives at a terminal of 100 columns."""
    ours, theirs = pty.openpty()
    inherited = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    environment = {"TERM": "xterm", "COLUMNS": "100"} | inherited | environment
    command = [sys.executable, "-c", WORK, wanted]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        received = b""
        while True:
            try:
                received += os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
    os.close(ours)
    assert process.returncode == 0
    return received.decode()


def test_on_a_terminal_a_bar_moves_below_the_lines() -> None:
    received = _on_a_terminal("auto")
    assert received.count(" images/s  3 rejected  ") > 3
    assert "40/40 images  " in received
    assert received.endswith("all of it\r\n")
    assert received.index("first half") < received.index("slow store") < received.index("40/40 images")
    assert received.rindex(f"{ESCAPE}[?25h") > received.rindex(f"{ESCAPE}[?25l")  # the cursor is back


@pytest.mark.parametrize(("wanted", "environment"), [("plain", {}), ("auto", {"TERM": "dumb"}), ("json", {})])
def test_where_no_bar_is_wanted_or_possible_a_terminal_gets_lines(
    wanted: str, environment: dict[str, str]
) -> None:
    received = _on_a_terminal(wanted, **environment)
    assert ESCAPE not in received
    lines = received.replace("\r\n", "\n").splitlines()
    assert len(lines) == 4
    assert "40/40 images" in lines[2]


def test_a_log_holds_lines_without_control_characters() -> None:
    done = subprocess.run([sys.executable, "-c", WORK, "auto"], capture_output=True, text=True, check=True)
    assert [line.split("  ")[0] for line in done.stdout.splitlines()] == [
        "first half",
        "40/40 images",
        "all of it",
    ]
    assert done.stderr == "slow store\n"
    assert (done.stdout + done.stderr).replace("\n", "").isprintable()
