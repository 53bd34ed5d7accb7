"""What a run tells while it works."""

from __future__ import annotations

import time

import pytest

from raysvq.runtime.stall import stall_reporter
from raysvq.scoring.progress import REPORT_EVERY_S, Progress, duration

WAIT_S = 60


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


def _begun(images: int, seconds: float) -> Progress:
    since = time.monotonic() - seconds
    return Progress(images, started=since, told=since)


def test_a_line_has_counts_pace_and_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    _begun(100_000, 10_000).tell(50_000, 3)
    assert capsys.readouterr().out == "50000/100000 images  5.0 images/s  3 rejected  2 h 46 min left\n"


def test_the_pace_is_of_this_run_alone(capsys: pytest.CaptureFixture[str]) -> None:
    since = time.monotonic() - 10_000
    Progress(100_000, before=40_000, started=since, told=since).tell(50_000, 3)
    assert capsys.readouterr().out == "50000/100000 images  1.0 images/s  3 rejected  13 h 53 min left\n"


def test_lines_do_not_follow_each_other_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    progress = _begun(100_000, 10_000)
    for done in range(1, 100):
        progress.tell(done, 0)
    assert capsys.readouterr().out.count("\n") == 1


def test_the_last_line_is_told_in_any_case(capsys: pytest.CaptureFixture[str]) -> None:
    progress = _begun(10, REPORT_EVERY_S / 100)
    progress.tell(4, 0)
    assert capsys.readouterr().out == ""
    progress.tell(10, 2)
    out = capsys.readouterr().out
    assert out.startswith("10/10 images ")
    assert out.endswith(" 2 rejected  0 s left\n")


@pytest.mark.usefixtures("small_cluster")
def test_a_run_that_waits_says_for_how_long_and_what_the_cluster_has(
    capsys: pytest.CaptureFixture[str],
) -> None:
    said, until = "", time.monotonic() + WAIT_S
    with stall_reporter("work unit finished", quiet_s=1.0):
        while said.count("\n") < 2 and time.monotonic() < until:
            time.sleep(0.05)
            said += capsys.readouterr().out
    first, second = said.splitlines()[:2]
    seen = "the cluster has 1 node(s), 2 of 2 CPUs free, 0 of 0 GPUs free"
    assert first == f"no work unit finished for 1 s; {seen}"
    assert second == f"no work unit finished for 2 s; {seen}"


def test_a_run_that_ends_within_the_quiet_time_is_not_held_up(capsys: pytest.CaptureFixture[str]) -> None:
    with stall_reporter("work unit finished", quiet_s=3600.0) as alive:
        alive.set()
    assert capsys.readouterr().out == ""
