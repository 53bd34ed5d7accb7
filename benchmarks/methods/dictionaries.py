"""Dictionaries of frozen features, without training and without labels.

`kmeans`: 512 centres of the features of normal images. `memory-bank`: 12,000 of those features themselves,
drawn at random, in the manner of PatchCore (K. Roth et al., "Towards Total Recall in Industrial Anomaly
Detection", CVPR 2022). A position is scored by its distance to the nearest entry.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from benchmarks.methods.features import CELL, FrozenFeatures
from benchmarks.methods.samples import training_samples
from raysvq.imaging.pixels import load_tiles
from raysvq.imaging.tiling import map_span
from raysvq.model.anomaly import image_score, tile_scores
from raysvq.model.quantizer import Quantizer, nearest_codes
from raysvq.model.scorer import ImageResult, to_model_input
from raysvq.settings import Settings

CENTRES = 512
BANK = 12_000
_POSITIONS = 50_000  # that k-means sees, drawn at random
_BATCH = 8


class Dictionary:
    """Scores images as a whole by the distance of their features to the nearest entry."""

    def __init__(self, features: FrozenFeatures, entries: Tensor, settings: Settings) -> None:
        """`entries` are (K, C) features."""
        self.features = features
        self.entries = entries
        self.settings = settings

    def __call__(self, content: bytes) -> ImageResult:
        """Score an image file."""
        tiling, tiles = load_tiles(content, self.settings.tiles, self.settings.scoring)
        found = self.features(to_model_input(tiles, torch.device("cpu")))[0].movedim(0, -1)
        nearest = self.entries[nearest_codes(found.flatten(0, 1), self.entries)].view_as(found)
        anomaly_map = torch.linalg.vector_norm(found - nearest, dim=-1).numpy()
        scores = tile_scores(anomaly_map[None])
        pooled = image_score(anomaly_map, scores, self.settings.anomaly)
        return ImageResult(tiling, scores, anomaly_map, map_span(tiling, CELL), pooled)


def fit_kmeans(manifest: str, settings: Settings) -> Dictionary:
    """Entries are the centres of normal features, found as the codebook of raysvq is started."""
    features, positions = _normal_features(manifest, settings, _POSITIONS)
    quantizer = Quantizer(CENTRES, positions.shape[1], "ema", decay=0.99, revive_below=0.0)
    quantizer.start_from(positions, settings.training.seed)
    return Dictionary(features, quantizer.codebook, settings)


def fit_memory_bank(manifest: str, settings: Settings) -> Dictionary:
    """Entries are normal features drawn at random."""
    return Dictionary(*_normal_features(manifest, settings, BANK), settings)


def _normal_features(manifest: str, settings: Settings, most: int) -> tuple[FrozenFeatures, Tensor]:
    """The features fitted on the normal training images, and at most so many positions. (P, C)"""
    tiles = training_samples(manifest, settings).normal["tile"]
    features = FrozenFeatures(_batches(tiles))
    positions = torch.cat([features(batch).movedim(1, -1).flatten(0, 2) for batch in _batches(tiles)])
    chosen = np.random.default_rng(settings.training.seed).permutation(len(positions))[:most]
    return features, positions[torch.from_numpy(chosen)]


def _batches(tiles: np.ndarray) -> Iterator[Tensor]:
    for start in range(0, len(tiles), _BATCH):
        yield to_model_input(tiles[start : start + _BATCH], torch.device("cpu"))
