"""Data that the trials of a sweep share, in the chunks of `raysvq.training.chunks`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raysvq.data.manifest import chunks, open_manifest, select
from raysvq.model.scorer import ImageScorer
from raysvq.runtime.cluster import Capacity
from raysvq.runtime.progress import Progress
from raysvq.schema import ANOMALOUS, NORMAL, TRAIN
from raysvq.settings import Settings, StorageSettings, digest
from raysvq.tables import stream
from raysvq.training.chunks import (
    CHUNK_IMAGES,
    Chunk,
    Part,
    ValidationItem,
    normal_part,
    outlier_part,
    submitter,
    validation_part,
    value,
)
from raysvq.training.data_loading import Tiles, tiles_of
from raysvq.training.shuffling import BLOCK, Columns, pieces
from raysvq.training.validation import validation_images
from raysvq.tuning.trial_metrics import SYNTHETIC_AUROC, Evaluated


@dataclass(frozen=True)
class TrialData:
    """Chunks of training tiles, or their features, and of validation images."""

    normal: Sequence[Chunk]  # Columns, see `raysvq.training.data_loading.Tiles`
    outlier: Chunk | None  # Columns, with copies where they are features
    validation: Sequence[Chunk]  # lists of ValidationItem
    features: bool  # whether rows have features in place of tiles
    copies: int  # of each outlier, where rows have features

    def tiles(self) -> Tiles:
        """The tiles for `raysvq.training.in_process.train_in_process`."""
        outlier = None if self.outlier is None else value(self.outlier)
        return tiles_of(self._normal, outlier, self.copies, self.features)

    def _normal(self) -> Iterator[Columns]:
        def chunk_by_chunk() -> Iterator[Columns]:
            for chunk in self.normal:
                yield value(chunk)

        return pieces(chunk_by_chunk, BLOCK)

    def items(self) -> Iterator[ValidationItem]:
        """The validation images."""
        for chunk in self.validation:
            yield from value(chunk)

    def evaluate_model(self, scorer: ImageScorer) -> list[Evaluated]:
        """A model's results for the validation images."""
        return [Evaluated(item.image, item.score(scorer)) for item in self.items()]


def data_key(settings: Settings) -> str:
    """A digest that is equal for settings that can share data."""
    model, training = type(settings.model), type(settings.training)
    relevant = settings.model_copy(
        update={
            "objective": type(settings.objective)(),
            "anomaly": type(settings.anomaly)(),
            "decision": type(settings.decision)(),
            "model": model(
                encoder=settings.model.encoder,
                stem=settings.model.stem,
                stem_weights=settings.model.stem_weights,
            ),
            "training": training(
                seed=settings.training.seed,
                outlier_copies=settings.training.outlier_copies,
                verified=settings.training.verified,
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
        run(partial(normal_part, pa.Table.from_pylist(rows), settings, progress))
        for rows in chunks(_normal_rows(manifest), CHUNK_IMAGES)
    ]
    outliers = select(manifest, split=TRAIN, label=ANOMALOUS)
    images = validation_images(manifest, settings.training.validation_images)
    seed = settings.training.seed if metric == SYNTHETIC_AUROC else None
    return TrialData(
        normal,
        run(partial(outlier_part, outliers, settings, progress)) if len(outliers) else None,
        [
            run(partial(validation_part, numbered, settings, seed, progress))
            for numbered in chunks(enumerate(images), CHUNK_IMAGES)
        ],
        settings.model.encoder == "features",
        settings.training.outlier_copies,
    )


def _normal_rows(manifest: str) -> Iterator[dict[str, Any]]:
    names = ["uri", "size_bytes", "etag", "mtime", "label", "split"]
    for batch in stream(open_manifest(manifest), names):
        yield from (row for row in batch.to_pylist() if (row["split"], row["label"]) == (TRAIN, NORMAL))


class TrialDataStore:
    """Prepares data when the first trial needs it, and holds it for the whole sweep."""

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
        submit = submitter(self._at_once, self._storage)
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


@ray.remote(num_cpus=0)
class _Catalog:
    """Gives trials the references of chunks."""

    def __init__(self) -> None:
        self._data: dict[str, list[TrialData]] = {}

    def add(self, key: str, data: list[TrialData]) -> None:
        self._data[key] = data

    def find(self, key: str) -> list[TrialData]:
        return self._data[key]
