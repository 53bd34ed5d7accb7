"""A dictionary of frozen ImageNet features, with a semi-supervised head beside them.

Of the paper it keeps the dictionary of normal appearance, the semi-supervised objective, the distance to
the dictionary as the score, and its root of summed squares per tile. It has neither the paper's encoder
nor its decoder: a pretrained network that no training moves gives the features f, and D(Q(U)) is q_f,
the features of the nearest code. Only the codes and the head g learn.

Shapes: B batch, C channels of the stem, d learned dimensions, h and w grid, P positions.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from raysvq.model.collective import mean_over_ranks
from raysvq.model.network import Network, Output, channel_statistics, make_quantizer
from raysvq.model.objective import TileLosses
from raysvq.model.quantizer import Quantized, square_norms
from raysvq.model.stems import CELL, build_stem
from raysvq.settings import Settings

_FLOOR = 0.3  # fraction of a channel's deviation over all positions that is added at each position
_LEARNED = 0.3  # weight of learned dimensions in a squared distance; the features weigh 1
_LEAST_SQUARE = 1e-10  # lower bound for learned dimensions, so that their weight stays finite


class FeatureDictionary(Network):
    """E(U) = [f ; g(f, |f − q_f|)]: standardised features as they are, and learned dimensions beside them.

    The features alone choose the code, whose features q_f are what is usual there. What the stem knows cannot
    be unlearned, and labelled outliers have dimensions of their own to stand out in: g sees what is there,
    and how it differs from the usual.

    The learned dimensions count in a distance only once labelled outliers have shaped them:
    ‖E − Q‖² = ‖f − q_f‖² + learned_weight · ‖g − q_g‖², where on normals the second is 0.3 of the first.
    """

    cell = CELL

    def __init__(self, settings: Settings) -> None:
        """Draw random weights, the stem's too where it has any.

        Raises:
            SettingsError: there is no stem `model.stem`, or it cannot take tiles of `tiles.size`.
        """
        model, side = settings.model, settings.tiles.size // CELL
        stem = build_stem(model)
        stem.require_side(settings.tiles.size)
        super().__init__((stem.channels, side, side))
        self.stem_weights = model.stem_weights
        self.stem = stem
        self.has_bfloat16 = stem.has_bfloat16
        self.head = nn.Sequential(
            nn.Conv2d(2 * stem.channels, model.hidden, 1),
            nn.ReLU(),
            nn.Conv2d(model.hidden, model.embedding_dim, 1),
        )
        self.quantizer = make_quantizer(stem.channels + model.embedding_dim, model)
        self.mean_squares: Tensor  # moving means over normals of ‖f − q_f‖² and ‖g − q_g‖²
        self.register_buffer("mean_squares", torch.zeros(2))
        self.learned_weight: Tensor
        self.register_buffer("learned_weight", torch.zeros(()))

    def load_pretrained(self) -> None:
        """Give the stem the weights of `model.stem_weights`, else ImageNet's. Raises SettingsError."""
        self.stem.load(self.stem_weights)

    def files(self) -> Mapping[str, bytes]:
        return self.stem.files()

    def extract_features(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) pixels in [0, 1] -> (B, C, h, w) frozen features."""
        features: Tensor = self.stem(pixels)
        return features

    def statistics(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of (N, C, h, w) normal features, for each channel and grid position."""
        return position_statistics(features, self.stem.channel_weights())

    def encode(self, features: Tensor) -> Tensor:
        """(B, C, h, w) features -> standardised features, which alone choose the code."""
        return self.standardise(features)

    def losses(self, output: Output, beta: float) -> TileLosses:
        """L(U), with every square averaged over its elements.

        The commitment is over the learned dimensions, as nothing else of E(U) can move.
        """
        nearest, encoded = output.quantized.nearest, output.encoded.float()
        codebook = output.quantized.squares / encoded.shape[1]
        if nearest.requires_grad:
            codebook = (encoded.detach() - nearest).square().mean(1)
        learned = slice(self.stem.channels, None)
        commitment = (encoded[:, learned] - nearest.detach()[:, learned]).square().mean(1)
        reconstruction = (output.reconstruction.float() - output.target.float()).square().mean(1)
        # L(U) = ‖q_f − f‖² + ‖sg[E(U)] − Q(U)‖² + β‖g − sg[q_g]‖²
        return TileLosses(reconstruction + codebook + beta * commitment, reconstruction, commitment)

    @torch.no_grad()
    def update_codebook(self, encoded: Tensor, indices: Tensor, labelled: bool) -> Tensor:
        """Follow one step's normal encodings, and how far their learned dimensions lie from the codes."""
        if labelled:
            apart = square_parts(encoded - self.quantizer.codebook[indices], self.stem.channels)
            means = mean_over_ranks(torch.stack([part.mean() for part in apart]))
            decay = self.quantizer.current_decay if bool(self.mean_squares.any()) else 0.0
            self.mean_squares.lerp_(means, 1 - decay)
            fixed, learned = self.mean_squares
            self.learned_weight.copy_(_LEARNED * fixed / learned.clamp(min=_LEAST_SQUARE))
        return self.quantizer.update(encoded, indices)

    def distance_weights(self) -> Tensor:
        """(C + d,): 1 for the features, `learned_weight` for the learned dimensions."""
        weights = torch.ones_like(self.quantizer.codebook[0])
        weights[self.stem.channels :] = self.learned_weight
        return weights

    def bfloat16_nearest_map(self) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        """`nearest_map` with the stem in bfloat16."""
        self.require_bfloat16()
        own = copy.deepcopy(self)
        own.stem.bfloat16()
        return own.nearest_map

    def _quantize(self, target: Tensor) -> tuple[Tensor, Quantized]:
        indices = self.quantizer.nearest_indices(target)
        nearest = self.quantizer.lookup(indices)
        usual = nearest[:, : self.stem.channels].detach()
        learned = self.head(torch.cat([target, (target - usual).abs()], dim=1))
        encoded = torch.cat([target, learned], dim=1)
        with torch.autocast(encoded.device.type, enabled=False):
            apart = (encoded.detach().float() - nearest.detach()).movedim(1, -1)
            of_features, of_learned = square_parts(apart, self.stem.channels)
            distances = (of_features + self.learned_weight * of_learned).sqrt()
            squares = of_features + of_learned
            return encoded, Quantized(nearest.detach(), nearest, indices, squares, distances)

    def _reconstruct(self, quantize: Tensor) -> Tensor:
        """The code's own features: D(Q(U)) = q_f. Nothing to learn."""
        return quantize[:, : self.stem.channels]


def square_parts(apart: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """(..., C + d) differences -> the squared norms of the features' part and of the learned part."""
    return square_norms(apart[..., :channels]), square_norms(apart[..., channels:])


def position_statistics(features: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of (N, C, h, w) normal features at each grid position. (C, h, w) each

    Both are averaged with the neighbouring positions. What is usual differs along the border, and all over
    an object that always lies alike (Defard et al., PaDiM, ICPR 2021). The deviation has a floor, as few
    normals may by chance agree in one place.

    Args:
        weights: (C,) of each channel in a distance, by which its deviation is divided.
    """
    mean = _smoothed(features.mean(dim=0))
    deviation = _smoothed(features.var(dim=0, correction=0)).sqrt()
    floored = deviation + _FLOOR * channel_statistics(features)[1]
    return mean, floored / weights.to(mean)[:, None, None]


def _smoothed(values: Tensor) -> Tensor:
    """(C, h, w) averaged over 3 x 3 positions, weighted 1, 2, 1."""
    weights = torch.tensor([0.25, 0.5, 0.25]).to(values)
    kernel = torch.outer(weights, weights)[None, None]
    padded = nn.functional.pad(values[:, None], (1, 1, 1, 1), mode="replicate")
    return nn.functional.conv2d(padded, kernel)[:, 0]
