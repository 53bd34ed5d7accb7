"""Work units of one or many runs as one stream of Ray Data."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data

from raysvq.runtime.cluster import quiet_ray_data
from raysvq.runtime.failures import Failure
from raysvq.scoring.plan import Workers, share_out
from raysvq.scoring.spec import Job
from raysvq.scoring.work import UnitReport


def stream_units(jobs: Sequence[Job], order: Sequence[tuple[int, int]], workers: Workers) -> ray.data.Dataset:
    """A stream with one row per work unit, for `report_of`; nothing starts before it is read.

    Args:
        order: number of a job, and how many units it has; those that come first are scored first.
    """
    parts = np.repeat([part for part, _ in order], [units for _, units in order])
    units = np.concatenate([np.arange(units) for _, units in order])
    quiet_ray_data()
    # Blocks put by the driver live beside it: a node that is lost takes none of them along.
    numbers = ray.data.from_arrow(
        [
            pa.table({"part": parts[task.start : task.stop], "unit": units[task.start : task.stop]})
            for task in share_out(len(units), workers.count)
        ]
    )
    numbers.context.target_max_block_size = 1  # each report comes as it is made, not at a block's end
    known = ray.put(list(jobs))
    if workers.use_gpu:
        return numbers.map_batches(
            _Actor,
            fn_constructor_args=(known,),
            batch_size=1,
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(size=workers.count),
            num_cpus=workers.cpus,
            num_gpus=1,
        )
    return numbers.map_batches(
        partial(_score, jobs=known), batch_size=1, batch_format="numpy", num_cpus=workers.cpus
    )


def report_of(row: dict[str, Any]) -> UnitReport | None:
    """The report in a row that `score_units` made; None of a unit that was not wanted any more.

    Raises:
        RaysvqError: it ended the unit.
    """
    if row["error"]:
        raise Failure(row["error"], row["text"]).exception()
    return UnitReport.from_json(row["text"]) if row["text"] else None


def _score(batch: dict[str, Any], jobs: Any) -> dict[str, list[Any]]:
    from raysvq.scoring.worker import score_units  # brings PyTorch, which the driver needs not

    return score_units(batch, _fetched(jobs))


@lru_cache(maxsize=1)
def _fetched(jobs: Any) -> list[Job]:
    """What the driver has put once, rather than sent along with each task."""
    found: list[Job] = ray.get(jobs)
    return found


class _Actor:
    """`_score` for Ray's actors, which are made of a class."""

    def __init__(self, jobs: Any) -> None:
        self.jobs: list[Job] = ray.get(jobs)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        from raysvq.scoring.worker import score_units

        return score_units(batch, self.jobs)
