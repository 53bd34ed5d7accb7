"""Learned dimensions beside the frozen features of a stem.

Shapes: B batch, C channels of the stem, d learned dimensions, h and w grid.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from raysvq.settings import ModelSettings


class FeatureEncoder(nn.Module):
    """E(U) = [f ; g(f, |f − q_f|)]: standardised features as they are, and learned dimensions beside them.

    The features choose the code, and q_f is what it says is usual there. What the stem knows cannot be
    unlearned, and labelled outliers have dimensions of their own to stand out in: g sees what is there,
    and how it differs from the usual.
    """

    def __init__(self, channels: int, settings: ModelSettings) -> None:
        super().__init__()
        self.head = nn.Sequential(
            nn.Conv2d(2 * channels, settings.hidden, 1),
            nn.ReLU(),
            nn.Conv2d(settings.hidden, settings.embedding_dim, 1),
        )

    def forward(self, features: Tensor, usual: Tensor) -> Tensor:
        """(B, C, h, w) f and q_f -> (B, C + d, h, w)."""
        learned = self.head(torch.cat([features, (features - usual).abs()], dim=1))
        return torch.cat([features, learned], dim=1)


class FeatureDecoder(nn.Module):
    """The code's own features are the reconstruction: D(Q(U)) = q_f. Nothing to learn."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, quantized: Tensor) -> Tensor:
        """(B, C + d, h, w) -> (B, C, h, w)."""
        return quantized[:, : self.channels]
