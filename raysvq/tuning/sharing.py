"""What trials share, made once, by tasks of the cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ray
import torch

from raysvq.errors import RaysvqError, TrainingMemoryError
from raysvq.model.device import is_out_of_memory
from raysvq.runtime.cluster import Capacity
from raysvq.runtime.progress import Progress
from raysvq.settings import Settings
from raysvq.storage import configure
from raysvq.tuning.prepared import Prepared, prepare
from raysvq.tuning.trial import Common, Plan

_LOST = 10  # times that a node may be lost while it makes one


def share(
    common: Common, plans: Sequence[Plan], capacity: Capacity, progress: Progress
) -> dict[str, list[ray.ObjectRef[Any]]]:
    """What trials train on, by key, a reference each; made in the trials' order, one at a time a machine."""
    # Without a CPU of its own: trials wait for it on theirs, also when a lost node takes it along.
    load = ray.remote(num_cpus=0, max_retries=_LOST, num_returns=2, scheduling_strategy="SPREAD")(_load)
    made: dict[str, list[ray.ObjectRef[Any]]] = {}
    at_once = len(capacity.nodes)
    threads = min(int(node.cpus) for node in capacity.nodes if node.cpus >= 1)
    turns: list[Any] = [None] * at_once
    for plan in plans:
        if plan.settings.training.workers > 1:
            continue
        for number, key in enumerate(plan.data):
            if key not in made:
                turn = len(made) % at_once
                wanted = (common.manifests[number], plan.settings, common.metric, common.storage)
                alone = len(made) < at_once  # trials that have a CPU wait for these
                references: Any = load.remote(*wanted, threads if alone else 1, progress, turns[turn])
                data, turns[turn] = references
                made[key] = [data]
    return made


def _load(
    manifest: str,
    settings: Settings,
    metric: str,
    storage: Any,
    threads: int,
    progress: Progress,
    _turn: None,
) -> tuple[Prepared | Exception, None]:
    """What cannot be read is told to the trials, and does not keep the next from being made."""
    torch.set_num_threads(threads)
    configure(storage)
    try:
        return prepare(manifest, settings, metric, progress), None
    except (RaysvqError, OSError) as error:
        return error, None
    except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError
        if not is_out_of_memory(error):
            raise
        return TrainingMemoryError(f"the tiles that trials share do not fit into memory ({error})"), None
