"""Ray Train: manifest -> model bundle. The driver's side comes first, then what runs on every worker."""

from __future__ import annotations

import contextlib
import math
import signal
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray.data
import ray.train
import ray.train.torch
import torch
from ray.train import CheckpointConfig, DataConfig, FailureConfig, RunConfig, ScalingConfig
from torch import nn

from raysvq import log
from raysvq.errors import DataError, TrainingError, TrainingMemoryError, WorkersError
from raysvq.model.bundle import Bundle, save_bundle, save_reference
from raysvq.model.network import Network, build_network, cell_size
from raysvq.model.scorer import ImageScorer
from raysvq.runtime.cluster import Capacity, connect, quiet_ray_data
from raysvq.runtime.failures import in_a_sentence
from raysvq.runtime.lease import lease
from raysvq.runtime.progress import forwarded_progress
from raysvq.runtime.stall import stall_reporter
from raysvq.settings import Settings, parse_settings
from raysvq.storage import canonical, configure, exists, filesystem, join, remove_folder
from raysvq.training.checkpoint import TrainingState, load_model, load_state
from raysvq.training.chunks import find_units, submitter
from raysvq.training.cross_fitting import cross_fit
from raysvq.training.data_loading import Batches, Place, Tiles
from raysvq.training.decoding import counted_attempts, guarded, process_deadline
from raysvq.training.export import export_bundle, require_normals, write_training_ids
from raysvq.training.initialize import initialize, save
from raysvq.training.metrics import write_events
from raysvq.training.plan import WorkerPlan, learnt_splits, plan_workers, require_trainable, run_name
from raysvq.training.shuffling import BLOCK, Columns, Source
from raysvq.training.tile_stream import normal_tiles, outlier_tiles, require_marked
from raysvq.training.trainer import Trainer, fit, may_be_selected, naming_memory, selection
from raysvq.training.validation import ValidationImage, reference_of, validate


def train(manifest: str, out: str, settings: Settings) -> Bundle:
    """Train a model on a manifest and save it as a bundle.

    With folds (see `decision.folds`) it learns from the train and validation splits, and models that have not
    seen an image score it, to calibrate the decisions; else it learns from the train split, and the
    validation split calibrates.

    A run that was interrupted goes on from its last checkpoint when it is started again with the
    same manifest, settings and `out`. A folder belongs to one run at a time.

    Args:
        manifest: a manifest, path or URI.
        out: the bundle's folder, path or URI.

    Raises:
        DataError, SettingsError, StorageError: the run cannot start, or another one has taken it over.
        TrainingError: the loss diverged.
        WorkersError: workers failed more than `training.max_failures` times.
    """
    configure(settings.storage)
    manifest, out = canonical(manifest), canonical(out)
    training_set, images = require_trainable(manifest, settings)
    _require_no_model(out)
    with lease(out, uuid.uuid4().hex) as require_held:
        _require_no_model(out)  # another run may have ended since
        capacity = connect(settings.ray)
        quiet_ray_data()
        plan = plan_workers(settings.training, capacity)
        started = time.monotonic()
        folder = join(out, "_training")
        model, state, history, outliers = _run(
            manifest, out, settings, training_set, images, plan, capacity, folder
        )
        summary = training_set | {
            "outlier_tiles": outliers,
            "device": "cuda" if plan.use_gpu else "cpu",
            "seconds": round(time.monotonic() - started, 1),
        }
        bundle = export_bundle(model, settings, state, history, summary)
        require_held()
        write_training_ids(manifest, settings, learnt_splits(training_set["folds"]), out)
        save_reference(reference_of(state.validation), out)
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
    capacity: Capacity,
    folder: str,
) -> tuple[Network, TrainingState, list[dict[str, Any]], int]:
    """The best model, the state of its checkpoint, the whole history, and the number of outlier tiles.

    The state's validation is what calibrates.

    Args:
        folder: for checkpoints, and for what folds find.
    """
    name, folds = run_name(manifest, settings), training_set["folds"]
    splits = learnt_splits(folds)
    with (
        stall_reporter("progress") as alive,
        forwarded_progress(alive) as progress,
        counted_attempts() as attempts,
    ):
        if folds:
            place = join(folder, f"{name}-folds")
            scored = cross_fit(manifest, settings, folds, capacity, place, progress, attempts)
            require_normals(scored)
        else:
            submit = submitter(max(1, int(capacity.cpus)), settings.storage)
            images = find_units(images, settings, submit, attempts)
        datasets = {"normal": normal_tiles(manifest, settings, progress, attempts, splits)}
        outliers = 0
        if training_set["outliers"]:
            marked = outlier_tiles(manifest, settings, cell_size(settings.model), progress, attempts, splits)
            marked.context.execution_options.preserve_order = True
            datasets["outlier"] = marked.materialize()
            outliers = datasets["outlier"].count()
            require_marked(outliers, training_set["outliers"], settings.tiles)
        start = _announce(training_set, outliers, images, plan, settings)
        progress(log.Line(start, "start", images=training_set["normals"], tiles=outliers))
        loop = {
            "settings": settings.model_dump(mode="json"),
            "storage": settings.storage,
            "validation": images,
            "folds": folds,
            "outlier_tiles": outliers,
            "threads": plan.threads,
            "out": out,
            "progress": progress,
            "attempts": attempts,
        }
        result, history = _fit(_trainer(loop, datasets, plan, settings, folder, name))
    model, state = _best(result, settings)
    if folds:
        state.validation |= scored
    return model, state, history, outliers


def _require_no_model(out: str) -> None:
    if exists(join(out, "bundle.json")):
        raise DataError(f"{out} already holds a model; choose another --out, or remove it")


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
            datasets_to_split=["normal"], execution_options=ray.data.ExecutionOptions(preserve_order=True)
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


def _announce(
    training_set: dict[str, Any],
    outliers: int,
    images: list[ValidationImage],
    plan: WorkerPlan,
    settings: Settings,
) -> str:
    labelled = sum(image.anomalous for image in images)
    unlabelled = f", {training_set['unlabelled']} unlabelled ones" if training_set["unlabelled"] else ""
    validation = (
        "the model of the last step is taken"
        if training_set["folds"]
        else f"validating on {len(images) - labelled} normal and {labelled} anomalous images"
    )
    return (
        f"training on {training_set['normals']} normal images{unlabelled} and {outliers} anomalous tiles of"
        f" {training_set['outliers']} labelled outliers; {validation}\n"
        f"{settings.training.steps} steps of {settings.training.batch_size} tiles on {_range(plan)}"
        f" {'GPU' if plan.use_gpu else 'CPU'} worker(s); starting them takes some seconds"
    )


def _range(plan: WorkerPlan) -> str:
    return str(plan.workers) if plan.least == plan.workers else f"{plan.least} to {plan.workers}"


def _fit(trainer: ray.train.torch.TorchTrainer) -> tuple[ray.train.Result, list[dict[str, Any]]]:
    """Run Ray Train. Its result, and the history of all steps, also those after the best checkpoint."""
    try:
        with _interruptible():
            result = trainer.fit()
    except ray.train.TrainingFailedError as error:
        raise WorkersError(f"training gave up: {in_a_sentence(error)}") from error
    outcome: dict[str, Any] = result.return_value  # type: ignore[attr-defined]  # of rank 0; Train V2 only
    if "problem" in outcome:
        raise TrainingError(outcome["problem"])
    return result, outcome["history"]


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt on Ctrl-C: Ray Train would report success, and leave its own handler."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


def _best(result: ray.train.Result, settings: Settings) -> tuple[Network, TrainingState]:
    """Model and state of the checkpoint with the best validation."""
    checkpoint = result.get_best_checkpoint("selection", "max")
    if checkpoint is None:
        raise TrainingError("Ray Train returned no checkpoint")
    model = build_network(settings)
    with checkpoint.as_directory() as folder:
        load_model(Path(folder), model)
        return model.eval(), load_state(Path(folder))


def train_on_worker(config: dict[str, Any]) -> dict[str, Any]:
    """Train to `training.steps`, reporting a checkpoint at every validation.

    Returns:
        The `history` of the whole run, or the `problem` why it cannot succeed, the same on all ranks. It is
        no exception, as Ray Train would take that for a lost worker and try again.

    Raises:
        TrainingMemoryError: on one rank among several; the others would wait for it.
    """
    batch_size = config["settings"]["training"]["batch_size"]
    try:
        with naming_memory(f"training.batch_size={batch_size}"):
            return {"history": _train_rank(config).history}
    except TrainingMemoryError as error:
        if ray.train.get_context().get_world_size() > 1:
            raise
        return {"problem": str(error)}
    except TrainingError as error:
        return {"problem": str(error)}


def _train_rank(config: dict[str, Any]) -> TrainingState:
    configure(config["storage"])
    settings = parse_settings(config["settings"])
    context = ray.train.get_context()
    place = Place(ray.train.torch.get_device(), context.get_world_rank(), context.get_world_size())
    if place.device.type == "cpu":
        torch.set_num_threads(config["threads"])
    labelled = config["outlier_tiles"]
    tiles = Tiles(_shard("normal"), _shard("outlier") if labelled else None, labelled=labelled)
    progress = config["progress"] if place.rank == 0 else None
    restored = ray.train.get_checkpoint()
    with restored.as_directory() if restored else contextlib.nullcontext() as folder:
        checkpoint = Path(folder) if folder else None
        trainer, batches = initialize(settings, tiles, place, checkpoint, progress, _data_parallel)

    def selectable(auroc: float | None) -> bool:
        # With folds the model has learnt from these images, which say nothing about it: the last step counts.
        return may_be_selected(trainer.state, None if config["folds"] else auroc, settings.training.steps)

    def score(scorer: ImageScorer) -> dict[str, Any]:
        # Attempts are unlimited here: `training.max_failures` bounds them.
        with guarded(f"validation {place.rank}", settings, config["attempts"], math.inf) as guard:
            images = config["validation"]
            outcome = validate(scorer, images, place.rank, guard.require_decodable, selectable)
        return outcome | {"auroc": None} if config["folds"] else outcome

    deadline = process_deadline(settings.scoring.decode_timeout_s)
    fit(trainer, batches, score, lambda: _report(trainer, batches, place, config["out"]), deadline)
    return trainer.state


def _shard(name: str) -> Source:
    shard = ray.train.get_dataset_shard(name)

    def read() -> Iterator[Columns]:
        return iter(shard.iter_batches(batch_size=BLOCK, batch_format="numpy"))

    return read


def _data_parallel(model: Network) -> nn.Module:
    return ray.train.torch.prepare_model(
        model, move_to_device=False, parallel_strategy_kwargs={"broadcast_buffers": False}
    )


def _report(trainer: Trainer, batches: Batches, place: Place, out: str) -> None:
    """Report this rank's part of a checkpoint to Ray Train, and write the event file."""
    history = trainer.state.history
    if place.rank == 0:
        write_events(history, out)
    row = history[-1]
    metrics = {"step": row["step"], "selection": selection(row)}
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder), trainer, batches, place)
        ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))
