"""The networks (paper, section IV-D and figure 4).

Shapes: B batch, C channels, H and W pixels, d embedding_dim; the grid is H/4 x W/4.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from raysvq.model.quantizer import Quantized, Quantizer
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


@dataclass(frozen=True)
class Output:
    """One pass through encoder, codebook and decoder."""

    target: Tensor  # what the decoder should give back
    encoded: Tensor  # (B, d, h, w) E(U)
    quantized: Quantized  # Q(U)
    reconstruction: Tensor  # D(Q(U)), shaped like target


class SSVQVAE(nn.Module):
    """Encoder, codebook and decoder, with the input's standardisation as part of the model.

    Takes pixels in [0, 1]. `mean` and `std` (per channel, of the training normals) travel with
    the weights, so nothing outside the model can prepare its input differently.
    """

    def __init__(self, channels: int, settings: ModelSettings) -> None:
        super().__init__()
        self.encoder = pixel_encoder(channels, settings)
        self.quantizer = Quantizer(
            settings.codebook_size,
            settings.embedding_dim,
            settings.codebook,
            settings.decay,
            settings.revive_below,
        )
        self.decoder = pixel_decoder(channels, settings)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    def standardise(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) pixels in [0, 1] -> zero mean and unit deviation on the training normals."""
        return (pixels - self.mean[:, None, None]) / self.std[:, None, None]

    def encode(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) pixels in [0, 1] -> (B, d, h, w) E(U)."""
        encoded: Tensor = self.encoder(self.standardise(pixels))
        return encoded

    def distance_map(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) pixels in [0, 1] -> (B, h, w) ‖E_i − e_k(i)‖₂. No decoder is run."""
        quantized: Quantized = self.quantizer(self.encode(pixels))
        return quantized.distances

    def forward(self, pixels: Tensor) -> Output:
        target = self.standardise(pixels)
        encoded = self.encoder(target)
        quantized = self.quantizer(encoded)
        return Output(target, encoded, quantized, self.decoder(quantized.quantize))
