"""Cross-fitting: every labelled image is scored by a model that has not learnt from it.

The images are cut into folds, and a model is trained on all folds but one for each. So all normal images of
the train and validation splits calibrate the decisions, while the final model learns from all of them. The
scores are exchangeable with those of new images as far as a model of fewer images scores like the final one.

The stem's features are computed once for all folds. What a fold found is written beside the checkpoints, so
that a run that is started again does not repeat it.
"""

from __future__ import annotations

import functools
import io
import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import torch

from raysvq.data.manifest import chunks, select
from raysvq.data.split import chance
from raysvq.errors import DataError, WorkersError
from raysvq.evaluation.metrics import image_auroc
from raysvq.model.card import LabelGain
from raysvq.model.network import Network
from raysvq.model.scorer import ImageScorer
from raysvq.runtime.cluster import Capacity
from raysvq.runtime.failures import in_a_sentence, is_rays, require_success, returns_failures
from raysvq.runtime.progress import Progress
from raysvq.schema import ANOMALOUS, NORMAL, TRAIN, VALIDATION
from raysvq.settings import Settings
from raysvq.storage import configure, exists, join, read_bytes, write_bytes
from raysvq.training.chunks import (
    CHUNK_IMAGES,
    Chunk,
    Part,
    ValidationItem,
    outlier_part,
    submitter,
    validation_part,
    value,
    with_units,
)
from raysvq.training.data_loading import Tiles, tiles_of
from raysvq.training.decoding import Attempts
from raysvq.training.in_process import train_codebook, train_in_process
from raysvq.training.shuffling import Columns
from raysvq.training.validation import (
    ScoredImage,
    ValidationImage,
    labelled_images,
    outcome_of,
    scored_image,
)

LEARNT = (TRAIN, VALIDATION)  # splits that the final model learns from
_ALWAYS = -1  # fold of images that every model learns from, and none scores
_FOUND = pa.schema(
    [
        ("image_id", pa.string()),
        ("score", pa.float32()),
        ("score_without_labels", pa.float32()),  # null of a model that has learnt from none
        ("cells", pa.list_(pa.float32())),
    ]
)


@dataclass(frozen=True)
class FoldData:
    """What all folds share."""

    items: Sequence[Chunk]  # lists of ValidationItem, with features
    outlier: Chunk | None  # Columns with features, those of copies too, and `number`
    outlier_ids: Sequence[str]  # number -> image id


@dataclass(frozen=True)
class Folds:
    """Which fold an image is in, and its unit, by image id."""

    number: int
    of: Mapping[str, int]
    units: Mapping[str, str]


def cross_fit(
    manifest: str,
    settings: Settings,
    folds: int,
    capacity: Capacity,
    folder: str,
    progress: Progress,
    attempts: Attempts | None = None,
) -> dict[str, Any]:
    """Score all labelled images of the train and validation splits by models that have not seen them.

    Args:
        folds: at most so many; never more than there are units of normal images.
        folder: for what the folds find, of this run alone.
        attempts: see `raysvq.training.decoding.guarded`.

    Returns:
        As `raysvq.training.validation.outcome_of`, and `label_gain`: a plain `LabelGain`, or None.

    Raises:
        DataError: all normal images are of one unit.
        TrainingError: a training diverged.
        WorkersError: the process of a fold died again and again.
    """
    images = [
        image
        for label in (NORMAL, ANOMALOUS)
        for image in labelled_images(manifest, LEARNT, label, settings.decision.group_by)
    ]
    images.sort(key=lambda image: (image.image_id, image.uri))

    @functools.cache
    def prepared() -> FoldData:
        submit = submitter(max(1, int(capacity.cpus)), settings.storage)
        return fold_data(manifest, images, settings, progress, submit, attempts)

    made = _made(images, folds, folder, settings.training.seed, prepared)
    missing = [fold for fold in range(made.number) if not exists(_file(folder, fold))]
    if missing:
        _score_folds(missing, made, prepared(), settings, capacity, folder, progress)
    found: list[ScoredImage] = []
    without: list[float | None] = []
    by_id = {image.image_id: replace(image, unit=made.units.get(image.image_id)) for image in images}
    for fold in range(made.number):
        for row in pq.read_table(io.BytesIO(read_bytes(_file(folder, fold)))).to_pylist():
            cells = np.array(row["cells"], np.float32)
            found.append(ScoredImage(by_id[row["image_id"]], row["score"], cells))
            without.append(row["score_without_labels"])
    gain = label_gain([(one.image.anomalous, one.score) for one in found], without, made.number)
    found.sort(key=lambda one: one.image.image_id)
    outcome = outcome_of(found, settings, [image.uri for image in images if image.image_id not in made.of])
    return outcome | {"label_gain": gain and gain.plain()}


def label_gain(
    scored: Sequence[tuple[bool, float]], without: Sequence[float | None], folds: int
) -> LabelGain | None:
    """How well images that models have not learnt from are told apart, with labels and without.

    Args:
        scored: whether an image is anomalous, and its score.
        without: their scores without labels; None of a model that learnt from none.

    Returns:
        None where no model that learnt from labels has scored images of both kinds.
    """
    known = [(*one, plain) for one, plain in zip(scored, without, strict=True) if plain is not None]
    if not known:
        return None
    anomalous, with_labels, label_free = (np.array(column) for column in zip(*known, strict=True))
    plain_auroc, auroc = image_auroc(anomalous, label_free), image_auroc(anomalous, with_labels)
    if plain_auroc is None or auroc is None:
        return None
    outliers = int(anomalous.sum())
    return LabelGain(plain_auroc, auroc, outliers, len(anomalous) - outliers, folds)


def fold_data(
    manifest: str,
    images: Sequence[ValidationImage],
    settings: Settings,
    progress: Progress,
    run: Callable[[Part], Chunk],
    attempts: Attempts | None = None,
) -> FoldData:
    """Put images through the stem.

    Args:
        run: makes a chunk of a part, in a task or in this process.
    """
    outliers = select(manifest, split=LEARNT, label=ANOMALOUS)
    numbered = outliers.append_column("number", pa.array(range(len(outliers)), pa.int64()))
    return FoldData(
        [
            run(partial(validation_part, part, settings, None, progress, attempts))
            for part in chunks(enumerate(images), CHUNK_IMAGES)
        ],
        run(partial(outlier_part, numbered, settings, progress, attempts)) if len(outliers) else None,
        outliers["image_id"].to_pylist(),
    )


def _made(
    images: Sequence[ValidationImage],
    number: int,
    folder: str,
    seed: int,
    prepared: Callable[[], FoldData],
) -> Folds:
    """The folds, as an earlier run cut them or new."""
    file = join(folder, "folds.json")
    if exists(file):
        return Folds(**json.loads(read_bytes(file)))
    found = {item.image.image_id: item.fingerprint for item in _items(prepared().items)}
    readable = [image for image in images if image.image_id in found]
    known = with_units(readable, [found[image.image_id] for image in readable])
    folds = cut_folds(known, number, seed)
    write_bytes(file, json.dumps({"number": folds.number, "of": folds.of, "units": folds.units}).encode())
    return folds


def _items(parts: Sequence[Chunk]) -> Iterator[ValidationItem]:
    for part in parts:
        yield from value(part)


def cut_folds(images: Sequence[ValidationImage], number: int, seed: int) -> Folds:
    """Cut images into folds: units stay whole, normal and anomalous ones are spread evenly; deterministic.

    A unit counts as anomalous where one of its images is. The only one of its kind is in no fold: a model
    without any outlier scores on another scale.

    Raises:
        DataError: there are fewer than two units of normal images.
    """
    units: dict[str, list[ValidationImage]] = defaultdict(list)
    for image in images:
        units[image.unit or image.image_id].append(image)
    anomalous = {name for name, members in units.items() if any(image.anomalous for image in members)}
    normal = units.keys() - anomalous
    if len(normal) < 2:
        raise DataError(
            f"setting `decision.folds`: found {len(normal)} unit(s) of normal images (a `group` of the"
            " manifest, near-duplicates, or an image), expected at least 2 to train without some of them; set"
            " decision.folds=0 to calibrate on the validation split"
        )
    number = min(number, len(normal))
    of: dict[str, int] = {}
    for kind in (normal, anomalous):
        sizes = Counter(dict.fromkeys(range(number), 0))
        for name in sorted(kind, key=lambda name: (chance(seed, "fold", name), name)):
            fold = min(sizes, key=lambda fold: (sizes[fold], fold)) if len(kind) > 1 else _ALWAYS
            sizes[fold] += len(units[name])
            of |= {image.image_id: fold for image in units[name]}
    return Folds(number, of, {image.image_id: name for name, part in units.items() for image in part})


def _score_folds(
    missing: Sequence[int],
    folds: Folds,
    data: FoldData,
    settings: Settings,
    capacity: Capacity,
    folder: str,
    progress: Progress,
) -> None:
    """Train and score in tasks, and write what each fold found as soon as it has."""
    use_gpu = settings.training.device != "cpu" and capacity.gpus >= 1
    threads = max(1, int(max(node.cpus for node in capacity.nodes) / folds.number))
    progress(f"cross-fitting: {folds.number} models, each scores a part that it has not learnt from")
    options: Any = {"num_cpus": threads, "num_gpus": int(use_gpu)}
    task: Any = ray.remote(**options)(returns_failures(_in_task))
    started = time.monotonic()
    running = {task.remote(fold, folds, data, settings, threads): fold for fold in missing}
    while running:
        (done,), _ = ray.wait(list(running), num_returns=1)
        fold = running.pop(done)
        try:
            found = require_success(ray.get(done))
        except Exception as error:
            if not is_rays(error):
                raise
            raise WorkersError(f"training without fold {fold} gave up: {in_a_sentence(error)}") from error
        buffer = io.BytesIO()
        pq.write_table(found, buffer)
        write_bytes(_file(folder, fold), buffer.getvalue())
        ended = folds.number - len(running)
        progress(f"fold {ended}/{folds.number}: {len(found)} images, {time.monotonic() - started:.0f} s")


def _file(folder: str, fold: int) -> str:
    return join(folder, f"fold-{fold}.parquet")


def _in_task(fold: int, folds: Folds, data: FoldData, settings: Settings, threads: int) -> pa.Table:
    configure(settings.storage)
    torch.set_num_threads(threads)
    return score_fold(fold, folds, data, settings)


def score_fold(fold: int, folds: Folds, data: FoldData, settings: Settings) -> pa.Table:
    """Train on all other folds, and score this one.

    Returns:
        `image_id`, `score`, `score_without_labels` and the sampled `cells` of the map of each image.
    """
    model = train_without(fold, folds, data, settings)
    scorer = ImageScorer(model, settings, settings.scoring, model.mean.device)
    has_labels = _outliers(fold, folds, data) is not None
    rows = []
    for item in _items(data.items):
        if folds.of.get(item.image.image_id) == fold:
            result = item.score(scorer)
            seed = settings.training.seed
            scored = scored_image(item.image, result.image_score, result.anomaly_map, seed)
            label_free = result.pooled_without_labels(settings.anomaly) if has_labels else None
            rows.append(
                {
                    "image_id": item.image.image_id,
                    "score": scored.score,
                    "score_without_labels": label_free,
                    "cells": scored.cells,
                }
            )
    return pa.Table.from_pylist(rows, schema=_FOUND)


def train_without(fold: int | None, folds: Folds, data: FoldData, settings: Settings) -> Network:
    """Train in this process on all folds but one; None: on all of them."""

    def normal() -> Iterator[Columns]:
        for part in data.items:
            learnt = [item.features for item in value(part) if _is_learnt(item, fold, folds)]
            if learnt:
                yield {"features": np.stack(learnt)} | doubt(len(learnt))

    def doubt(count: int) -> Columns:
        return {} if settings.training.verified else {"unknown": np.ones(count, np.bool_)}

    outlier = _outliers(fold, folds, data)
    if outlier is None and settings.training.verified:
        return train_codebook(settings, Tiles(normal, None, True))
    at_the_end = settings.training.model_copy(update={"validate_every": settings.training.steps})
    once = settings.model_copy(update={"training": at_the_end})
    tiles = tiles_of(normal, outlier, settings.training.outlier_copies, True)
    return train_in_process(once, tiles, None, _no_validation, progress=None)[0]


def _is_learnt(item: ValidationItem, fold: int | None, folds: Folds) -> bool:
    return not item.image.anomalous and folds.of[item.image.image_id] != fold


def _outliers(fold: int | None, folds: Folds, data: FoldData) -> Columns | None:
    if data.outlier is None:
        return None
    columns: Columns = value(data.outlier)
    ids = [data.outlier_ids[number] for number in columns["number"]]
    learnt = np.array([folds.of.get(image_id) != fold for image_id in ids])
    if not learnt.any():
        return None
    return {name: column[learnt] for name, column in columns.items() if name != "number"}


def _no_validation(_: ImageScorer) -> dict[str, Any]:
    return {"anomalous": [False], "auroc": None, "unreadable": []}
