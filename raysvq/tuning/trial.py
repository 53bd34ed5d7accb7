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
from raysvq.settings import Settings, StorageSettings
from raysvq.storage import configure, exists, join, remove_folder
from raysvq.training.checkpoint import TrainingState
from raysvq.training.in_process import train_in_process
from raysvq.training.ray_trainer import train
from raysvq.training.validation import validation_images
from raysvq.tuning.course import Course
from raysvq.tuning.judging import figure, image_milliseconds, judged_by, model_mib, selection
from raysvq.tuning.kept import Kept
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
    records: Records
    kept: Kept
    storage: StorageSettings


@dataclass(frozen=True)
class _Trained:
    """One training of a trial."""

    scorer: ImageScorer
    seconds: float
    validated: tuple[int, int]  # normal and anomalous images that it was judged by
    progress: TrainingState | None = None  # None: the model lies where it is kept
    outlier_tiles: int = 0


def run_trial(config: dict[str, Any], common: Common, prepared: Mapping[str, Sequence[Any]]) -> None:
    """Run trial `config["number"]`, as Ray Tune calls it, and note its end; or tell again what is noted.

    It was noted if a node was lost between the note and Ray Tune's hearing of it.

    Reports what `Course` tells; at the end also `train_s`, `image_ms`, `model_mib` and `validated`. The model
    of the first training, on the split as it was given, is kept.

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
    trainings: list[_Trained] = []
    try:
        for repeat, key in enumerate(plan.data):
            trained = one(number, common, course, repeat, prepared.get(key))
            trainings = [*trainings[:1], trained]
            told = course.end_training(trained.seconds)
            if repeat + 1 < len(plan.data):
                tune.report(told)
        images = validation_images(common.manifests[0], plan.settings.training.validation_images)
        told["train_s"] = round(trained.seconds, 1)
        told["image_ms"] = image_milliseconds(trained.scorer, images)
        told["validated"] = trainings[0].validated
        told["model_mib"] = model_mib(trained.scorer.model)
        _keep(number, trainings[0], plan.settings, common.kept)
    except WorkersError:
        raise
    except (TrainingError, DataError, SettingsError) as error:  # it would fail again
        told = course.fail(str(error))
    common.records.write(number, told)
    tune.report(told)


def _keep(number: int, trained: _Trained, settings: Settings, kept: Kept) -> None:
    """Keep the model, unless the one taken is trained anew."""
    if settings.tuning.refit:
        kept.remove(number)
    elif trained.progress is not None:
        summary = {
            "outlier_tiles": trained.outlier_tiles,
            "device": trained.scorer.device.type,
            "seconds": round(trained.seconds, 1),
        }
        kept.keep(number, trained.scorer.model, trained.progress, summary)


def _in_process(
    number: int, common: Common, course: Course, repeat: int, prepared: Sequence[Any] | None
) -> _Trained:
    """Train in this process. How long that took leaves out the wait for the images of all trials."""
    torch.set_num_threads(1)
    settings = common.plans[number].settings
    data: Prepared | Exception = ray.get((prepared or ())[0])
    if isinstance(data, Exception):
        raise data
    course.begin_training()
    started = time.monotonic()
    judge = partial(_judge, data=data, common=common, course=course)
    watched = settings.training.model_copy(update={"validate_every": course.every})
    model, progress = train_in_process(
        settings.model_copy(update={"training": watched}),
        data.samples.normal,
        data.samples.outlier,
        judge,
        progress=None,
    )
    seconds = time.monotonic() - started
    scorer = ImageScorer(model, settings, settings.scoring, model.mean.device)
    validated = judged_by(common.metric, [shot.image for shot in data.shots], settings)
    return _Trained(scorer, seconds, validated, progress, data.outlier_tiles)


def _judge(scorer: ImageScorer, data: Prepared, common: Common, course: Course) -> dict[str, Any]:
    """As `raysvq.training.validation.validate`, as far as a trial needs it; tells what there is to tell.

    The model kept, and patience, go by the validations that the training would make by itself.
    """
    judged = data.judge(scorer)
    auroc = selection(common.metric, judged)
    told = course.validated(figure(common.metric, judged, scorer.settings), auroc)
    if told:
        tune.report(told)
    return {
        "image_scores": [one.result.image_score for one in judged],
        "anomalous": [one.image.anomalous for one in judged],
        "auroc": auroc if course.keeps else None,
        "unreadable": [],
    }


def _over_workers(
    number: int, common: Common, course: Course, repeat: int, prepared: Sequence[Any] | None
) -> _Trained:
    """Train as `raysvq train` does, with Ray Train."""
    settings, place = common.plans[number].settings, common.kept.place(number)
    out = join(place, f"repeat-{repeat}") if repeat else place
    whole = exists(join(out, "bundle.json"))
    bundle = load_bundle(out) if whole else train(common.manifests[repeat], out, settings)
    for row in bundle.history["history"]:
        course.validated(row["validation_auroc"], row["validation_auroc"])
    if repeat:
        remove_folder(out)
    found = bundle.reference.validation
    return _Trained(
        ImageScorer(bundle.model, settings, settings.scoring),
        float(bundle.training["seconds"]),
        (found["normal"], found["anomalous"]),
    )
