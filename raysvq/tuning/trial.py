"""One trial: train with its settings in its own process, report each validation."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import ray
import torch
from ray import tune

from raysvq.errors import TrainingError
from raysvq.model.scorer import ImageScorer
from raysvq.settings import StorageSettings, TrainingSettings, parse_settings
from raysvq.storage import configure, exists, join, read_bytes, write_bytes
from raysvq.training.local import train_in_process
from raysvq.tuning.prepared import Prepared

FAILED = 0.0  # AUROC that a training which ran away is ranked by


def run_trial(
    config: dict[str, Any],
    plans: Sequence[dict[str, Any]],
    prepared: Mapping[str, Sequence[Any]],
    records: str,
    storage: StorageSettings,
) -> None:
    """Train trial `config["number"]`, as Ray Tune calls it; or report again what it reported when it ended.

    Ray Tune notes a trial's end some time later. A sweep killed in between would run it twice.

    Reports `step`, `image_auroc`, `best_image_auroc`, `seconds` at each validation, and `problem` where the
    training ran away.

    Args:
        plans: of each trial its `settings`, as plain values, and `data`, the key of what it trains on.
        prepared: by such keys, a reference to a `Prepared`, in a list, so that Ray does not fetch it.
        records: folder of what trials that came to their end have reported.
    """
    configure(storage)
    torch.set_num_threads(1)
    record = join(records, f"trial-{config['number']:05d}.json")
    if exists(record):
        for metrics in json.loads(read_bytes(record)):
            tune.report(metrics)
        return
    plan = plans[config["number"]]
    settings = parse_settings(plan["settings"])
    data: Prepared = ray.get(prepared[plan["data"]][0])
    course = _Course(settings.training)

    def judge(scorer: ImageScorer) -> dict[str, Any]:
        outcome = data.judge(scorer)
        metrics = course.add(outcome["auroc"])
        if metrics["step"] < settings.training.steps:
            tune.report(metrics)
        return outcome

    try:
        train_in_process(settings, data.samples.normal, data.samples.outlier, judge, say=None)
    except TrainingError as error:
        course.add(FAILED, str(error))
    write_bytes(record, json.dumps(course.reported).encode())
    tune.report(course.reported[-1])


class _Course:
    """What a trial reports."""

    def __init__(self, training: TrainingSettings) -> None:
        self.training = training
        self.started = time.monotonic()
        self.reported: list[dict[str, Any]] = []

    def add(self, image_auroc: float, problem: str = "") -> dict[str, Any]:
        """The metrics of the next validation, or of the problem that ended it."""
        looks = len(self.reported) + 1
        before = self.reported[-1]["best_image_auroc"] if self.reported else 0.0
        metrics = {
            "step": min(looks * self.training.validate_every, self.training.steps),
            "image_auroc": image_auroc,
            "best_image_auroc": max(image_auroc, before),
            "seconds": round(time.monotonic() - self.started, 1),
            "problem": problem,
        }
        self.reported.append(metrics)
        return metrics
