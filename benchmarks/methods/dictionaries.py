"""Dictionaries of frozen features, without training and without labels.

`kmeans`: 512 centres of the features of normal images. `memory-bank`: 12,000 of those features themselves,
drawn at random, in the manner of PatchCore (K. Roth et al., "Towards Total Recall in Industrial Anomaly
Detection", CVPR 2022). Both see all normal images, of train and validation. A position is scored by its
distance to the nearest entry. The features are those that raysvq's `features` encoder starts from,
standardised per channel.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.methods.samples import print_line
from raysvq.data.manifest import select
from raysvq.model.network import build_network, channel_statistics
from raysvq.model.quantizer import Quantizer, nearest_indices
from raysvq.model.scorer import ImageScorer, to_model_input
from raysvq.schema import NORMAL, TRAIN, VALIDATION
from raysvq.settings import Settings
from raysvq.training.in_process import local_device
from raysvq.training.tile_stream import normal_samples

Choose = Callable[[Tensor], Tensor]  # (P, C) standardised normal features -> (K, C) entries

CENTRES = 512
BANK = 12_000
_POSITIONS = 50_000  # that k-means sees, drawn at random
_BATCH = 8


class Dictionary(nn.Module):
    """Frozen features, and entries among them."""

    def __init__(self, normals: np.ndarray, positions: int, choose: Choose, settings: Settings) -> None:
        """Fit mean and deviation of each channel, then choose entries among features of random positions.

        Args:
            normals: (N, H, W, 3) images.
            positions: how many are drawn, at most.
        """
        super().__init__()
        device = local_device(settings)
        network = build_network(settings)
        network.load_pretrained()
        self.extract = network.to(device).eval().extract_features
        parts = [normals[start : start + _BATCH] for start in range(0, len(normals), _BATCH)]
        with torch.inference_mode():
            features = torch.cat([self.extract(to_model_input(part, device)) for part in parts])
        self.mean, self.std = channel_statistics(features)
        drawn = _some(features, positions, settings.training.seed)
        self.entries = choose((drawn - self.mean.flatten()) / self.std.flatten())

    def nearest_map(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) pixels in [0, 1] -> (B, 1, h, w) distances to the nearest entries, and these."""
        found = ((self.extract(pixels) - self.mean) / self.std).movedim(1, -1)
        indices = nearest_indices(found.flatten(0, 2), self.entries)
        distances = torch.linalg.vector_norm(found - self.entries[indices].view_as(found), dim=-1)
        return distances[:, None], indices.view_as(distances)


def fit_kmeans(manifest: str, settings: Settings) -> ImageScorer:
    """Entries are the centres of normal features, found as the codebook of raysvq is started."""

    def centres(positions: Tensor) -> Tensor:
        quantizer = Quantizer(positions.shape[1], CENTRES)
        quantizer.initialize(positions, settings.training.seed)
        return quantizer.codebook.to(positions.device)

    return _fit(manifest, settings, _POSITIONS, centres)


def fit_memory_bank(manifest: str, settings: Settings) -> ImageScorer:
    """Entries are normal features drawn at random."""
    return _fit(manifest, settings, BANK, lambda positions: positions)


def _fit(manifest: str, settings: Settings, positions: int, choose: Choose) -> ImageScorer:
    rows = select(manifest, split=(TRAIN, VALIDATION), label=NORMAL)
    normals = normal_samples(rows, settings, print_line)["tile"]
    dictionary = Dictionary(normals, positions, choose, settings)
    return ImageScorer(dictionary, settings, settings.scoring, local_device(settings))


def _some(features: Tensor, most: int, seed: int) -> Tensor:
    """Features of at most so many random positions. (N, C, h, w) -> (P, C)"""
    images, _, height, width = features.shape
    order = np.random.default_rng(seed).permutation(images * height * width)[:most]
    image, row, column = np.unravel_index(order, (images, height, width))
    return features.movedim(1, -1)[image, row, column]
