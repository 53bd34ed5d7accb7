"""The paper's own network, trained from scratch on pixels (section IV-D and figure 4).

Shapes: B batch, C channels, H and W pixels, h = H/4 and w = W/4 grid, d embedding_dim, K codebook_size.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from raysvq.model.network import Network, Output, make_quantizer
from raysvq.model.objective import TileLosses
from raysvq.model.quantizer import Quantized
from raysvq.settings import ModelSettings, Settings

CELL = 4  # pixels along the side of a grid position
_CHUNK = 16384  # positions compared with all codes at once; a multiple of _EVERY
_EVERY = 4  # position whose code is told in bfloat16; a tile has a multiple of them


class PixelNetwork(Network):
    """Encoder, codebook and decoder: a VQ-VAE of standardised pixels."""

    cell = CELL

    def __init__(self, settings: Settings) -> None:
        """Draw random weights."""
        model, channels = settings.model, settings.tiles.channels
        super().__init__(channels)
        self.encoder = pixel_encoder(channels, model)
        self.decoder = pixel_decoder(channels, model)
        self.quantizer = make_quantizer(model.embedding_dim, model)

    def encode(self, features: Tensor) -> Tensor:
        """(B, C, H, W) pixels -> (B, d, h, w) E(U)."""
        encoded: Tensor = self.encoder(self.standardise(features))
        return encoded

    def losses(self, output: Output, beta: float) -> TileLosses:
        """L(U), with every square averaged over its elements."""
        nearest, encoded = output.quantized.nearest, output.encoded.float()
        codebook = output.quantized.squares / encoded.shape[1]
        if nearest.requires_grad:
            codebook = (encoded.detach() - nearest).square().mean(1)
        commitment = (encoded - nearest.detach()).square().mean(1)
        errors = (output.reconstruction.float() - output.target.float()).square().mean(1)
        reconstruction = nn.functional.avg_pool2d(errors[:, None], CELL)[:, 0]
        # L(U) = ‖D(Q(U)) − U‖² + ‖sg[E(U)] − Q(U)‖² + β‖E(U) − sg[Q(U)]‖²
        return TileLosses(reconstruction + codebook + beta * commitment, reconstruction, commitment)

    def bfloat16_nearest_map(self) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        """`nearest_map` with all but the first and last layer of the encoder in bfloat16."""
        return _BFloat16Nearest(self)

    def _quantize(self, target: Tensor) -> tuple[Tensor, Quantized]:
        encoded: Tensor = self.encoder(target)
        return encoded, self.quantizer(encoded)

    def _reconstruct(self, quantize: Tensor) -> Tensor:
        reconstruction: Tensor = self.decoder(quantize)
        return reconstruction


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
    """(B, C, H, W) -> (B, d, h, w)."""
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
    """(B, d, h, w) -> (B, C, H, W)."""
    hidden = settings.hidden
    return nn.Sequential(
        nn.Conv2d(settings.embedding_dim, hidden, 3, padding=1),
        ResidualStack(hidden, settings.residual_hidden, settings.residual_layers),
        nn.ConvTranspose2d(hidden, hidden // 2, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(hidden // 2, channels, 4, stride=2, padding=1),
    )


class _BFloat16Nearest:
    """Nearest codes and the distances to them, with the inner layers of the encoder in bfloat16.

    The first and last layer stay in float32. They cost little, and keep image scores ten times closer:
    the first sees every grey level, the last makes what is compared.

    The distance comes from the minimum that finds the code, without a look at the code itself:
    min_k ‖x − e_k‖² = ‖x‖² + 2 min_k (½‖e_k‖² − x·e_k). Encodings and codes are taken around the
    codebook's mean: far from the origin the terms would cancel.
    """

    def __init__(self, network: PixelNetwork) -> None:
        codebook = network.quantizer.codebook.detach().float()
        centre = codebook.mean(dim=0)
        codes = codebook - centre
        encoder = copy.deepcopy(network.encoder).requires_grad_(False)
        self.standardise = network.standardise
        self.first, self.inner, self.last = encoder[0], encoder[1:-1].bfloat16(), encoder[-1]
        self.last.get_parameter("bias").sub_(centre)
        self.codes = codes.T.contiguous()  # (d, K)
        self.half_norms = 0.5 * codes.square().sum(dim=1)  # (K,)

    def __call__(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) pixels in [0, 1] -> (B, 1, h, w) float32 distances to the nearest codes.

        With them (B, h * w / 4) these codes, of every fourth position.
        """
        inner = self.inner(self.first(self.standardise(pixels)).bfloat16())
        encoded: Tensor = self.last(inner.float())
        positions = encoded.movedim(1, -1).flatten(0, 2)  # (P, d)
        nearest, codes = [], []
        for part in torch.split(positions, _CHUNK):
            apart = torch.addmm(self.half_norms, part, self.codes, alpha=-1)
            nearest.append(apart.amin(dim=1))
            codes.append(apart[::_EVERY].argmin(dim=1))  # on CPUs it takes five times as long as amin
        squares = positions.square().sum(dim=1) + 2 * torch.cat(nearest)
        shape = len(encoded), 1, *encoded.shape[2:]
        return squares.clamp_(min=0).sqrt_().view(shape), torch.cat(codes).view(len(encoded), -1)
