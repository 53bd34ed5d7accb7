"""One trial: train with its settings, on each draw of the split, and report the metric."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray
import torch
from ray import tune

from raysvq.errors import DataError, SettingsError, TrainingError, WorkersError
from raysvq.model.bundle import load_bundle
from raysvq.model.scorer import ImageScorer
from raysvq.settings import Settings
from raysvq.storage import configure, exists, join, remove_folder
from raysvq.training.checkpoint import TrainingState
from raysvq.training.in_process import train_in_process
from raysvq.training.ray_trainer import train
from raysvq.training.validation import validation_images
from raysvq.tuning.early_stopping import LearningCurve
from raysvq.tuning.space import Space
from raysvq.tuning.splits import without_folds
from raysvq.tuning.state import SweepState
from raysvq.tuning.trial_data import TrialData, data_key
from raysvq.tuning.trial_metrics import (
    counted_images,
    image_milliseconds,
    metric_value,
    model_mib,
    selection_auroc,
)


@dataclass(frozen=True)
class Sweep:
    """What all trials of a sweep share."""

    space: Space
    metric: str
    manifests: Sequence[str]  # one per repeat
    state: SweepState


@dataclass(frozen=True)
class _Trained:
    """One training of a trial."""

    scorer: ImageScorer
    seconds: float
    images: tuple[int, int]  # numbers of normal and anomalous images behind the metric
    progress: TrainingState | None = None  # None if the model is stored already
    outlier_tiles: int = 0


def run_trial(config: dict[str, Any], sweep: Sweep, catalog: Any) -> None:
    """Run trial `config["number"]` with the settings of `config["point"]`; Ray Tune calls it.

    Reports the results of `LearningCurve`; the last one of a trial that finishes has `train_s`, `image_ms`,
    `model_mib` and `images`, too, and is written before it is reported. A trial that has one is not run
    again: its machine was lost before Ray Tune heard of it. The model of the first training, on the split as
    it was given, is kept.

    Args:
        catalog: finds the `TrialData` of each repeat by their key; an actor.

    Raises:
        WorkersError: workers were lost too often; unlike the errors of the trial itself, another attempt
            may succeed.
    """
    configure(sweep.space.base.storage)
    number: int = config["number"]
    written = sweep.state.result(number)
    if written is not None:
        tune.report(written)
        return
    curve = LearningCurve(sweep.space.base)
    try:
        settings = sweep.space.settings(config["point"])
        curve = LearningCurve(settings)
        result = _run(number, settings, sweep, curve, catalog)
    except WorkersError:
        raise
    except (TrainingError, DataError, SettingsError) as error:  # it would fail again
        result = curve.fail(str(error))
    sweep.state.write_result(number, result)
    tune.report(result)


def _run(number: int, settings: Settings, sweep: Sweep, curve: LearningCurve, catalog: Any) -> dict[str, Any]:
    """Run all trainings of a trial; returns the last result."""
    data: Sequence[TrialData] = ()
    if settings.training.workers == 1:
        torch.set_num_threads(1)
        data = ray.get(catalog.find.remote(data_key(settings)))
    trainings: list[_Trained] = []
    for repeat in range(len(sweep.manifests)):
        if data:
            trained = _in_process(settings, sweep.metric, curve, data[repeat])
        else:
            trained = _over_workers(number, settings, sweep, curve, repeat)
        trainings = [*trainings[:1], trained]
        result = curve.end_training(trained.seconds)
        if repeat + 1 < len(sweep.manifests):
            tune.report(result)
    images = validation_images(sweep.manifests[0], settings.training.validation_images)
    result["train_s"] = round(trained.seconds, 1)
    result["image_ms"] = image_milliseconds(trained.scorer, images)
    result["model_mib"] = model_mib(trained.scorer.model)
    result["images"] = trainings[0].images
    _store(number, trainings[0], settings, sweep.state)
    return result


def _store(number: int, trained: _Trained, settings: Settings, state: SweepState) -> None:
    """Store the model, unless the one to publish will be trained anew."""
    if settings.tuning.refit:
        state.remove_model(number)
    elif trained.progress is not None:
        summary = {
            "outlier_tiles": trained.outlier_tiles,
            "device": trained.scorer.device.type,
            "seconds": round(trained.seconds, 1),
        }
        state.save_model(number, trained.scorer.model, trained.progress, summary)


def _in_process(settings: Settings, metric: str, curve: LearningCurve, data: TrialData) -> _Trained:
    """Train in this process. The time taken does not include the wait for shared images."""
    tiles = data.tiles()
    items = list(data.items())
    curve.begin_training()
    started = time.monotonic()
    watched = settings.training.model_copy(update={"validate_every": curve.validate_every})
    model, progress = train_in_process(
        settings.model_copy(update={"training": watched}),
        tiles,
        None,
        partial(_validate, data=data, metric=metric, curve=curve),
        progress=None,
    )
    seconds = time.monotonic() - started
    scorer = ImageScorer(model, settings, settings.scoring, model.mean.device)
    images = counted_images(metric, [item.image for item in items], settings)
    return _Trained(scorer, seconds, images, progress, tiles.labelled)


def _validate(scorer: ImageScorer, data: TrialData, metric: str, curve: LearningCurve) -> dict[str, Any]:
    """As `raysvq.training.validation.validate`, as far as a trial needs it; reports a rung that is reached.

    Model selection and patience go by the validations that the training would make by itself.
    """
    evaluated = data.evaluate_model(scorer)
    auroc = selection_auroc(metric, evaluated)
    result = curve.add_validation(metric_value(metric, evaluated, scorer.settings), auroc)
    if result:
        tune.report(result)
    return {
        "image_scores": [one.result.image_score for one in evaluated],
        "anomalous": [one.image.anomalous for one in evaluated],
        "auroc": auroc if curve.selectable else None,
        "unreadable": [],
    }


def _over_workers(
    number: int, settings: Settings, sweep: Sweep, curve: LearningCurve, repeat: int
) -> _Trained:
    """Train as `raysvq train` does, with Ray Train."""
    folder = sweep.state.model_folder(number)
    out = join(folder, f"repeat-{repeat}") if repeat else folder
    whole = exists(join(out, "bundle.json"))
    bundle = load_bundle(out) if whole else train(sweep.manifests[repeat], out, without_folds(settings))
    for row in bundle.history["history"]:
        curve.add_validation(row["validation_auroc"], row["validation_auroc"])
    if repeat:
        remove_folder(out)
    found = bundle.reference.validation
    return _Trained(
        ImageScorer(bundle.model, settings, settings.scoring),
        float(bundle.training["seconds"]),
        (found["normal"], found["anomalous"]),
    )
