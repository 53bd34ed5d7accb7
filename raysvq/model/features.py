"""Encoder and decoder on the frozen features of a stem.

Shapes: B batch, C channels of the stem, d learned dimensions, h and w grid.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from raysvq.settings import ModelSettings


class FeatureEncoder(nn.Module):
    """E(U) = [f ; g(f)]: standardised features as they are, and learned dimensions beside them.

    ‖E − Q‖² is the distance of the features to the codebook plus that of the learned dimensions. What
    the stem knows cannot be unlearned, and labelled outliers have dimensions of their own to stand out in.
    """

    def __init__(self, channels: int, settings: ModelSettings) -> None:
        super().__init__()
        self.head = _pointwise(channels, settings.hidden, settings.embedding_dim)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C + d, h, w)."""
        return torch.cat([features, self.head(features)], dim=1)


def feature_decoder(channels: int, settings: ModelSettings) -> nn.Sequential:
    """(B, C + d, h, w) -> (B, C, h, w) features."""
    return _pointwise(channels + settings.embedding_dim, settings.hidden, channels)


def _pointwise(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, outputs, 1))
