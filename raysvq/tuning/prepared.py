"""What the trials of a sweep share: images are fetched, decoded, cut and put through a stem once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from raysvq.evaluation.metrics import image_auroc
from raysvq.imaging.decode import DecodeError
from raysvq.imaging.pixels import load_tiles
from raysvq.model.anomaly import image_score, tile_scores
from raysvq.model.network import SSVQVAE
from raysvq.model.scorer import ImageScorer, to_model_input
from raysvq.relay import Voice
from raysvq.settings import Settings, TrainingSettings, digest
from raysvq.storage import read_bytes
from raysvq.training.jitter import with_copies
from raysvq.training.loader import in_memory, join
from raysvq.training.samples import Samples, training_samples
from raysvq.training.stemmed import stemmed
from raysvq.training.validation import ValidationImage, validate, validation_images


@dataclass(frozen=True)
class Prepared:
    """Training tiles and validation images, or what the stem gives for them."""

    samples: Samples
    validation: list[ValidationImage]  # those that can be read, where there are features
    features: npt.NDArray[np.float16] | None = None  # (V, S, h, w), of whole validation images

    def judge(self, scorer: ImageScorer) -> dict[str, Any]:
        """What `raysvq.training.validation.validate` says, as far as a trial needs it."""
        if self.features is None:
            return validate(scorer, self.validation)
        anomalous = np.array([image.anomalous for image in self.validation])
        scores = np.array([_image_score(scorer, features) for features in self.features])
        return {
            "image_scores": scores.tolist(),
            "anomalous": anomalous.tolist(),
            "auroc": image_auroc(anomalous, scores),
            "unreadable": [],
        }


def data_key(settings: Settings) -> str:
    """The same for settings that can share their data."""
    model, training = type(settings.model), type(settings.training)
    relevant = settings.model_copy(
        update={
            "objective": type(settings.objective)(),
            "anomaly": type(settings.anomaly)(),
            "model": model(encoder=settings.model.encoder, stem_weights=settings.model.stem_weights),
            "training": training(
                seed=settings.training.seed, outlier_copies=settings.training.outlier_copies
            ),
        }
    )
    return digest(relevant)


def prepare(manifest: str, settings: Settings, voice: Voice) -> Prepared:
    """Read what trials with these settings train and validate on."""
    samples = training_samples(manifest, settings, voice)
    images = validation_images(manifest, settings.training.validation_images)
    if settings.model.encoder != "features":
        return Prepared(samples, images)
    model = SSVQVAE(settings)
    model.load_stem()
    prepared = _stemmed(samples, model, settings.training)
    if settings.tiles.mode != "whole":
        return Prepared(prepared, images)
    readable: list[ValidationImage] = []
    features: list[npt.NDArray[np.float16]] = []
    for image in images:
        try:
            _, tile = load_tiles(read_bytes(image.uri), settings.tiles, settings.scoring)
        except (DecodeError, OSError) as error:
            voice.say(f"left out of validation: {image.uri} ({error})")
            continue
        with torch.inference_mode():
            features.append(model.stem(to_model_input(tile, torch.device("cpu")))[0].half().numpy())
        readable.append(image)
    return Prepared(prepared, readable, np.stack(features))


def _stemmed(samples: Samples, model: SSVQVAE, training: TrainingSettings) -> Samples:
    """What the stem gives for tiles, in their place, and for copies of the labelled ones."""
    normal = join(list(stemmed(in_memory(samples.normal), model)()))
    if samples.outlier is None:
        return Samples(normal, None)
    copied = with_copies(in_memory(samples.outlier), training.outlier_copies, training.seed)
    return Samples(normal, join(list(stemmed(copied, model)())))


def _image_score(scorer: ImageScorer, features: npt.NDArray[np.float16]) -> float:
    """Of a whole image."""
    with torch.inference_mode():
        stemmed = torch.from_numpy(features.astype(np.float32)).to(scorer.device)
        anomaly_map = scorer.model.distance_map_stemmed(stemmed[None]).cpu().numpy()
    return image_score(anomaly_map[0], tile_scores(anomaly_map), scorer.settings.anomaly)
