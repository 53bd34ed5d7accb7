"""Dictionaries of frozen features, without training and without labels.

`kmeans`: 512 centres of the features of normal images. `memory-bank`: 12,000 of those features themselves,
drawn at random, in the manner of PatchCore (K. Roth et al., "Towards Total Recall in Industrial Anomaly
Detection", CVPR 2022). A position is scored by its distance to the nearest entry. The features are those that
raysvq's `features` encoder starts from, standardised per channel.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.methods.samples import read_samples
from raysvq.model.network import channel_statistics
from raysvq.model.quantizer import Quantizer, nearest_indices
from raysvq.model.scorer import ImageScorer, to_model_input
from raysvq.model.stems import build_stem
from raysvq.settings import ModelSettings, Settings
from raysvq.training.in_process import local_device

Choose = Callable[[Tensor], Tensor]  # (P, C) normal features -> (K, C) entries

CENTRES = 512
BANK = 12_000
_POSITIONS = 50_000  # that k-means sees, drawn at random
_BATCH = 8


class Dictionary(nn.Module):
    """Frozen features, and entries among them."""

    def __init__(self, normals: np.ndarray, choose: Choose, device: torch.device) -> None:
        """Fit mean and deviation of each channel on (N, H, W, 3) normal images, then choose entries."""
        super().__init__()
        self.stem = build_stem(ModelSettings(encoder="features"))
        self.stem.load(None)
        self.stem.to(device)
        parts = [normals[start : start + _BATCH] for start in range(0, len(normals), _BATCH)]
        with torch.inference_mode():
            features = torch.cat([self.stem(to_model_input(part, device)) for part in parts])
        self.mean, self.std = channel_statistics(features)
        self.entries = choose(((features - self.mean) / self.std).movedim(1, -1).flatten(0, 2))

    def nearest_map(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) pixels in [0, 1] -> (B, h, w) distances to the nearest entries, and these."""
        found = ((self.stem(pixels) - self.mean) / self.std).movedim(1, -1)
        indices = nearest_indices(found.flatten(0, 2), self.entries)
        distances = torch.linalg.vector_norm(found - self.entries[indices].view_as(found), dim=-1)
        return distances, indices.view_as(distances)


def fit_kmeans(manifest: str, settings: Settings) -> ImageScorer:
    """Entries are the centres of normal features, found as the codebook of raysvq is started."""

    def centres(positions: Tensor) -> Tensor:
        quantizer = Quantizer(positions.shape[1], CENTRES)
        quantizer.initialize(_some(positions, _POSITIONS, settings), settings.training.seed)
        return quantizer.codebook.to(positions.device)

    return _fit(manifest, settings, centres)


def fit_memory_bank(manifest: str, settings: Settings) -> ImageScorer:
    """Entries are normal features drawn at random."""
    return _fit(manifest, settings, lambda positions: _some(positions, BANK, settings))


def _fit(manifest: str, settings: Settings, choose: Choose) -> ImageScorer:
    device = local_device(settings)
    dictionary = Dictionary(read_samples(manifest, settings).normal["tile"], choose, device)
    return ImageScorer(dictionary, settings, settings.scoring, device)


def _some(positions: Tensor, most: int, settings: Settings) -> Tensor:
    order = np.random.default_rng(settings.training.seed).permutation(len(positions))
    return positions[torch.from_numpy(order[:most])]
