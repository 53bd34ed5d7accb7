"""Work units of one or many runs as Ray tasks, on CPUs or GPUs.

The model stays with a process from task to task. Tasks that wait are what a cluster grows by: they make its
autoscaler bring machines, from none. A machine that joins takes some of them. Units of one that is lost go to
others.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any

import ray

from raysvq.runtime.failures import Failure
from raysvq.scoring.spec import MAX_TRIES, Job
from raysvq.scoring.work import UnitReport
from raysvq.scoring.workers import Workers

MAX_TASKS = 2048  # that run or wait at once: bounds the driver's memory, at some 10 kB each
TASK_NAME = "score_unit"  # in the titles of processes at work


def stream_units(
    jobs: Sequence[Job], order: Sequence[tuple[int, int]], workers: Workers
) -> Generator[tuple[int, Any]]:
    """Score units, as many at once as there is room for; those that are not needed any more are cancelled.

    Args:
        order: number of a job, and how many units it has; those that come first are scored first.

    Yields:
        For each unit, as it ends, the number of its job and what `result_of` takes for its UnitReport, or
        None where it was not wanted any more.
    """
    known = ray.put(list(jobs))  # once, rather than sent along with each task
    task = _score.options(name=TASK_NAME, **workers.resources)
    units = ((part, unit) for part, count in order for unit in range(count))
    most = min(workers.most or MAX_TASKS, MAX_TASKS)
    parts: dict[Any, int] = {}  # by task
    try:
        while True:
            for part, unit in islice(units, most - len(parts)):
                parts[task.remote([known], part, unit)] = part
            if not parts:
                return
            for ended in _ended(list(parts)):
                yield parts.pop(ended), ended
    finally:
        for unneeded in parts:
            ray.cancel(unneeded)


def _ended(tasks: list[Any]) -> list[Any]:
    """Wait for a task, and return all that have ended."""
    first, others = ray.wait(tasks)
    return first + (ray.wait(others, num_returns=len(others), timeout=0)[0] if others else [])


# A process is lost with its machine again and again where those are spot; a unit counts its tries, too.
@ray.remote(max_retries=MAX_TRIES, max_calls=0)
def _score(jobs: list[Any], part: int, unit: int) -> UnitReport | Failure | None:
    from raysvq.scoring.worker import score_unit  # brings PyTorch, which the driver needs not

    _require_same_gpu()
    return score_unit(_fetched(jobs[0])[part], unit)


@lru_cache(maxsize=1)
def _fetched(jobs: Any) -> list[Job]:
    found: list[Job] = ray.get(jobs)
    return found


def _require_same_gpu() -> None:
    """End this process where its task was given another GPU than those before: CUDA keeps the first one.

    Ray tries the task again in another process.
    """
    if _first_gpu() != _visible_gpu():
        os.kill(os.getpid(), signal.SIGKILL)


@lru_cache(maxsize=1)
def _first_gpu() -> str:
    return _visible_gpu()


def _visible_gpu() -> str:
    return os.environ.get("CUDA_VISIBLE_DEVICES", "")
