"""Encoder, codebook and decoder as one model that takes plain pixels.

Shapes: B batch, C channels, H and W pixels, S what the stem makes of the channels, h and w grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from raysvq.model import pixels as on_pixels
from raysvq.model import stem as on_features
from raysvq.model.features import FeatureDecoder, FeatureEncoder
from raysvq.model.quantizer import Quantized, Quantizer
from raysvq.settings import ModelSettings, Settings

_FLOOR = 0.3  # of a feature's deviation over all positions, added to the one at a position
_LEAST = 1e-3  # deviation of a channel that hardly varies


def cell_size(settings: ModelSettings) -> int:
    """Pixels along the side of a grid position."""
    return on_features.CELL if settings.encoder == "features" else on_pixels.CELL


@dataclass(frozen=True)
class Output:
    """One pass through encoder, codebook and decoder."""

    target: Tensor  # what the decoder should give back
    encoded: Tensor  # (B, d, h, w) E(U)
    quantized: Quantized  # Q(U)
    reconstruction: Tensor  # D(Q(U)), shaped like target
    fixed: int = 0  # leading dimensions of E(U) that no training moves


class SSVQVAE(nn.Module):
    """Stem, encoder, codebook and decoder, with the standardisation as part of the model.

    Takes pixels in [0, 1]. `mean` and `std` of what the stem gives for the training normals travel with
    the weights, so nothing outside the model can prepare its input differently. On pixels there is no
    stem, and they hold a value a channel; on features, one for each channel and grid position.
    """

    def __init__(self, settings: Settings) -> None:
        """Random weights; `prepare` gets a model ready to learn."""
        super().__init__()
        model = settings.model
        channels: int = settings.tiles.channels
        self.settings = model
        statistics: tuple[int, ...] = (channels, 1, 1)
        dim, fixed = model.embedding_dim, 0
        if model.encoder == "features":
            self.stem: nn.Module = on_features.Stem()
            channels = on_features.Stem.channels
            side = settings.tiles.size // on_features.CELL
            statistics = (channels, side, side)
            fixed = channels
            self.encoder: nn.Module = FeatureEncoder(channels, model)
            self.decoder: nn.Module = FeatureDecoder(channels)
        else:
            self.stem = nn.Identity()
            self.encoder = on_pixels.pixel_encoder(channels, model)
            self.decoder = on_pixels.pixel_decoder(channels, model)
        self.quantizer = Quantizer(
            model.codebook_size, fixed + dim, model.codebook, model.decay, model.revive_below, fixed
        )
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.zeros(statistics))
        self.register_buffer("std", torch.ones(statistics))

    def load_stem(self) -> None:
        """Give a frozen stem its pretrained weights. Raises SettingsError."""
        if isinstance(self.stem, on_features.Stem):
            self.stem.load(self.settings.stem_weights)

    def learn_statistics(self, stemmed: Tensor) -> None:
        """Set `mean` and `std` from (N, S, h, w) stem outputs of normal tiles."""
        found = position_statistics(stemmed) if self.settings.encoder == "features" else statistics(stemmed)
        self.mean.copy_(found[0])
        self.std.copy_(found[1])

    def standardise(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) pixels in [0, 1] -> (B, S, h, w) what the encoder takes and the decoder gives back.

        Zero mean and unit deviation on the training normals.
        """
        return self.standardise_stemmed(self.stem(pixels))

    def standardise_stemmed(self, stemmed: Tensor) -> Tensor:
        """The same of what the stem gave for pixels."""
        return (stemmed - self.mean) / self.std

    def chosen_by(self, stemmed: Tensor) -> Tensor:
        """(B, S, h, w) stem outputs -> what a position's code is chosen by: features, else encodings."""
        target = self.standardise_stemmed(stemmed)
        found: Tensor = target if self.quantizer.fixed else self.encoder(target)
        return found

    def distance_map(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) pixels in [0, 1] -> (B, h, w) ‖E_i − e_k(i)‖₂. No decoder is run."""
        return self.distance_map_stemmed(self.stem(pixels))

    def distance_map_stemmed(self, stemmed: Tensor) -> Tensor:
        """The same of what the stem gave for pixels."""
        _, quantized = self._quantize(self.standardise_stemmed(stemmed))
        return quantized.distances

    def forward(self, stemmed: Tensor, positions: Tensor | None = None) -> Output:
        """A training step's pass over what the stem gives for pixels, or, without one, pixels.

        Args:
            positions: (B, P) that features (B, S, P, 1) were taken from, as by `at`. None: all of a grid.
        """
        if positions is None:
            target = self.standardise_stemmed(stemmed)
        else:
            mean, std = (at(value[None], positions) for value in (self.mean, self.std))
            target = (stemmed - mean) / std
        encoded, quantized = self._quantize(target)
        return Output(target, encoded, quantized, self.decoder(quantized.quantize), self.quantizer.fixed)

    def _quantize(self, target: Tensor) -> tuple[Tensor, Quantized]:
        """E(U) and Q(U)."""
        if not (fixed := self.quantizer.fixed):
            encoded: Tensor = self.encoder(target)
            return encoded, self.quantizer(encoded)
        indices = self.quantizer.choose(target)
        usual = self.quantizer.codes(indices)[:, :fixed].detach()
        encoded = self.encoder(target, usual)
        return encoded, self.quantizer(encoded, indices)


def statistics(stemmed: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of (N, S, h, w) pixels of normal tiles, a value a channel. (S, 1, 1)"""
    return stemmed.mean(dim=(0, 2, 3))[:, None, None], _spread(stemmed)


def position_statistics(stemmed: Tensor) -> tuple[Tensor, Tensor]:
    """The same of a stem's features, for each grid position, averaged with its neighbours. (S, h, w)

    What is usual differs along the border, and all over an object that always lies alike (Defard et
    al., PaDiM, ICPR 2021). The deviation has a floor, as few normals may by chance agree in one place.
    """
    mean = _smoothed(stemmed.mean(dim=0))
    deviation = _smoothed(stemmed.var(dim=0, correction=0)).sqrt()
    weights = on_features.Stem.weights().to(mean)[:, None, None]
    return mean, (deviation + _FLOOR * _spread(stemmed)) / weights


def at(grid: Tensor, positions: Tensor) -> Tensor:
    """(B, S, h, w) and (B, P) of its positions, row by row -> (B, S, P, 1); a grid of one serves all.

    Fast where the grid is channels last, as the result is.
    """
    rows = grid.movedim(1, -1).flatten(1, 2)
    first = torch.arange(len(grid), device=grid.device)[:, None] * rows.shape[1]
    found = rows.flatten(0, 1).contiguous().index_select(0, (first + positions).flatten())
    return found.view(*positions.shape, -1).movedim(-1, 1)[..., None]


def _spread(stemmed: Tensor) -> Tensor:
    return stemmed.std(dim=(0, 2, 3)).clamp(min=_LEAST)[:, None, None]


def _smoothed(values: Tensor) -> Tensor:
    """Averaged over 3 x 3 positions, weighted 1, 2, 1. (S, h, w)"""
    weights = torch.tensor([0.25, 0.5, 0.25]).to(values)
    kernel = torch.outer(weights, weights)[None, None]
    padded = nn.functional.pad(values[:, None], (1, 1, 1, 1), mode="replicate")
    return nn.functional.conv2d(padded, kernel)[:, 0]
