"""Lines of progress from tasks, and reports of a run in which nothing happens."""

from __future__ import annotations

import time

import pytest
import ray

from raysvq.log import Line
from raysvq.runtime.progress import Progress, forwarded_progress
from raysvq.runtime.stall import stall_reporter

WAIT_S = 60


@pytest.mark.usefixtures("small_cluster")
def test_lines_of_tasks_are_printed_in_order_and_progress_now_and_then(
    capsys: pytest.CaptureFixture[str],
) -> None:
    @ray.remote
    def work(progress: Progress) -> None:
        progress("left out: a.png")
        for step in range(1, 41):
            progress(Line(f"step {step}/40", "progress", done=step, total=40))
        progress("the end")

    with forwarded_progress() as progress:
        ray.get(work.remote(progress))
    assert capsys.readouterr().out.splitlines() == ["left out: a.png", "step 1/40", "step 40/40", "the end"]


@pytest.mark.usefixtures("small_cluster")
def test_a_run_that_waits_says_for_how_long_and_what_the_cluster_has(
    capsys: pytest.CaptureFixture[str],
) -> None:
    said, until = "", time.monotonic() + WAIT_S
    with stall_reporter("work unit finished", quiet_s=1.0):
        while said.count("\n") < 2 and time.monotonic() < until:
            time.sleep(0.05)
            said += capsys.readouterr().err
    first, second = said.splitlines()[:2]
    seen = "the cluster has 1 node(s), 2 of 2 CPUs free, 0 of 0 GPUs free"
    assert first == f"no work unit finished for 1 s; {seen}"
    assert second == f"no work unit finished for 2 s; {seen}"


@pytest.mark.usefixtures("small_cluster")
def test_a_run_whose_tasks_fit_on_no_machine_says_so_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    needs = {"CPU": 1.0, "GPU": 1 / 3}
    with stall_reporter("work unit finished", quiet_s=3600.0, needs=needs):
        said = capsys.readouterr().out
    assert said.startswith("waiting for a machine with 1 CPU and 0.33 GPU: the cluster has 1 node(s)")
    with stall_reporter("work unit finished", quiet_s=0.2, needs={"CPU": 2.0}):
        time.sleep(0.5)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(
        "no work unit finished for 0 s; a task needs 2 CPU; the cluster has 1 node"
    )


def test_a_run_that_ends_within_the_quiet_time_is_not_held_up(capsys: pytest.CaptureFixture[str]) -> None:
    with stall_reporter("work unit finished", quiet_s=3600.0) as alive:
        alive.set()
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""
