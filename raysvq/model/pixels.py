"""The paper's own networks on pixels (section IV-D and figure 4).

Shapes: B batch, C channels, H and W pixels, d embedding_dim.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from raysvq.settings import ModelSettings

CELL = 4  # pixels along the side of a grid position


class ResidualStack(nn.Module):
    """Blocks of ReLU, 3x3, ReLU, 1x1 with a skip; a ReLU at the end."""

    def __init__(self, hidden: int, residual_hidden: int, layers: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.ReLU(),
                nn.Conv2d(hidden, residual_hidden, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(residual_hidden, hidden, 1),
            )
            for _ in range(layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + block(x)
        return torch.relu(x)


def pixel_encoder(channels: int, settings: ModelSettings) -> nn.Sequential:
    """(B, C, H, W) -> (B, d, H/4, W/4)."""
    hidden = settings.hidden
    return nn.Sequential(
        nn.Conv2d(channels, hidden // 2, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(hidden // 2, hidden, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(hidden, hidden, 3, padding=1),
        ResidualStack(hidden, settings.residual_hidden, settings.residual_layers),
        nn.Conv2d(hidden, settings.embedding_dim, 1),
    )


def pixel_decoder(channels: int, settings: ModelSettings) -> nn.Sequential:
    """(B, d, H/4, W/4) -> (B, C, H, W)."""
    hidden = settings.hidden
    return nn.Sequential(
        nn.Conv2d(settings.embedding_dim, hidden, 3, padding=1),
        ResidualStack(hidden, settings.residual_hidden, settings.residual_layers),
        nn.ConvTranspose2d(hidden, hidden // 2, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(hidden // 2, channels, 4, stride=2, padding=1),
    )
