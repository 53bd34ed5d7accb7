"""Data that several trainings share: images are fetched, decoded, cut and put through a stem once.

A task makes a chunk of a few images, which stays in Ray's object store. So no process holds the whole set,
Ray spills to disk what does not fit, and makes a chunk again that is lost with its machine. Trainings stream
the chunks. The few labelled outliers are one chunk, as their copies are drawn from one random sequence.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray
import torch

from raysvq.data.manifest import chunks
from raysvq.errors import RaysvqError, TrainingMemoryError
from raysvq.imaging.decode import DecodeError
from raysvq.imaging.duplicates import SIDE, Fingerprint, fingerprint, near_duplicates
from raysvq.imaging.pixels import load_tiles
from raysvq.imaging.signals import SignalSums
from raysvq.imaging.synthetic import with_defect
from raysvq.imaging.tiling import Tiling
from raysvq.model.device import memory_errors_as
from raysvq.model.network import Network, build_network
from raysvq.model.scorer import ImageResult, ImageScorer, exact_convolutions, to_model_input
from raysvq.runtime.progress import Progress
from raysvq.settings import ModelSettings, Settings, StorageSettings, TileSettings
from raysvq.storage import configure
from raysvq.training.augmentation import with_copies
from raysvq.training.decoding import Attempts, Guard, guarded
from raysvq.training.frozen_features import frozen_features
from raysvq.training.shuffling import Columns, in_memory, join
from raysvq.training.tile_stream import normal_samples, outlier_samples
from raysvq.training.validation import ValidationImage

CHUNK_IMAGES = 16
_FINGERPRINTED = 64  # images of a chunk of fingerprints
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
    sums: SignalSums | None = None  # over its pixels, with `features`
    fingerprint: Fingerprint | None = None  # with `features`

    def read(self, max_pixels: int) -> bytes:
        """The file, the same every time."""
        content = self.image.read()
        if self.defect_seed is None:
            return content
        return with_defect(content, max_pixels, np.random.default_rng(self.defect_seed))

    def score(self, scorer: ImageScorer) -> ImageResult:
        """A model's result for this image."""
        if self.features is None or self.tiling is None or self.sums is None:
            return scorer(self.read(scorer.settings.scoring.max_pixels))
        with torch.inference_mode(), exact_convolutions():
            features = torch.from_numpy(self.features).to(scorer.device).float().movedim(-1, 0)
            terms, codes = (found.cpu().numpy() for found in scorer.model.nearest(features[None]))
        return scorer.result(self.tiling, [(terms, codes.astype(np.uint16))], self.sums)


def normal_part(rows: pa.Table, settings: Settings, progress: Progress) -> Columns:
    """Tiles of rows of a manifest, or their features."""
    columns = normal_samples(rows, settings, progress)
    model = _stem(settings)
    features = [] if model is None else list(frozen_features(in_memory(columns), model)())
    return join(features) if features else columns  # of images that cannot be read there is no tile


def outlier_part(
    rows: pa.Table, settings: Settings, progress: Progress, attempts: Attempts | None = None
) -> Columns:
    """Anomalous tiles of rows of a manifest, or their features with those of the copies."""
    columns = outlier_samples(rows, settings, progress, attempts)
    model, training = _stem(settings), settings.training
    if model is None:
        return columns
    copied = with_copies(in_memory(columns), training.outlier_copies, training.seed)
    return join(list(frozen_features(copied, model)()))


def validation_part(
    numbered: list[tuple[int, ValidationImage]],
    settings: Settings,
    seed: int | None,
    progress: Progress,
    attempts: Attempts | None = None,
) -> list[ValidationItem]:
    """The readable images; with a seed the normal ones, each also with a defect drawn on.

    Args:
        attempts: see `guarded`; None also where the images get no features, and are not decoded here.
    """
    items = []
    with guarded(f"validation {numbered[0][1].uri}", settings, attempts) as guard:
        for number, image in numbered:
            if seed is not None and image.anomalous:
                continue
            try:
                guard.require_decodable(image.uri, image.read())
                found = [ValidationItem(image)]
                if seed is not None:
                    drawn_on = replace(image, anomalous=True, mask_uri=None)
                    found.append(ValidationItem(drawn_on, (seed, number)))
                items += [_with_features(item, settings, guard) for item in found]
            except (DecodeError, OSError) as error:
                progress(f"left out of validation: {image.uri} ({error})")
    return items


def _with_features(item: ValidationItem, settings: Settings, guard: Guard) -> ValidationItem:
    """With the features of a whole image, where the model takes them of one."""
    model = _stem(settings)
    if model is None or settings.tiles.mode != "whole":
        return item
    content = item.read(settings.scoring.max_pixels)
    tiling, tile = load_tiles(content, settings.tiles, settings.scoring, guard.deadline)
    with torch.inference_mode():
        features = model.extract_features(to_model_input(tile, torch.device("cpu")))[0].half()
    held, sums = features.movedim(0, -1).contiguous().numpy(), SignalSums()
    sums.add(tile)
    return replace(item, tiling=tiling, features=held, sums=sums, fingerprint=fingerprint(content, tile[0]))


def fingerprint_part(
    images: list[ValidationImage], settings: Settings, attempts: Attempts | None = None
) -> list[Fingerprint | None]:
    """Fingerprints of images; None for those that cannot be read."""
    small = TileSettings(mode="whole", size=SIDE, channels=settings.tiles.channels)
    found: list[Fingerprint | None] = []
    with guarded(f"fingerprint {images[0].uri}", settings, attempts) as guard:
        for image in images:
            try:
                content = image.read()
                guard.require_decodable(image.uri, content)
                tile = load_tiles(content, small, settings.scoring, guard.deadline)[1][0]
                found.append(fingerprint(content, tile))
            except (DecodeError, OSError):
                found.append(None)
    return found


def find_units(
    images: Sequence[ValidationImage],
    settings: Settings,
    run: Callable[[Part], Chunk],
    attempts: Attempts | None = None,
) -> list[ValidationImage]:
    """Images with their units, as `with_units`; those whose unit the manifest does not name are read.

    Args:
        run: makes a chunk of a part, in a task or in this process.
    """
    unknown = [image for image in images if image.unit is None]
    parts = [
        run(partial(fingerprint_part, part, settings, attempts)) for part in chunks(unknown, _FINGERPRINTED)
    ]
    found = [one for part in parts for one in value(part)]
    by_uri = dict(zip([image.uri for image in unknown], found, strict=True))
    return with_units(images, [by_uri.get(image.uri) for image in images])


def with_units(
    images: Sequence[ValidationImage], fingerprints: Sequence[Fingerprint | None]
) -> list[ValidationImage]:
    """Images with their units: the group that the manifest names, else all near-duplicates of one image."""
    units = [image.unit for image in images]
    for anomalous in (False, True):
        known = [
            (number, found)
            for number, (image, found) in enumerate(zip(images, fingerprints, strict=True))
            if found is not None and image.unit is None and image.anomalous == anomalous
        ]
        leaders = near_duplicates([found for _, found in known])
        for (number, _), leader in zip(known, leaders, strict=True):
            first = images[known[leader][0]]
            units[number] = first.image_id or first.uri
    return [
        replace(image, unit=unit or image.image_id or image.uri)
        for image, unit in zip(images, units, strict=True)
    ]


def _stem(settings: Settings) -> Network | None:
    """A model with the pretrained stem, cached per process; None for other encoders."""
    model = settings.model
    if model.encoder != "features":
        return None
    own = type(model)(encoder="features", stem=model.stem, stem_weights=model.stem_weights)
    return _loaded(own, settings.tiles)


@functools.lru_cache(maxsize=1)
def _loaded(settings: ModelSettings, tiles: TileSettings) -> Network:
    model = build_network(Settings(model=settings, tiles=tiles))
    model.load_pretrained()
    return model


def value(chunk: Chunk) -> Any:
    """What a chunk holds; raises its error."""
    held = ray.get(chunk) if isinstance(chunk, ray.ObjectRef) else chunk
    if isinstance(held, Exception):
        raise held
    return held


def submitter(at_once: int, storage: StorageSettings) -> Callable[[Part], Chunk]:
    """A function that makes chunks of parts in tasks, `at_once` of them at a time.

    The tasks request no CPU, since those who wait for them may occupy all. They run on machines that have
    one: a head started with 0 CPUs does no work.
    """
    task = chunk_task()
    turns: deque[Any] = deque([None] * at_once)

    def submit(part: Part) -> Chunk:
        chunk, turn = task.remote(part, storage, turns.popleft())
        turns.append(turn)
        return chunk

    return submit


def chunk_task() -> Any:
    """The task that makes a chunk: on any machine that has a CPU, those that join later too."""
    options: Any = {"scheduling_strategy": "SPREAD"}
    if idle := [node["NodeID"] for node in ray.nodes() if node["Resources"].get("CPU", 0) < 1]:
        options["label_selector"] = {"ray.io/node-id": f"!in({','.join(idle)})"}
    return ray.remote(num_cpus=0, max_retries=_RETRIES, num_returns=2, **options)(make_chunk)


def make_chunk(part: Part, storage: StorageSettings, _turn: None) -> tuple[Any, None]:
    """Make a chunk. An error becomes the result: who needs it raises it, and other chunks are still made."""
    torch.set_num_threads(1)
    configure(storage)
    advice = "the tiles that trainings share do not fit into memory"
    try:
        with memory_errors_as(TrainingMemoryError, advice):
            return part(), None
    except (RaysvqError, OSError) as error:
        return error, None
