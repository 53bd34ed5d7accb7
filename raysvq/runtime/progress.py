"""Forward lines of progress from tasks and workers to the driver, which prints them in order.

Ray's own log forwarding is off: it would mix the output of every process into the driver's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raysvq import log

Progress = Callable[[str], None]  # takes a line of text, or a `raysvq.log.Line`

_POLL_S = 0.5


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)
class _Lines:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, line: str) -> None:
        self.lines.append(line)

    def take(self) -> list[str]:
        lines, self.lines = self.lines, []
        return lines


class _Forwarded:
    """A `Progress` that can be sent to tasks and workers.

    Does not wait for a line of progress, of which there are many; every other line has been taken in when
    the call returns, so that it is printed even where it is the last thing that a task does.
    """

    def __init__(self, lines: Any) -> None:
        self._lines = lines

    def __call__(self, line: str) -> None:
        taken_in = self._lines.add.remote(line)
        if not log.is_progress(line):
            ray.get(taken_in)


@contextmanager
def forwarded_progress(alive: threading.Event | None = None) -> Iterator[Progress]:
    """Print what tasks and workers report until the block ends; each line sets `alive`."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    lines = _Lines.options(scheduling_strategy=here).remote()  # type: ignore[attr-defined]
    done, throttle = threading.Event(), log.Throttle()

    def print_new() -> None:
        for line in ray.get(lines.take.remote()):
            if throttle.passes(line):
                log.emit(line)
            if alive:
                alive.set()

    def poll() -> None:
        while not done.wait(_POLL_S):
            print_new()

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield _Forwarded(lines)
    finally:
        done.set()
        thread.join()
        print_new()
        log.end_bar()
        ray.kill(lines)
