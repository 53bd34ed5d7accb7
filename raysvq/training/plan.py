"""Checks before a training starts, and the CPUs and GPUs of each worker."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc
import pyarrow.dataset as ds

from raysvq import log
from raysvq.data.decision_group import require_groups
from raysvq.data.describe import describe
from raysvq.data.manifest import open_manifest, require_distinct_rows, select
from raysvq.data.preflight import hint_at_depth, require_fitting
from raysvq.errors import DataError, SettingsError
from raysvq.model.network import build_network
from raysvq.runtime.cluster import Capacity
from raysvq.schema import ANOMALOUS, NORMAL, TRAIN, UNKNOWN, VALIDATION
from raysvq.settings import DecisionSettings, Settings, TrainingSettings
from raysvq.settings.decision import NEEDS_OUTLIERS
from raysvq.training.held_out import hint_at_resolution
from raysvq.training.validation import COMPARED, ValidationImage, first_images

_SAMPLED = 32
_LEARNT = ["image_id", "size_bytes", "etag", "mtime", "label", "split", "mask_uri", "group"]
_AUTOMATIC_FOLDS = 5
_MAX_AUTOMATIC = 2000  # normal images; more of them promise enough without cross-fitting
# Settings that may change before a run is continued. The split counts as part of the data.
_FREE: Any = {
    "split": True,
    "evaluation": True,
    "ray": True,
    "decision": set(DecisionSettings.model_fields) - {"folds", "group_by", "pixel_false_alarm_rate"},
    "training": {"workers", "min_workers", "max_failures"},
}
_SHARES = (4.0, 3.0, 2.0, 1.0, 0.5, 0.25, 0.125)  # CPUs of a worker; the most that fits is taken


@dataclass(frozen=True)
class WorkerPlan:
    """Number of workers and resources of each."""

    workers: int
    cpus: float
    use_gpu: bool
    threads: int  # PyTorch threads on a CPU
    least: int  # workers needed to start and to continue

    @property
    def number(self) -> int | tuple[int, int]:
        """Number of workers for Ray Train: fixed, or (least, most)."""
        return self.workers if self.least == self.workers else (self.least, self.workers)

    @property
    def resources(self) -> dict[str, float]:
        """Resources of one worker for Ray Train."""
        return {"CPU": self.cpus} | ({"GPU": 1.0} if self.use_gpu else {})


def plan_workers(settings: TrainingSettings, capacity: Capacity) -> WorkerPlan:
    """Fit the workers into the cluster, with CPU left for reading data, if possible on every node.

    Raises:
        SettingsError: the cluster is too small, or the batch cannot be shared out evenly.
    """
    workers, least = settings.workers, settings.min_workers or settings.workers
    _require_shares(settings.batch_size, least, workers)
    use_gpu = settings.device == "cuda" or (settings.device == "auto" and capacity.gpus >= least)
    if use_gpu and capacity.gpus < least:
        raise SettingsError(
            f"setting `training.device`: cuda with {_name(least, workers)} needs {least} GPUs,"
            f" the cluster has {capacity.gpus:g}"
        )
    fitting = [share for share in _SHARES if capacity.places(share, use_gpu) >= least]
    cpus = next((share for share in fitting if _keep_a_cpu_each(capacity, share, use_gpu, workers)), None)
    if cpus is None and least == workers:
        cpus = next((share for share in fitting if capacity.keeps_a_cpu(workers, share)), None)
    if cpus is None:
        raise SettingsError(
            f"setting `training.workers`: {least} workers and a CPU for reading data"
            f"{'' if least == workers else ' on each node that holds some'} do not"
            f" fit into {capacity.cpus:g} CPUs on {len(capacity.nodes)} node(s)"
        )
    hosts = sum(node.cpus >= cpus and node.gpus >= use_gpu for node in capacity.nodes)
    max_cpus = max(node.cpus for node in capacity.nodes)
    together = min(-(-workers // hosts), int(max_cpus / cpus))  # on one node
    threads = max(1, int(max_cpus / together))
    return WorkerPlan(workers, cpus, use_gpu, threads, least)


def _require_shares(batch_size: int, least: int, maximum: int) -> None:
    """Refuse a batch that some allowed number of workers cannot share evenly."""
    multiple = math.lcm(*range(least, maximum + 1))
    if batch_size % multiple:
        raise SettingsError(
            f"setting `training.batch_size`: {batch_size} cannot be shared evenly by"
            f" {_name(least, maximum)}; expected a multiple of {multiple}"
        )
    if batch_size // maximum < 2:
        raise SettingsError(
            f"setting `training.batch_size`: {batch_size} leaves fewer than 2 tiles for each of"
            f" training.workers={maximum}"
        )


def _keep_a_cpu_each(capacity: Capacity, share: float, use_gpu: bool, workers: int) -> bool:
    """Whether each node full of workers has a CPU left to read with, whichever nodes are lost."""
    full = (
        (node, min(workers, int(node.cpus / share), int(node.gpus) if use_gpu else workers))
        for node in capacity.nodes
    )
    return all(node.cpus - held * share >= 1 for node, held in full if held)


def _name(least: int, maximum: int) -> str:
    if least == maximum:
        return f"training.workers={maximum}"
    return f"training.min_workers={least} to training.workers={maximum}"


def require_trainable(manifest: str, settings: Settings) -> tuple[dict[str, Any], list[ValidationImage]]:
    """Describe the training set, with the number of `folds`, and its validation images.

    With folds all labelled images of the train and validation splits are learnt from and calibrate, and a few
    of them, given here, show how bfloat16 deviates.

    Raises:
        DataError, SettingsError: it cannot be trained or validated on.
    """
    rows = open_manifest(manifest)
    require_distinct_rows(rows)
    require_groups(rows, settings.decision.group_by)
    folds = _folds(rows, settings)
    splits = learnt_splits(folds)
    calibrating = splits if folds else (VALIDATION,)
    training_set = _training_set(manifest, rows, settings, splits) | {"folds": folds}
    limit = COMPARED if folds else settings.training.validation_images
    images = first_images(manifest, calibrating, limit, settings.decision.group_by)
    if not folds:
        _require_validation(images, manifest, settings)
    _require_outliers(manifest, rows, calibrating, settings)
    build_network(settings).load_pretrained()  # a stem that is not there is found out before hours of reading
    return training_set, images


def learnt_splits(folds: int) -> tuple[str, ...]:
    """The splits whose labelled images the final model learns from."""
    return (TRAIN, VALIDATION) if folds else (TRAIN,)


def _folds(rows: ds.Dataset, settings: Settings) -> int:
    """The number of folds to cross-fit with; 0: the validation split calibrates."""
    asked = settings.decision.folds
    if asked == 0:
        return 0
    unfit = _not_to_be_folded(settings)
    if asked is not None:
        if unfit:
            raise SettingsError(f"setting `decision.folds`: {asked} folds need {unfit}; set it to 0")
        return asked
    learnt = pc.field("split").isin([TRAIN, VALIDATION]) & (pc.field("label") == NORMAL)
    normals = rows.count_rows(filter=learnt)
    return _AUTOMATIC_FOLDS if not unfit and 2 <= normals <= _MAX_AUTOMATIC else 0


def _not_to_be_folded(settings: Settings) -> str | None:
    """What folds need and these settings lack."""
    if settings.model.encoder != "features" or settings.tiles.mode != "whole":
        return (
            "model.encoder=features and tiles.mode=whole, where a training takes seconds; found"
            f" model.encoder={settings.model.encoder} and tiles.mode={settings.tiles.mode}"
        )
    if settings.training.patience is not None:
        return (
            "training.patience unset, as the final model learns from all images and none is left to stop by;"
            f" found {settings.training.patience}"
        )
    if settings.training.unlabelled:
        return "training.unlabelled=false, as images without a label are in no fold"
    return None


def _training_set(
    manifest: str, rows: ds.Dataset, settings: Settings, splits: Sequence[str]
) -> dict[str, Any]:
    normal = pc.field("split").isin(list(splits)) & (pc.field("label") == NORMAL)
    normals = rows.count_rows(filter=normal)
    if not normals:
        raise DataError(
            f"manifest {manifest} has no normal images in its {' or '.join(splits)} split; label some"
            " `normal`, or index a tree with train/good"
        )
    sample = rows.head(_SAMPLED, columns=["uri"], filter=normal)
    require_fitting(sample["uri"].to_pylist(), settings.tiles)
    if hint := hint_at_depth(sample["uri"].to_pylist(), settings.tiles):
        log.info(hint, "hint")
    outliers = select(manifest, split=splits, label=ANOMALOUS)
    if hint := hint_at_resolution(outliers["mask_uri"].to_pylist(), settings):
        log.info(hint, "hint")
    unmasked = outliers.filter(pc.is_null(outliers["mask_uri"]))["uri"].to_pylist()
    if unmasked and settings.tiles.mode == "tiles":
        raise DataError(
            f"{len(unmasked)} labelled outliers have no mask, such as {unmasked[0]}: which of their tiles are"
            " anomalous is unknown; add masks, or set tiles.mode=whole"
        )
    if len(outliers) and settings.objective.form == "negation":
        log.warning(
            "objective.form=negation (the paper's eq. 3) has no lower bound: the loss may run away, which"
            " ends the training with an error; objective.form=hinge is bounded"
        )
    unlabelled = rows.count_rows(filter=pc.field("label") == UNKNOWN) if settings.training.unlabelled else 0
    counts = {"normals": normals, "unlabelled": unlabelled, "outliers": len(outliers)}
    return {"manifest": manifest, **counts, "data": describe(rows, splits).plain()}


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


def _require_outliers(manifest: str, rows: ds.Dataset, splits: Sequence[str], settings: Settings) -> None:
    """Refuse a policy that weighs anomalous images where no image of the splits that calibrate is one."""
    calibrating = pc.field("split").isin(list(splits)) & (pc.field("label") == ANOMALOUS)
    policy = settings.decision.policy
    if policy in NEEDS_OUTLIERS and not rows.count_rows(filter=calibrating):
        raise DataError(
            f"setting `decision.policy`: {policy} weighs normal against anomalous images, and manifest"
            f" {manifest} has no anomalous ones in its {' or '.join(splits)} split; label outliers when"
            " indexing, or set decision.policy=max_false_alarm_rate"
        )


def run_name(manifest: str, settings: Settings) -> str:
    """A name derived from data and settings, by which a restart finds its checkpoints.

    The split is part of the data: a checkpoint of another one has learnt from images that are now tested.
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
