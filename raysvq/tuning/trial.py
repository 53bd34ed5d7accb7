"""One trial: train with its settings, on each draw of the split, and tell what came of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray
import torch
from ray import tune

from raysvq.errors import DataError, SettingsError, TrainingError, WorkersError
from raysvq.model.bundle import load_bundle
from raysvq.model.scorer import ImageScorer
from raysvq.settings import Settings, StorageSettings, digest
from raysvq.storage import configure, exists, join, remove_folder
from raysvq.training.launch import train
from raysvq.training.local import train_in_process
from raysvq.training.validation import validation_images
from raysvq.tuning.course import Course
from raysvq.tuning.judging import figure, image_milliseconds, model_mib, selection
from raysvq.tuning.prepared import Prepared
from raysvq.tuning.records import Records


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
    folder: str  # of what trials of several workers keep meanwhile
    records: Records
    storage: StorageSettings


def run_trial(config: dict[str, Any], common: Common, prepared: Mapping[str, Sequence[Any]]) -> None:
    """Run trial `config["number"]`, as Ray Tune calls it, and note its end; or tell again what is noted.

    It was noted if a node was lost between the note and Ray Tune's hearing of it.

    Reports what `Course` tells; at the end also `train_s`, `image_ms` and `model_mib`.

    Args:
        prepared: by key, a reference to a `Prepared`, in a list, so that Ray does not fetch it.

    Raises:
        WorkersError: workers were lost too often; other than what a trial meets by itself, this may do
            better again.
    """
    configure(common.storage)
    number: int = config["number"]
    noted = common.records.find(number)
    if noted is not None:
        tune.report(noted)
        return
    plan = common.plans[number]
    course = Course(plan.settings)
    one = _over_workers if plan.settings.training.workers > 1 else _in_process
    try:
        for repeat, key in enumerate(plan.data):
            scorer, seconds = one(plan.settings, common, course, repeat, prepared.get(key))
            told = course.end_training(seconds)
            if repeat + 1 < len(plan.data):
                tune.report(told)
        images = validation_images(common.manifests[0], plan.settings.training.validation_images)
        told["train_s"] = round(seconds, 1)
        told["image_ms"] = image_milliseconds(scorer, images)
        told["model_mib"] = model_mib(scorer.model)
    except WorkersError:
        raise
    except (TrainingError, DataError, SettingsError) as error:  # it would fail again
        told = course.fail(str(error))
    common.records.write(number, told)
    tune.report(told)


def _in_process(
    settings: Settings, common: Common, course: Course, repeat: int, prepared: Sequence[Any] | None
) -> tuple[ImageScorer, float]:
    """Train in this process. How long that took leaves out the wait for the images of all trials."""
    torch.set_num_threads(1)
    data: Prepared | Exception = ray.get((prepared or ())[0])
    if isinstance(data, Exception):
        raise data
    course.begin_training()
    started = time.monotonic()
    judge = partial(_judge, data=data, common=common, course=course)
    watched = {"validate_every": course.every, "patience": course.patience}
    model, _ = train_in_process(
        settings.model_copy(update={"training": settings.training.model_copy(update=watched)}),
        data.samples.normal,
        data.samples.outlier,
        judge,
        say=None,
    )
    return ImageScorer(model, settings, settings.scoring), time.monotonic() - started


def _judge(scorer: ImageScorer, data: Prepared, common: Common, course: Course) -> dict[str, Any]:
    """As `raysvq.training.validation.validate`, as far as a trial needs it; tells what there is to tell."""
    judged = data.judge(scorer)
    auroc = selection(common.metric, judged)
    told = course.validated(figure(common.metric, judged, scorer.settings), auroc)
    if told:
        tune.report(told)
    return {
        "image_scores": [one.result.image_score for one in judged],
        "anomalous": [one.image.anomalous for one in judged],
        "auroc": auroc,
        "unreadable": [],
    }


def _over_workers(
    settings: Settings, common: Common, course: Course, repeat: int, prepared: Sequence[Any] | None
) -> tuple[ImageScorer, float]:
    """Train as `raysvq train` does, with Ray Train."""
    out = join(common.folder, f"model-{digest(settings)}-{repeat}")
    whole = exists(join(out, "bundle.json"))
    bundle = load_bundle(out) if whole else train(common.manifests[repeat], out, settings)
    for row in bundle.history["history"]:
        course.validated(row["validation_auroc"], row["validation_auroc"])
    remove_folder(out)
    return ImageScorer(bundle.model, settings, settings.scoring), float(bundle.training["seconds"])
