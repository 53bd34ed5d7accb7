"""What the trials of a sweep share: images are fetched, decoded, cut and put through a stem once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from raysvq.imaging.decode import DecodeError
from raysvq.imaging.pixels import load_tiles
from raysvq.imaging.synthetic import with_defect
from raysvq.imaging.tiling import Tiling
from raysvq.model.network import Network, build_network
from raysvq.model.scorer import ImageScorer, exact_convolutions, to_model_input
from raysvq.runtime.progress import Progress
from raysvq.settings import Settings, TrainingSettings, digest
from raysvq.storage import read_bytes
from raysvq.training.augmentation import with_copies
from raysvq.training.frozen_features import frozen_features
from raysvq.training.shuffling import in_memory, join
from raysvq.training.tile_stream import Samples, training_samples
from raysvq.training.validation import ValidationImage, validation_images
from raysvq.tuning.judging import SYNTHETIC_AUROC, Judged

Read = Callable[[ValidationImage], bytes]


@dataclass(frozen=True)
class Shot:
    """A validation image that can be read."""

    image: ValidationImage
    drawing: tuple[int, ...] | None = None  # seed of the defect to draw on it
    tiling: Tiling | None = None  # of a whole image whose
    features: npt.NDArray[np.float16] | None = None  # (h, w, S) are known

    def read(self, max_pixels: int) -> bytes:
        """The file, the same every time."""
        content = read_bytes(self.image.uri)
        if self.drawing is None:
            return content
        return with_defect(content, max_pixels, np.random.default_rng(self.drawing))


@dataclass(frozen=True)
class Prepared:
    """Training tiles and validation images, or what the stem gives for them."""

    samples: Samples
    outlier_tiles: int  # without copies
    shots: list[Shot]

    def judge(self, scorer: ImageScorer) -> list[Judged]:
        """What a model says of the validation images."""
        judged = []
        for shot in self.shots:
            if shot.features is None or shot.tiling is None:
                judged.append(Judged(shot.image, scorer(shot.read(scorer.settings.scoring.max_pixels))))
                continue
            with torch.inference_mode(), exact_convolutions():
                features = torch.from_numpy(shot.features).to(scorer.device).float().movedim(-1, 0)
                anomaly_map = scorer.model.distances(features[None]).cpu().numpy()
            judged.append(Judged(shot.image, scorer.result(shot.tiling, [anomaly_map])))
        return judged


def data_key(settings: Settings) -> str:
    """The same for settings that can share their data."""
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


def prepare(manifest: str, settings: Settings, metric: str, progress: Progress) -> Prepared:
    """Read what trials with these settings train and validate on."""
    samples = training_samples(manifest, settings, progress)
    images = validation_images(manifest, settings.training.validation_images)
    drawn_on = settings.training.seed if metric == SYNTHETIC_AUROC else None
    shots = list(_readable(images, settings, drawn_on, progress))
    outlier_tiles = 0 if samples.outlier is None else len(samples.outlier["tile"])
    if settings.model.encoder != "features":
        return Prepared(samples, outlier_tiles, shots)
    model = build_network(settings)
    model.load_pretrained()
    samples = _stemmed(samples, model, settings.training)
    if settings.tiles.mode == "whole":
        shots = [_with_features(shot, model, settings) for shot in shots]
    return Prepared(samples, outlier_tiles, shots)


def _readable(
    images: list[ValidationImage], settings: Settings, drawn_on: int | None, progress: Progress
) -> Iterator[Shot]:
    """The images that can be read; with a seed the normal ones, each also with a defect drawn on."""
    for number, image in enumerate(images):
        if drawn_on is not None and image.anomalous:
            continue
        try:
            load_tiles(read_bytes(image.uri), settings.tiles, settings.scoring)
            yield Shot(image)
            if drawn_on is not None:
                yield Shot(ValidationImage(image.uri, True), (drawn_on, number))
        except (DecodeError, OSError) as error:
            progress(f"left out of validation: {image.uri} ({error})")


def _with_features(shot: Shot, model: Network, settings: Settings) -> Shot:
    tiling, tile = load_tiles(shot.read(settings.scoring.max_pixels), settings.tiles, settings.scoring)
    with torch.inference_mode():
        stemmed = model.extract_features(to_model_input(tile, torch.device("cpu")))[0].half()
        features = stemmed.movedim(0, -1).contiguous().numpy()
    return Shot(shot.image, shot.drawing, tiling, features)


def _stemmed(samples: Samples, model: Network, training: TrainingSettings) -> Samples:
    """What the stem gives for tiles, in their place, and for copies of the labelled ones."""
    normal = join(list(frozen_features(in_memory(samples.normal), model)()))
    if samples.outlier is None:
        return Samples(normal, None)
    copied = with_copies(in_memory(samples.outlier), training.outlier_copies, training.seed)
    return Samples(normal, join(list(frozen_features(copied, model)())))
