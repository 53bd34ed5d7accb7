"""Ray Train: manifest -> model bundle."""

from __future__ import annotations

import hashlib
import json
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import ray.data
import ray.train
import ray.train.torch
from ray.train import CheckpointConfig, DataConfig, FailureConfig, RunConfig, ScalingConfig

from raysvq.data.manifest import open_manifest, require_distinct_rows, select
from raysvq.data.probe import hint_at_depth, require_fitting
from raysvq.data.stream import normal_tiles, outlier_tiles
from raysvq.errors import DataError, TrainingError, WorkersError
from raysvq.model.bundle import Bundle, save_bundle
from raysvq.model.network import SSVQVAE, cell_size
from raysvq.runtime.cluster import connect
from raysvq.runtime.failures import in_a_sentence
from raysvq.runtime.lease import lease
from raysvq.runtime.progress import relay
from raysvq.runtime.stall import watchdog
from raysvq.schema import ANOMALOUS, NORMAL, TRAIN, UNKNOWN, VALIDATION
from raysvq.settings import Settings
from raysvq.storage import canonical, configure, exists, filesystem, join, remove_folder
from raysvq.training.checkpoint import Progress, load_model, load_progress
from raysvq.training.finish import finish
from raysvq.training.plan import WorkerPlan, plan_workers
from raysvq.training.samples import require_marked
from raysvq.training.validation import ValidationImage, validation_images
from raysvq.training.worker import train_on_worker

PROBED = 32
_LEARNT = ["image_id", "size_bytes", "etag", "mtime", "label", "split", "mask_uri"]
# Settings that a run may go on with changed; the split is part of the data.
_FREE: Any = {
    "split": True,
    "evaluation": True,
    "ray": True,
    "training": {"workers", "min_workers", "max_failures"},
}


def train(manifest: str, out: str, settings: Settings) -> Bundle:
    """Train a model on a manifest's training split and save it as a bundle.

    A run that was interrupted goes on from its last checkpoint when it is started again with the
    same manifest, settings and `out`. One run at a time has a folder.

    Args:
        manifest: a manifest, path or URI.
        out: the bundle's folder, path or URI.

    Raises:
        DataError, SettingsError, StorageError: the run cannot start, or another one has taken it over.
        TrainingError: the loss ran away.
        WorkersError: workers failed more than `training.max_failures` times.
    """
    configure(settings.storage)
    manifest, out = canonical(manifest), canonical(out)
    training_set, images = require_trainable(manifest, settings)
    _require_no_model(out)
    with lease(out, uuid.uuid4().hex) as require_held:
        _require_no_model(out)  # another run may just have ended
        plan = plan_workers(settings.training, connect(settings.ray))
        started = time.monotonic()
        folder = join(out, "_training")
        model, progress, history, outliers = _run(manifest, out, settings, training_set, images, plan, folder)
        summary = training_set | {
            "outlier_tiles": outliers,
            "device": "cuda" if plan.use_gpu else "cpu",
            "seconds": round(time.monotonic() - started, 1),
        }
        bundle = finish(model, settings, progress, history, summary)
        require_held()
        save_bundle(bundle, out)
        remove_folder(folder)
    return bundle


def _run(
    manifest: str,
    out: str,
    settings: Settings,
    training_set: dict[str, Any],
    images: list[ValidationImage],
    plan: WorkerPlan,
    folder: str,
) -> tuple[SSVQVAE, Progress, list[dict[str, Any]], int]:
    """The best model, how the run stood then, the history of all of it, and the number of outlier tiles.

    Args:
        folder: for checkpoints.
    """
    with watchdog("progress") as alive, relay(alive) as voice:
        datasets = {"normal": normal_tiles(manifest, settings, voice)}
        outliers = 0
        if training_set["outliers"]:
            marked = outlier_tiles(manifest, settings, cell_size(settings.model), voice)
            marked.context.execution_options.preserve_order = True
            datasets["outlier"] = marked.materialize()
            outliers = datasets["outlier"].count()
            require_marked(outliers, training_set["outliers"], settings.tiles)
        voice.say(_announce(training_set, outliers, images, plan, settings))
        loop = {
            "settings": settings.model_dump(mode="json"),
            "storage": settings.storage,
            "validation": images,
            "outlier_tiles": outliers,
            "threads": plan.threads,
            "out": out,
            "relay": voice,
        }
        name = run_name(manifest, settings)
        result, history = _fit(_trainer(loop, datasets, plan, settings, folder, name))
    return *_best(result, settings), history, outliers


def _require_no_model(out: str) -> None:
    if exists(join(out, "bundle.json")):
        raise DataError(f"{out} already holds a model; choose another --out, or remove it")


def require_trainable(manifest: str, settings: Settings) -> tuple[dict[str, Any], list[ValidationImage]]:
    """What there is to train and to validate on.

    Raises:
        DataError: it cannot be trained or validated on.
    """
    training_set = _training_set(manifest, settings)
    images = validation_images(manifest, settings.training.validation_images)
    _require_validation(images, manifest, settings)
    return training_set, images


def _trainer(
    loop: dict[str, Any],
    datasets: dict[str, ray.data.Dataset],
    plan: WorkerPlan,
    settings: Settings,
    folder: str,
    name: str,
) -> ray.train.torch.TorchTrainer:
    fs, path = filesystem(folder)
    return ray.train.torch.TorchTrainer(
        train_on_worker,  # type: ignore[arg-type]  # what it returns comes back in the result
        train_loop_config=loop,
        datasets={**datasets},
        dataset_config=DataConfig(
            datasets_to_split=["normal"],
            execution_options=ray.data.ExecutionOptions(preserve_order=True),
        ),
        scaling_config=ScalingConfig(
            num_workers=plan.number,  # type: ignore[arg-type]  # Train V2 takes a range
            use_gpu=plan.use_gpu,
            resources_per_worker=plan.resources,
        ),
        run_config=RunConfig(
            name=name,
            storage_path=path,
            storage_filesystem=fs,
            failure_config=FailureConfig(max_failures=settings.training.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=2, checkpoint_score_attribute="selection"),
        ),
    )


def _training_set(manifest: str, settings: Settings) -> dict[str, Any]:
    rows = open_manifest(manifest)
    require_distinct_rows(rows)
    split = pc.field("split") == TRAIN
    normals = rows.count_rows(filter=split & (pc.field("label") == NORMAL))
    if not normals:
        raise DataError(
            f"manifest {manifest} has no normal images in its train split; label some `normal`, or index"
            " a tree with train/good"
        )
    sample = rows.head(PROBED, columns=["uri"], filter=split & (pc.field("label") == NORMAL))
    require_fitting(sample["uri"].to_pylist(), settings.tiles)
    if hint := hint_at_depth(sample["uri"].to_pylist(), settings.tiles):
        print(hint, flush=True)
    outliers = select(manifest, split=TRAIN, label=ANOMALOUS)
    unmasked = outliers.filter(pc.is_null(outliers["mask_uri"]))["uri"].to_pylist()
    if unmasked and settings.tiles.mode == "tiles":
        raise DataError(
            f"{len(unmasked)} labelled outliers have no mask, such as {unmasked[0]}: which of their tiles are"
            " anomalous cannot be told; add masks, or set tiles.mode=whole"
        )
    unlabelled = rows.count_rows(filter=pc.field("label") == UNKNOWN) if settings.training.unlabelled else 0
    return {
        "manifest": manifest,
        "normals": normals,
        "unlabelled": unlabelled,
        "outliers": len(outliers),
    }


def _require_validation(images: list[ValidationImage], manifest: str, settings: Settings) -> None:
    if settings.training.patience is not None and not any(image.anomalous for image in images):
        raise DataError(
            f"setting `training.patience`: manifest {manifest} has no anomalous images in its validation"
            " split to measure progress by; label outliers when indexing, or leave patience unset"
        )
    if all(image.anomalous for image in images):
        raise DataError(
            f"manifest {manifest} has no normal images in its validation split, which the threshold is"
            " fitted on; raise split.validation_fraction when indexing"
        )


def _announce(
    training_set: dict[str, Any],
    outliers: int,
    images: list[ValidationImage],
    plan: WorkerPlan,
    settings: Settings,
) -> str:
    labelled = sum(image.anomalous for image in images)
    unlabelled = f", {training_set['unlabelled']} unlabelled ones" if training_set["unlabelled"] else ""
    return (
        f"training on {training_set['normals']} normal images{unlabelled} and {outliers} anomalous tiles of"
        f" {training_set['outliers']} labelled outliers; validating on {len(images) - labelled} normal and"
        f" {labelled} anomalous images\n"
        f"{settings.training.steps} steps of {settings.training.batch_size} tiles on {_range(plan)}"
        f" {'GPU' if plan.use_gpu else 'CPU'} worker(s); starting them takes some seconds"
    )


def _range(plan: WorkerPlan) -> str:
    return str(plan.workers) if plan.least == plan.workers else f"{plan.least} to {plan.workers}"


def _fit(trainer: ray.train.torch.TorchTrainer) -> tuple[ray.train.Result, list[dict[str, Any]]]:
    """The result, and the history of all steps, the best one being seldom the last."""
    try:
        with _interruptible():
            result = trainer.fit()
    except ray.train.TrainingFailedError as error:
        raise WorkersError(f"training gave up: {in_a_sentence(error)}") from error
    outcome: dict[str, Any] = result.return_value  # type: ignore[attr-defined]  # of rank 0; Train V2 only
    if "problem" in outcome:
        raise TrainingError(outcome["problem"])
    return result, outcome["history"]


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C ends a run with KeyboardInterrupt: Ray Train would make it a success, and keep its handler."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


def _best(result: ray.train.Result, settings: Settings) -> tuple[SSVQVAE, Progress]:
    """The checkpoint that validated best."""
    checkpoint = result.get_best_checkpoint("selection", "max")
    if checkpoint is None:
        raise TrainingError("Ray Train returned no checkpoint")
    model = SSVQVAE(settings)
    with checkpoint.as_directory() as folder:
        load_model(Path(folder), model)
        return model.eval(), load_progress(Path(folder))


def run_name(manifest: str, settings: Settings) -> str:
    """The same for the same data and settings, so that a restart finds its checkpoints.

    Who trains and who validates is part of the data: a checkpoint of another split has learnt from
    images that are now tested.
    """
    learnt = pc.field("split").isin([TRAIN, VALIDATION])
    if settings.training.unlabelled:
        learnt = learnt | (pc.field("label") == UNKNOWN)
    count = total = 0
    for batch in open_manifest(manifest).to_batches(columns=_LEARNT, filter=learnt):
        for values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            count += 1
            total += int.from_bytes(hashlib.blake2b(repr(values).encode(), digest_size=16).digest(), "big")
    decisive = json.dumps(settings.model_dump(mode="json", exclude=_FREE), sort_keys=True)
    key = f"{decisive}:{count}:{total % 2**128:x}"
    return hashlib.sha256(key.encode()).hexdigest()[:16]
