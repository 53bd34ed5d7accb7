"""How many CPUs and GPUs each training worker gets; refuses what could never start."""

from __future__ import annotations

from dataclasses import dataclass

from raysvq.cluster import Capacity
from raysvq.errors import SettingsError
from raysvq.settings import TrainingSettings

DATA_CPUS = 1.0  # kept free for the tasks that fetch and decode


@dataclass(frozen=True)
class WorkerPlan:
    """What each of the workers asks of the cluster."""

    workers: int
    cpus: float
    use_gpu: bool
    threads: int  # of PyTorch, on CPU

    @property
    def resources(self) -> dict[str, float]:
        """As Ray Train takes them."""
        return {"CPU": self.cpus} | ({"GPU": 1.0} if self.use_gpu else {})


def plan_workers(settings: TrainingSettings, capacity: Capacity) -> WorkerPlan:
    """Fit the workers into the cluster, with CPU left for reading data.

    Raises:
        SettingsError: the cluster is too small, or the batch cannot be shared out evenly.
    """
    workers = settings.workers
    if settings.batch_size % workers:
        raise SettingsError(
            f"setting `training.batch_size`: {settings.batch_size} cannot be shared evenly by"
            f" training.workers={workers}; expected a multiple"
        )
    if settings.batch_size // workers < 2:
        raise SettingsError(
            f"setting `training.batch_size`: {settings.batch_size} leaves fewer than 2 tiles for each of"
            f" training.workers={workers}"
        )
    use_gpu = settings.device == "cuda" or (settings.device == "auto" and capacity.gpus >= workers)
    if use_gpu and capacity.gpus < workers:
        raise SettingsError(
            f"setting `training.device`: cuda with training.workers={workers} needs {workers} GPUs,"
            f" the cluster has {capacity.gpus:g}"
        )
    share = (capacity.cpus - DATA_CPUS) / workers
    if share < 0.1:
        raise SettingsError(
            f"setting `training.workers`: {workers} workers and {DATA_CPUS:g} CPU for reading data do not"
            f" fit into {capacity.cpus:g} CPUs"
        )
    cpus = min(1.0, round(share - 0.005, 2)) if share < 1 else float(int(min(share, 4)))
    threads = max(1, int(capacity.cpus / max(workers, capacity.nodes)))
    return WorkerPlan(workers, cpus, use_gpu, threads)
