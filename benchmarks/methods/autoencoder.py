"""An autoencoder: the same encoder and decoder without a codebook, scored by what it fails to give back."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from benchmarks.methods.networks import PixelNetwork, fit, keep_best
from benchmarks.methods.samples import read_samples
from raysvq.model.pixel_network import CELL
from raysvq.model.scorer import ImageScorer
from raysvq.settings import Settings


class Autoencoder(PixelNetwork):
    """Reconstructs standardised tiles; learns from normal ones alone."""

    def loss(self, tiles: Tensor, outliers: int) -> Tensor:
        """Mean squared reconstruction error."""
        return self.reconstruction_error(tiles[: len(tiles) - outliers]).mean()

    def distance_map(self, pixels: Tensor) -> Tensor:
        """Root mean squared reconstruction error of each cell."""
        error = self.reconstruction_error(self.standardise(pixels)).mean(1)
        return F.avg_pool2d(error, CELL).sqrt()


def fit_autoencoder(manifest: str, settings: Settings) -> ImageScorer:
    """Train on the normal training tiles of a manifest."""
    samples = read_samples(manifest, settings)
    network = Autoencoder(samples, settings)
    return keep_best(network, fit(network, network.loss, samples, settings), manifest, settings)
