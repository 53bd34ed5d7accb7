"""Who scores: processes on CPUs or on GPUs, as many as there is room for at any time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import ray

from raysvq.errors import SettingsError
from raysvq.runtime.cluster import Capacity, can_grow, connect, find_capacity
from raysvq.runtime.stall import Needs, stall_reporter
from raysvq.settings import RaySettings, ScoringSettings

Kind = Literal["CPU", "GPU"]

TORCH_NAMES: dict[Kind, str] = {"CPU": "cpu", "GPU": "cuda"}
DECODERS = 2  # threads beside a GPU; the interpreter's lock lets more of them wait, not work
_PARTS = 10_000  # in which Ray counts a resource


@dataclass(frozen=True)
class Workers:
    """What a task that scores asks for, and how many there may be at once."""

    kind: Kind = "CPU"
    per_gpu: int = 1
    most: int | None = None  # None: as many as there is room for

    @property
    def needs(self) -> Needs:
        """Of one task. No task lands on a head without CPUs; GPUs need few of them beside."""
        if self.kind == "CPU":
            return {"CPU": 1.0}
        return {"CPU": 1.0, "GPU": (_PARTS // self.per_gpu) / _PARTS}

    @property
    def resources(self) -> dict[str, float]:
        """`needs` as options of a Ray task."""
        return {f"num_{name.lower()}s": amount for name, amount in self.needs.items()}

    @property
    def device(self) -> str:
        """PyTorch's name of it."""
        return TORCH_NAMES[self.kind]

    @property
    def decoders(self) -> int:
        """Threads that decode in each worker; on CPUs a worker decodes in the thread that scores."""
        return DECODERS if self.kind == "GPU" else 0

    def places(self, capacity: Capacity) -> int:
        """How many there is room for."""
        fitting = sum(
            min(math.floor(node.cpus), self.per_gpu * math.floor(node.gpus))
            if self.kind == "GPU"
            else math.floor(node.cpus)
            for node in capacity.nodes
        )
        return fitting if self.most is None else min(fitting, self.most)

    def on(self, capacity: Capacity) -> str:
        """For people: what is up of that they score on."""
        processes = self.places(capacity)
        if not processes:
            return f"{self.kind}s, of which none is up yet"
        if self.kind == "CPU":
            return f"{processes} CPU(s)"
        gpus = sum(math.floor(node.gpus) for node in capacity.nodes if node.cpus >= 1)
        return f"{gpus} GPU(s), in {processes} process(es)"


def find_workers(settings: ScoringSettings, cluster: RaySettings) -> Workers:
    """Join the cluster, and choose what scores there.

    With `scoring.device=auto` a cluster without machines is waited for: its first one decides.

    Raises:
        SettingsError: the cluster cannot be reached, or has no GPU and never will.
    """
    capacity = connect(cluster)
    if settings.device == "gpu" and not capacity.gpus and not can_grow():
        raise SettingsError(
            "setting `scoring.device`: found gpu, and this machine has none; expected auto or cpu, or with"
            " `ray.address` a cluster with GPUs"
        )
    on_cpus = Workers(most=settings.workers)
    if settings.device == "auto" and not on_cpus.places(capacity):
        _wait_for(on_cpus)
        capacity = find_capacity()
    if settings.device == "gpu" or (settings.device == "auto" and capacity.gpus):
        return Workers("GPU", settings.per_gpu, settings.workers)
    return on_cpus


def _wait_for(workers: Workers) -> None:
    """Wait until a machine takes a task, which makes a cluster that grows by itself bring one."""
    task = _nothing.options(**workers.resources)
    with stall_reporter("machine that scores", needs=workers.needs):
        ray.get(task.remote())


@ray.remote
def _nothing() -> None:
    """Only its start counts."""
