"""raysvq's own method, trained in this process on the tiles that `raysvq train` would stream."""

from __future__ import annotations

from functools import partial

from benchmarks.methods.samples import print_line, read_samples
from raysvq.model.scorer import ImageScorer
from raysvq.settings import Settings
from raysvq.training.in_process import train_in_process
from raysvq.training.validation import validate, validation_images


def fit_ss_vq_vae(manifest: str, settings: Settings) -> ImageScorer:
    """Train on the normal tiles and labelled outliers of a manifest; without outliers it is the VQ-VAE."""
    samples = read_samples(manifest, settings)
    images = validation_images(manifest, settings.training.validation_images)
    validation = partial(validate, images=images)
    model, _ = train_in_process(settings, samples.normal, samples.outlier, validation, print_line)
    return ImageScorer(model, settings, settings.scoring, model.mean.device)
