"""Data that the trials of a sweep share: images are fetched, decoded, cut and put through a stem once.

A task makes a chunk of a few images, which stays in Ray's object store. So no process holds the whole set,
Ray spills to disk what does not fit, and makes a chunk again that is lost with its machine. Trials stream
the chunks. The few labelled outliers are one chunk, as their copies are drawn from one random sequence.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raysvq.data.manifest import chunks, open_manifest, select
from raysvq.errors import RaysvqError, TrainingMemoryError
from raysvq.imaging.decode import DecodeError
from raysvq.imaging.pixels import load_tiles
from raysvq.imaging.synthetic import with_defect
from raysvq.imaging.tiling import Tiling
from raysvq.model.device import memory_errors_as
from raysvq.model.network import Network, build_network
from raysvq.model.scorer import ImageScorer, exact_convolutions, to_model_input
from raysvq.runtime.cluster import Capacity
from raysvq.runtime.progress import Progress
from raysvq.schema import ANOMALOUS, NORMAL, TRAIN
from raysvq.settings import ModelSettings, Settings, StorageSettings, digest
from raysvq.storage import configure
from raysvq.tables import stream
from raysvq.training.augmentation import with_copies
from raysvq.training.data_loading import Tiles
from raysvq.training.decoding import guarded
from raysvq.training.frozen_features import frozen_features
from raysvq.training.shuffling import BLOCK, Columns, in_memory, join, pieces
from raysvq.training.tile_stream import normal_samples, outlier_samples
from raysvq.training.validation import ValidationImage, validation_images
from raysvq.tuning.trial_metrics import SYNTHETIC_AUROC, Evaluated

CHUNK_IMAGES = 16
_RETRIES = 10  # new attempts for a chunk whose machine is lost

Chunk = Any  # reference to a part's result or error; outside of Ray the result or error
Part = Callable[[], Any]


@dataclass(frozen=True)
class ValidationItem:
    """A validation image that can be read."""

    image: ValidationImage
    defect_seed: tuple[int, ...] | None = None  # seed of a defect to draw on it
    tiling: Tiling | None = None  # tiling of a whole image, with `features`
    features: npt.NDArray[np.float16] | None = None  # (h, w, S) stem features

    def read(self, max_pixels: int) -> bytes:
        """The file, the same every time."""
        content = self.image.read()
        if self.defect_seed is None:
            return content
        return with_defect(content, max_pixels, np.random.default_rng(self.defect_seed))


@dataclass(frozen=True)
class TrialData:
    """Chunks of training tiles, or their features, and of validation images."""

    normal: Sequence[Chunk]  # Columns, see `raysvq.training.data_loading.Tiles`
    outlier: Chunk | None  # Columns, with copies where they are features
    validation: Sequence[Chunk]  # lists of ValidationItem
    features: bool  # whether rows have features in place of tiles

    def tiles(self) -> Tiles:
        """The tiles for `raysvq.training.in_process.train_in_process`."""
        outlier = None if self.outlier is None else _value(self.outlier)
        return Tiles(self._normal, in_memory(outlier) if outlier else None, self.features)

    def _normal(self) -> Iterator[Columns]:
        def chunk_by_chunk() -> Iterator[Columns]:
            for chunk in self.normal:
                yield _value(chunk)

        return pieces(chunk_by_chunk, BLOCK)

    def outlier_tiles(self, copies: int) -> int:
        """Number of labelled tiles, their copies not counted."""
        if self.outlier is None:
            return 0
        columns = _value(self.outlier)
        return len(columns["weight"]) // (1 + copies if self.features else 1)

    def items(self) -> Iterator[ValidationItem]:
        """The validation images."""
        for chunk in self.validation:
            yield from _value(chunk)

    def evaluate_model(self, scorer: ImageScorer) -> list[Evaluated]:
        """A model's results for the validation images."""
        evaluated = []
        for item in self.items():
            if item.features is None or item.tiling is None:
                content = item.read(scorer.settings.scoring.max_pixels)
                evaluated.append(Evaluated(item.image, scorer(content)))
                continue
            with torch.inference_mode(), exact_convolutions():
                features = torch.from_numpy(item.features).to(scorer.device).float().movedim(-1, 0)
                anomaly_map = scorer.model.distances(features[None]).cpu().numpy()
            evaluated.append(Evaluated(item.image, scorer.result(item.tiling, [anomaly_map])))
        return evaluated


def _value(chunk: Chunk) -> Any:
    value = ray.get(chunk) if isinstance(chunk, ray.ObjectRef) else chunk
    if isinstance(value, Exception):
        raise value
    return value


def data_key(settings: Settings) -> str:
    """A digest that is equal for settings that can share data."""
    model, training = type(settings.model), type(settings.training)
    relevant = settings.model_copy(
        update={
            "objective": type(settings.objective)(),
            "anomaly": type(settings.anomaly)(),
            "model": model(encoder=settings.model.encoder, stem_weights=settings.model.stem_weights),
            "training": training(
                seed=settings.training.seed,
                outlier_copies=settings.training.outlier_copies,
                validation_images=settings.training.validation_images,
            ),
        }
    )
    return digest(relevant)


def prepare(
    manifest: str, settings: Settings, metric: str, progress: Progress, run: Callable[[Part], Chunk]
) -> TrialData:
    """Prepare training and validation data for trials with these settings.

    Args:
        progress: takes a line for each image that is left out, as it cannot be read.
        run: makes a chunk of a part, in a task or in this process.
    """
    normal = [
        run(partial(_normal_part, pa.Table.from_pylist(rows), settings, progress))
        for rows in chunks(_normal_rows(manifest), CHUNK_IMAGES)
    ]
    has_outliers = len(select(manifest, split=TRAIN, label=ANOMALOUS)) > 0
    images = validation_images(manifest, settings.training.validation_images)
    seed = settings.training.seed if metric == SYNTHETIC_AUROC else None
    return TrialData(
        normal,
        run(partial(_outlier_part, manifest, settings, progress)) if has_outliers else None,
        [
            run(partial(_validation_part, numbered, settings, seed, progress))
            for numbered in chunks(enumerate(images), CHUNK_IMAGES)
        ],
        settings.model.encoder == "features",
    )


def _normal_rows(manifest: str) -> Iterator[dict[str, Any]]:
    names = ["uri", "size_bytes", "etag", "mtime", "label", "split"]
    for batch in stream(open_manifest(manifest), names):
        yield from (row for row in batch.to_pylist() if (row["split"], row["label"]) == (TRAIN, NORMAL))


def _normal_part(rows: pa.Table, settings: Settings, progress: Progress) -> Columns:
    columns = normal_samples(rows, settings, progress)
    model = _stem(settings.model)
    features = [] if model is None else list(frozen_features(in_memory(columns), model)())
    return join(features) if features else columns  # of images that cannot be read there is no tile


def _outlier_part(manifest: str, settings: Settings, progress: Progress) -> Columns:
    columns = outlier_samples(manifest, settings, progress)
    model, training = _stem(settings.model), settings.training
    if model is None:
        return columns
    copied = with_copies(in_memory(columns), training.outlier_copies, training.seed)
    return join(list(frozen_features(copied, model)()))


def _validation_part(
    numbered: list[tuple[int, ValidationImage]], settings: Settings, seed: int | None, progress: Progress
) -> list[ValidationItem]:
    """The readable images; with a seed the normal ones, each also with a defect drawn on."""
    items = []
    with guarded(numbered[0][1].uri, settings, None) as guard:
        for number, image in numbered:
            if seed is not None and image.anomalous:
                continue
            try:
                guard.require_decodable(image.uri, image.read())
                items.append(ValidationItem(image))
                if seed is not None:
                    drawn_on = replace(image, anomalous=True, mask_uri=None)
                    items.append(ValidationItem(drawn_on, (seed, number)))
            except (DecodeError, OSError) as error:
                progress(f"left out of validation: {image.uri} ({error})")
    model = _stem(settings.model)
    if model is None or settings.tiles.mode != "whole":
        return items
    return [_with_features(item, model, settings) for item in items]


def _with_features(item: ValidationItem, model: Network, settings: Settings) -> ValidationItem:
    tiling, tile = load_tiles(item.read(settings.scoring.max_pixels), settings.tiles, settings.scoring)
    with torch.inference_mode():
        features = model.extract_features(to_model_input(tile, torch.device("cpu")))[0].half()
    return replace(item, tiling=tiling, features=features.movedim(0, -1).contiguous().numpy())


def _stem(settings: ModelSettings) -> Network | None:
    """A model with the pretrained stem, cached per process; None for other encoders."""
    if settings.encoder != "features":
        return None
    return _loaded(type(settings)(encoder="features", stem_weights=settings.stem_weights))


@functools.lru_cache(maxsize=1)
def _loaded(settings: ModelSettings) -> Network:
    model = build_network(Settings(model=settings))
    model.load_pretrained()
    return model


class TrialDataStore:
    """Prepares data when the first trial needs it, and holds it for the whole sweep.

    Its tasks request no CPU, since trials that wait for them may occupy all. They run on machines that have
    one: a head started with 0 CPUs does no work.
    """

    def __init__(
        self,
        manifests: Sequence[str],
        metric: str,
        storage: StorageSettings,
        capacity: Capacity,
        progress: Progress,
    ) -> None:
        """Nothing is prepared yet; `manifests` has one per repeat."""
        self._manifests, self._metric, self._storage = manifests, metric, storage
        self._progress = progress
        self._at_once = max(1, int(capacity.cpus))  # chunks
        self._machines = sum(node.cpus >= 1 for node in capacity.nodes)
        self._made: dict[str, list[TrialData]] = {}  # owned by this process, so chunks outlive trials
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self.catalog: Any = _Catalog.options(scheduling_strategy=here).remote()  # type: ignore[attr-defined]

    def require(self, settings: Settings) -> None:
        """Start to prepare data for these settings, unless that is done. Does not wait."""
        key = data_key(settings)
        if key in self._made:
            return
        submit = self._one_after_the_other(self._at_once)
        self._at_once = self._machines  # from now on trials are at work on the CPUs
        self._made[key] = [
            prepare(manifest, settings, self._metric, self._progress, submit) for manifest in self._manifests
        ]
        ray.get(self.catalog.add.remote(key, self._made[key]))
        parts = sum(len(data.normal) + len(data.validation) for data in self._made[key])
        self._progress(f"preparing images for trials, in {parts} chunks")

    def close(self) -> None:
        """Release the data."""
        self._made.clear()
        ray.kill(self.catalog)

    def _one_after_the_other(self, at_once: int) -> Callable[[Part], Chunk]:
        """Submit parts such that `at_once` of them run at a time."""
        task = chunk_task()
        turns: deque[Any] = deque([None] * at_once)

        def submit(part: Part) -> Chunk:
            chunk, turn = task.remote(part, self._storage, turns.popleft())
            turns.append(turn)
            return chunk

        return submit


def chunk_task() -> Any:
    """The task that makes a chunk: on any machine that has a CPU, those that join later too."""
    options: Any = {"scheduling_strategy": "SPREAD"}
    if idle := [node["NodeID"] for node in ray.nodes() if node["Resources"].get("CPU", 0) < 1]:
        options["label_selector"] = {"ray.io/node-id": f"!in({','.join(idle)})"}
    return ray.remote(num_cpus=0, max_retries=_RETRIES, num_returns=2, **options)(_chunk)


@ray.remote(num_cpus=0)
class _Catalog:
    """Gives trials the references of chunks."""

    def __init__(self) -> None:
        self._data: dict[str, list[TrialData]] = {}

    def add(self, key: str, data: list[TrialData]) -> None:
        self._data[key] = data

    def find(self, key: str) -> list[TrialData]:
        return self._data[key]


def _chunk(part: Part, storage: StorageSettings, _turn: None) -> tuple[Any, None]:
    """Make a chunk. An error becomes the result: the trials raise it, and other chunks are still made."""
    torch.set_num_threads(1)
    configure(storage)
    advice = "the tiles that trials share do not fit into memory"
    try:
        with memory_errors_as(TrainingMemoryError, advice):
            return part(), None
    except (RaysvqError, OSError) as error:
        return error, None
