"""Deep SAD on the paper's encoder.

L. Ruff, R. A. Vandermeulen, N. Görnitz, A. Binder, E. Müller, K.-R. Müller, M. Kloft, "Deep
Semi-Supervised Anomaly Detection", ICLR 2020. An encoder without biases, first trained as part of an
autoencoder, maps normal tiles near a fixed centre c and labelled outliers far from it (eq. 7, its eta = 1):

    mean over all tiles of  d(X)  for normal tiles,  1 / (d(Y) + eps)  for outliers

d is the squared distance to c, averaged over the grid: the encoder here ends in a grid of embeddings, all of
which share one centre. Half of `training.steps` go into the autoencoder.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.methods.networks import PixelNetwork, first_normals, fit, keep_best
from benchmarks.methods.samples import read_samples
from raysvq.model.scorer import ImageScorer
from raysvq.settings import Settings
from raysvq.training.tile_stream import Samples

_EPSILON = 1e-6
_LEAST_CENTRE = 0.1  # a coordinate of c nearer to 0 could be reached by zero weights
_WEIGHT_DECAY = 1e-6


class DeepSAD(PixelNetwork):
    """Scores by the distance of embeddings to a fixed centre."""

    def __init__(self, samples: Samples, settings: Settings) -> None:
        super().__init__(samples, settings)
        for layer in self.encoder.modules():
            if isinstance(layer, nn.Conv2d):
                layer.register_parameter("bias", None)  # a bias could map everything to c
        self.centre: Tensor
        self.register_buffer("centre", self.mean.new_zeros(settings.model.embedding_dim))

    def pretraining_loss(self, tiles: Tensor, outliers: int) -> Tensor:
        """Mean squared reconstruction error of all tiles."""
        return self.reconstruction_error(tiles).mean()

    @torch.no_grad()
    def fix_centre(self, pixels: Tensor) -> None:
        """Put c at the mean embedding of normal tiles."""
        mean = self.encoder(self.standardise(pixels)).mean(dim=(0, 2, 3))
        away = torch.where(mean < 0, -_LEAST_CENTRE, _LEAST_CENTRE)
        self.centre.copy_(torch.where(mean.abs() < _LEAST_CENTRE, away, mean))

    def squares(self, tiles: Tensor) -> Tensor:
        """(B, C, H, W) standardised tiles -> (B, h, w) squared distances to c."""
        return (self.encoder(tiles) - self.centre[:, None, None]).square().sum(1)

    def loss(self, tiles: Tensor, outliers: int) -> Tensor:
        """Eq. 7 over a batch, outliers last."""
        distances = self.squares(tiles).mean(dim=(1, 2))
        normals = len(tiles) - outliers
        return torch.cat([distances[:normals], 1 / (distances[normals:] + _EPSILON)]).mean()

    def distance_map(self, pixels: Tensor) -> Tensor:
        """Distance of each embedding to c."""
        return self.squares(self.standardise(pixels)).sqrt()


def fit_deep_sad(manifest: str, settings: Settings) -> ImageScorer:
    """Train on the normal tiles and labelled outliers of a manifest."""
    samples = read_samples(manifest, settings)
    network = DeepSAD(samples, settings)
    first = settings.training.steps // 2
    for _ in fit(network, network.pretraining_loss, samples, _shortened(settings, first)):
        pass
    network.fix_centre(first_normals(samples, settings))
    rest = _shortened(settings, settings.training.steps - first)
    steps = fit(network, network.loss, samples, rest, _WEIGHT_DECAY)
    return keep_best(network, steps, manifest, settings)


def _shortened(settings: Settings, steps: int) -> Settings:
    training = settings.training.model_copy(update={"steps": max(1, steps)})
    return settings.model_copy(update={"training": training})
