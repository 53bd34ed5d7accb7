"""raysvq's own method, trained in this process on the tiles that `raysvq train` would stream."""

from __future__ import annotations

from functools import partial

from benchmarks.methods.samples import print_line, read_samples
from raysvq.model.network import Network
from raysvq.model.scorer import ImageScorer
from raysvq.schema import ANOMALOUS, NORMAL
from raysvq.settings import Settings
from raysvq.training.cross_fitting import LEARNT, Folds, fold_data, train_without
from raysvq.training.in_process import train_in_process
from raysvq.training.plan import require_trainable
from raysvq.training.validation import labelled_images, validate, validation_images


def fit_ss_vq_vae(manifest: str, settings: Settings) -> ImageScorer:
    """Train on the normal tiles and labelled outliers of a manifest; without outliers it is the VQ-VAE.

    Where `raysvq train` cross-fits, the model learns from the train and validation splits, as its final one
    does. The models of the folds are left out: they fit thresholds, which no metric here depends on.
    """
    folds = require_trainable(manifest, settings)[0]["folds"]
    model = _on_all(manifest, settings) if folds else _validated(manifest, settings)
    return ImageScorer(model, settings, settings.scoring, model.mean.device)


def _on_all(manifest: str, settings: Settings) -> Network:
    images = [
        image
        for label in (NORMAL, ANOMALOUS)
        for image in labelled_images(manifest, LEARNT, label, settings.decision.group_by)
    ]
    images.sort(key=lambda image: (image.image_id, image.uri))
    data = fold_data(manifest, images, settings, print_line, lambda part: part())
    one = Folds(1, {image.image_id: 0 for image in images}, {})
    return train_without(None, one, data, settings)


def _validated(manifest: str, settings: Settings) -> Network:
    samples = read_samples(manifest, settings)
    images = validation_images(manifest, settings.training.validation_images)
    validation = partial(validate, images=images)
    return train_in_process(settings, samples.normal, samples.outlier, validation, print_line)[0]
