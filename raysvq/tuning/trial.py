"""One trial: train with its settings, on each draw of the split, and tell what came of it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray
import torch
from ray import tune

from raysvq.errors import DataError, SettingsError, TrainingError
from raysvq.model.bundle import load_bundle
from raysvq.model.scorer import ImageScorer
from raysvq.settings import Settings, StorageSettings, digest
from raysvq.storage import configure, exists, join, read_bytes, remove_folder, write_bytes
from raysvq.training.launch import train
from raysvq.training.local import train_in_process
from raysvq.training.validation import validation_images
from raysvq.tuning.course import Course
from raysvq.tuning.judging import figure, image_milliseconds, model_mib
from raysvq.tuning.prepared import Prepared


@dataclass(frozen=True)
class Plan:
    """A trial before it starts."""

    settings: Settings
    data: tuple[str, ...]  # of each repeat, the key of what it trains on


@dataclass(frozen=True)
class Common:
    """What all trials of a sweep know."""

    plans: Sequence[Plan]
    metric: str
    manifests: Sequence[str]  # of each repeat
    folder: str  # of records of trials that came to their end, and of what they keep meanwhile
    storage: StorageSettings


def run_trial(config: dict[str, Any], common: Common, prepared: Mapping[str, Sequence[Any]]) -> None:
    """Run trial `config["number"]`, as Ray Tune calls it; or tell again what it told when it ended.

    Ray Tune notes a trial's end some time later. A sweep killed in between would run it twice.

    Reports, look by look, `look`, `step`, `figure`, the mean over `figures`, `seconds`; at the end also
    `train_s`, `image_ms` and `model_mib`, and `problem` where the trial failed.

    Args:
        prepared: by key, a reference to a `Prepared`, in a list, so that Ray does not fetch it.
    """
    configure(common.storage)
    number: int = config["number"]
    record = join(common.folder, f"trial-{number:05d}.json")
    if exists(record):
        for metrics in json.loads(read_bytes(record)):
            tune.report(metrics)
        return
    plan = common.plans[number]
    course = Course(plan.settings)
    one = _over_workers if plan.settings.training.workers > 1 else _in_process
    try:
        for repeat, key in enumerate(plan.data):
            started = time.monotonic()
            scorer = one(plan.settings, common, course, repeat, prepared.get(key))
            told = course.end_training()
            if repeat + 1 < len(plan.data):
                tune.report(told)
        told["train_s"] = round(time.monotonic() - started, 1)
        images = validation_images(common.manifests[0], plan.settings.training.validation_images)
        told["image_ms"] = image_milliseconds(scorer, images)
        told["model_mib"] = model_mib(scorer.model)
    except (TrainingError, DataError, SettingsError) as error:  # it would fail again
        course.fail(str(error))
    write_bytes(record, json.dumps(course.reported).encode())
    tune.report(course.reported[-1])


def _in_process(
    settings: Settings, common: Common, course: Course, repeat: int, prepared: Sequence[Any] | None
) -> ImageScorer:
    """Train in this process."""
    torch.set_num_threads(1)
    data: Prepared = ray.get((prepared or ())[0])
    judge = partial(_judge, data=data, common=common, course=course)
    watched = settings.training.model_copy(update={"validate_every": course.every})
    model, _ = train_in_process(
        settings.model_copy(update={"training": watched}),
        data.samples.normal,
        data.samples.outlier,
        judge,
        say=None,
    )
    return ImageScorer(model, settings, settings.scoring)


def _judge(scorer: ImageScorer, data: Prepared, common: Common, course: Course) -> dict[str, Any]:
    """As `raysvq.training.validation.validate`, as far as a trial needs it; tells all looks but the last."""
    judged = data.judge(scorer)
    value = figure(common.metric, judged, scorer.settings)
    told = course.look(value)
    if told and told["step"] < scorer.settings.training.steps:
        tune.report(told)
    return {
        "image_scores": [one.result.image_score for one in judged],
        "anomalous": [one.image.anomalous for one in judged],
        "auroc": value,
        "unreadable": [],
    }


def _over_workers(
    settings: Settings, common: Common, course: Course, repeat: int, prepared: Sequence[Any] | None
) -> ImageScorer:
    """Train as `raysvq train` does, with Ray Train."""
    out = join(common.folder, f"model-{digest(settings)}-{repeat}")
    whole = exists(join(out, "bundle.json"))
    bundle = load_bundle(out) if whole else train(common.manifests[repeat], out, settings)
    for row in bundle.history["history"]:
        course.look(row["validation_auroc"])
    remove_folder(out)
    return ImageScorer(bundle.model, settings, settings.scoring)
