"""Decoding in Ray tasks, where an image may crash its process or hang.

A deadline ends a process that hangs, and Ray runs its task again. A task that did not end before decodes
each image in a sandbox first, which finds the image to leave out. Without that Ray would repeat it for ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raysvq.errors import TrainingError
from raysvq.imaging.decode import DecodeError
from raysvq.imaging.sandbox import Deadline, Sandbox, decode
from raysvq.settings import Settings

MAX_TRIES = 10  # attempts of a task whose process dies again and again


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)
class _Begun:
    """Attempts of tasks that have not ended, and the images found to crash or hang the decoder."""

    def __init__(self) -> None:
        self.tries: dict[str, int] = {}
        self.crashing: dict[str, str] = {}

    def begin(self, task: str) -> tuple[int, dict[str, str]]:
        self.tries[task] = self.tries.get(task, 0) + 1
        return self.tries[task], self.crashing

    def end(self, task: str, crashing: dict[str, str]) -> None:
        self.tries.pop(task, None)
        self.crashing |= crashing


class Attempts:
    """Knows which tasks were begun before and did not end; can be sent to tasks and workers."""

    def __init__(self, begun: Any) -> None:
        """Use `counted_attempts`."""
        self._begun = begun

    def begin(self, task: str) -> tuple[int, dict[str, str]]:
        """Record that the task begins.

        Returns:
            The number of attempts since it last ended, and the images found to crash or hang the decoder,
            with a reason each.
        """
        found: tuple[int, dict[str, str]] = ray.get(self._begun.begin.remote(task))
        return found

    def end(self, task: str, crashing: dict[str, str]) -> None:
        """Record that the task ended, and which of its images crashed the sandbox."""
        self._begun.end.remote(task, crashing)


@contextmanager
def counted_attempts() -> Iterator[Attempts]:
    """Count attempts on this process's node until the block ends."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    begun = _Begun.options(scheduling_strategy=here).remote()  # type: ignore[attr-defined]
    try:
        yield Attempts(begun)
    finally:
        ray.kill(begun)


@dataclass(frozen=True)
class Guard:
    """What a task decodes with."""

    deadline: AbstractContextManager[Any]  # entered for every piece decoded in this process
    sandbox: Sandbox | None
    known: dict[str, str]  # images that crash or hang the decoder
    found: dict[str, str]  # the same, of this task

    def require_decodable(self, uri: str, content: bytes) -> None:
        """Raises DecodeError where the image is known or found to crash or hang the decoder."""
        if uri in self.known:
            raise DecodeError("crashed", self.known[uri])
        if self.sandbox is None:
            return
        try:
            self.sandbox.require_decodable(content)
        except DecodeError as error:
            if error.reason == "crashed":
                self.found[uri] = error.detail
            raise


@contextmanager
def guarded(
    task: str, settings: Settings, attempts: Attempts | None, max_tries: float = MAX_TRIES
) -> Iterator[Guard]:
    """Decode in this process within `scoring.decode_timeout_s`; in a sandbox first where that failed before.

    Args:
        task: name of the task: the URI of its first image.
        attempts: if None, each image goes through a sandbox first, and no deadline ends this process.

    Raises:
        TrainingError: the task was begun `max_tries` times without an end.
    """
    limit_s = settings.scoring.decode_timeout_s
    sandbox = Sandbox(partial(decode, tiles=settings.tiles, scoring=settings.scoring), limit_s)
    if attempts is None:
        with sandbox:
            yield Guard(nullcontext(), sandbox, {}, {})
        return
    tries, known = attempts.begin(task)
    if tries > max_tries:
        raise TrainingError(
            f"the processes that decoded {task} and the images after it died {max_tries} times; see Ray's"
            " logs for why (memory?), and start the run again"
        )
    guard = Guard(process_deadline(limit_s), sandbox if tries > 1 else None, known, {})
    with sandbox:
        yield guard
    attempts.end(task, guard.found)


@lru_cache(maxsize=1)
def process_deadline(limit_s: float) -> Deadline:
    """This process's deadline: it has one timer."""
    return Deadline(limit_s)
