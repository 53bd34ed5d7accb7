"""Progress lines from tasks and workers to the terminal that started the run.

Ray's own log forwarding is off in raysvq's runs: it mixes every process's chatter into the output.
What a person should see goes through here, in order, as it was said.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

_POLL_S = 0.5


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)
class _Mailbox:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    def take(self) -> list[str]:
        lines, self.lines = self.lines, []
        return lines


class Voice(Protocol):
    """Takes lines for the person who started a run."""

    def say(self, line: str) -> None:
        """A line."""


class Relay:
    """Hand this to tasks and workers; `say` prints on the driver."""

    def __init__(self, mailbox: Any) -> None:
        self._mailbox = mailbox

    def say(self, line: str) -> None:
        """Print a line where the run was started. Does not wait."""
        self._mailbox.say.remote(line)


@contextmanager
def relay(alive: threading.Event | None = None) -> Iterator[Relay]:
    """Print what is said through the relay until the block ends; `alive` is set at every line."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    mailbox = _Mailbox.options(scheduling_strategy=here).remote()  # type: ignore[attr-defined]
    done = threading.Event()

    def print_lines() -> None:
        for line in ray.get(mailbox.take.remote()):
            print(line, flush=True)
            if alive:
                alive.set()

    def poll() -> None:
        while not done.wait(_POLL_S):
            print_lines()

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield Relay(mailbox)
    finally:
        done.set()
        thread.join()
        print_lines()
        ray.kill(mailbox)
