"""What trials share, made once, by tasks of the cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ray

from raysvq.errors import RaysvqError
from raysvq.relay import Voice
from raysvq.settings import Settings
from raysvq.storage import configure
from raysvq.tuning.prepared import Prepared, prepare
from raysvq.tuning.trial import Common, Plan

_LOST = 10  # times that a node may be lost while it makes one


def share(
    common: Common, plans: Sequence[Plan], at_once: int, voice: Voice
) -> dict[str, list[ray.ObjectRef[Any]]]:
    """What trials train on, by key, a reference each; so many are made at once, in the trials' order."""
    # Without a CPU of its own: trials wait for it on theirs, also when a lost node takes it along.
    load = ray.remote(num_cpus=0, max_retries=_LOST, num_returns=2, scheduling_strategy="SPREAD")(_load)
    made: dict[str, list[ray.ObjectRef[Any]]] = {}
    turns: list[Any] = [None] * at_once
    for plan in plans:
        if plan.settings.training.workers > 1:
            continue
        for number, key in enumerate(plan.data):
            if key not in made:
                turn = len(made) % at_once
                wanted = (common.manifests[number], plan.settings, common.metric, common.storage)
                references: Any = load.remote(*wanted, voice, turns[turn])
                data, turns[turn] = references
                made[key] = [data]
    return made


def _load(
    manifest: str, settings: Settings, metric: str, storage: Any, voice: Voice, _turn: None
) -> tuple[Prepared | Exception, None]:
    """What cannot be read is told to the trials, and does not keep the next from being made."""
    configure(storage)
    try:
        return prepare(manifest, settings, metric, voice), None
    except (RaysvqError, OSError) as error:
        return error, None
