"""How many trials run at once."""

from __future__ import annotations

from collections.abc import Sequence

from raysvq.errors import SettingsError
from raysvq.runtime.cluster import Capacity
from raysvq.settings import Settings
from raysvq.training.plan import plan_workers
from raysvq.tuning.judging import IMAGE_AUROC


def plan_trials(chosen: Sequence[Settings], capacity: Capacity, metric: str) -> int:
    """One on each CPU, or on each GPU where trials take one; one in all, where trials have several workers.

    Several workers share out the whole cluster as in `raysvq train`, so that they, what drives them and what
    reads for them always fit; trials beside them would take their room.

    Raises:
        SettingsError: not one trial fits, or trials of several workers are asked for what they cannot give.
    """
    for one in chosen:
        if one.training.unlabelled:
            raise SettingsError(
                "setting `training.unlabelled`: trials train on labelled images alone; leave it out of the"
                " sweep, and train with it afterwards"
            )
        plan_workers(one.training, capacity)  # a refit is trained with Ray Train
    several = [one.training for one in chosen if one.training.workers > 1]
    if several:
        if len(several) < len(chosen):
            raise SettingsError(
                "setting `training.workers`: some trials would have one worker, some several, which cannot"
                " be compared as they go; leave it out of `search`"
            )
        if metric != IMAGE_AUROC:
            raise SettingsError(
                f"setting `training.workers`: trials of several workers are judged by {IMAGE_AUROC} on"
                f" labelled validation outliers, found {metric}; expected 1 worker"
            )
        return 1
    with_gpu = use_gpu(chosen[0], capacity)
    slots = capacity.places(1.0, with_gpu)
    if not slots:
        raise SettingsError(
            f"a trial needs a CPU{' and a GPU' if with_gpu else ''} on one machine; the cluster has"
            f" {capacity.cpus:g} CPUs and {capacity.gpus:g} GPUs on {len(capacity.nodes)} machine(s)"
        )
    return slots


def use_gpu(settings: Settings, capacity: Capacity) -> bool:
    """Whether trials in one process take a GPU each."""
    wanted = settings.training.device
    return wanted == "cuda" or (wanted == "auto" and capacity.gpus >= 1)
