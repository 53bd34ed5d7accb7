"""How many scoring actors a cluster takes, and how many CPUs each; refuses what could never start."""

from __future__ import annotations

from dataclasses import dataclass

from raysvq.cluster import Capacity
from raysvq.errors import SettingsError

_SHARES = (1.0, 0.75, 0.5, 0.25, 0.125)  # CPUs an actor may ask for, the most that fits is taken


@dataclass(frozen=True)
class ActorPlan:
    """The pool of scoring actors, and what each asks of the cluster."""

    actors: int
    cpus: float
    use_gpu: bool


def plan_actors(capacity: Capacity) -> ActorPlan:
    """An actor for each GPU, or for each CPU where there is none, as far as a CPU is left to read with.

    That CPU serves the tasks that read the manifest, and those that rebuild what a lost node held.

    Raises:
        SettingsError: the cluster is too small.
    """
    gpus = sum(int(node.gpus) for node in capacity.nodes)
    for actors in range(gpus or sum(int(node.cpus) for node in capacity.nodes), 0, -1):
        for share in _SHARES:
            if capacity.places(share, gpus > 0) >= actors and capacity.keeps_a_cpu(actors, share):
                return ActorPlan(actors, share, gpus > 0)
    raise SettingsError(
        f"the cluster has {capacity.cpus:g} CPUs on {len(capacity.nodes)} node(s); scoring needs one for an"
        " actor and a whole one on some node to read with: wait until its workers are up, or raise ray.cpus"
    )
