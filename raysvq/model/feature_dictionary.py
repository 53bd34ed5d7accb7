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

from raysvq.model.collective import mean_over_ranks, take_from_first
from raysvq.model.network import Network, Output, make_quantizer
from raysvq.model.objective import TileLosses
from raysvq.model.quantizer import Quantized, square_norms
from raysvq.model.stems import CELL, build_stem
from raysvq.settings import Settings

_PRIOR = 150  # images that the deviation over all positions counts as, beside those seen at a position
_MOST_LEARNED = 4.0  # weight of the learned dimensions' distance with many labels, in deviations of normals
_HALF_LEARNED = 20  # labelled outliers that give it half that weight
_TRIMMINGS = 2  # times that doubtful tiles are told from the others
_LEAST = 1e-6  # lower bound of a deviation, so that no distance becomes infinite


class FeatureDictionary(Network):
    """E(U) = [f ; g(f, |f − q_f|)]: standardised features as they are, and learned dimensions beside them.

    The features alone choose the code, whose features q_f are what is usual there. What the stem knows cannot
    be unlearned, and labelled outliers have dimensions of their own to stand out in: g sees what is there,
    and how it differs from the usual.

    The distance of a position is the sum of its distances at the L depths that the stem taps, each in
    deviations of normals: Σ_l ‖f_l − q_l‖ / s_l + learned_weight · ‖g − q_g‖. How far normals lie
    differs by depth, and by place: along a border, and all over an object that always lies alike (Defard et
    al., PaDiM, ICPR 2021). The last term counts only once labelled outliers have shaped g. An image score
    pools it by itself: what is like a labelled outlier counts in full, wherever else the image is unusual.
    """

    cell = CELL

    def __init__(self, settings: Settings) -> None:
        """Draw random weights, the stem's too where it has any.

        Raises:
            SettingsError: there is no stem `model.stem`, or it cannot take tiles of `tiles.size`.
        """
        model, side = settings.model, settings.tiles.size // CELL
        stem = build_stem(model)
        stem.require_side(settings.tiles.seen)
        super().__init__(stem.channels)
        self.stem_weights = model.stem_weights
        self.stem = stem
        self._halo = settings.tiles.halo // CELL  # grid positions
        self.has_bfloat16 = stem.has_bfloat16
        self.head = nn.Sequential(
            nn.Conv2d(2 * stem.channels, model.hidden, 1),
            nn.ReLU(),
            nn.Conv2d(model.hidden, model.embedding_dim, 1),
        )
        self.quantizer = make_quantizer(stem.channels + model.embedding_dim, model)
        self.depths = [tap.channels for tap in stem.taps]
        self.deviations: Tensor  # (L, h, w) s_l, of normals' distances at each grid position
        self.register_buffer("deviations", torch.ones(len(self.depths), side, side))
        self.learned_moments: Tensor  # moving means over normals of ‖g − q_g‖ and its square
        self.register_buffer("learned_moments", torch.zeros(2))
        self.learned_weight: Tensor
        self.register_buffer("learned_weight", torch.zeros(()))

    def load_pretrained(self) -> None:
        """Give the stem the weights of `model.stem_weights`, else ImageNet's. Raises SettingsError."""
        self.stem.load(self.stem_weights)

    def files(self) -> Mapping[str, bytes]:
        return self.stem.files()

    def extract_features(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) pixels in [0, 1] -> (B, C, h, w) frozen features, those of the halo left out."""
        features: Tensor = self.stem(pixels)
        inside = slice(self._halo, features.shape[-1] - self._halo)
        return features[..., inside, inside]

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
    def fit_deviations(
        self,
        features: Tensor,
        place_codes: Callable[[Tensor], None],
        doubtful: Tensor | None = None,
        trim: float = 0.0,
    ) -> Tensor:
        """Set s_l from the (N, C, h, w) features of normal tiles of rank 0; codes stay as last placed.

        Each half of the tiles is measured by codes placed among the other half: tiles lie nearer to codes
        that they had a part in than new ones will, the more so the fewer they are. Of the doubtful ones
        those with the largest distances are left out, and all measured anew without them, twice.

        Returns:
            (N,) bool: the tiles that are not left out.
        """
        usual = torch.ones(len(features), dtype=torch.bool, device=features.device)
        distances = self._held_out_distances(features, usual, place_codes)
        if doubtful is not None and trim:  # so on all ranks or on none, as all place codes together
            for _ in range(_TRIMMINGS):
                scores = (distances / deviations(distances[usual])).sum(1).flatten(1)
                largest = scores.topk(max(1, scores.shape[1] // 100), dim=1).values.mean(1)
                usual = _without_largest(largest, doubtful, trim)
                distances = self._held_out_distances(features, usual, place_codes)
        self.deviations.copy_(deviations(distances[usual]))
        take_from_first(self.deviations)
        return usual

    def _held_out_distances(
        self, features: Tensor, usual: Tensor, place_codes: Callable[[Tensor], None]
    ) -> Tensor:
        """Distances of each half of the tiles to codes placed among the usual ones of the other. (N, L, h, w)

        Of a single tile, to codes placed in itself.
        """
        half = torch.where(usual, usual.cumsum(0) - 1, (~usual).cumsum(0)) % 2
        distances = features.new_empty(len(features), len(self.depths), *features.shape[2:])
        for number in (0, 1):
            others, measured = usual & (half != number), half == number
            place_codes(features[others if others.any() else usual])
            if measured.any():
                distances[measured] = self._depth_distances(features[measured])
        return distances

    def _depth_distances(self, features: Tensor) -> Tensor:
        """(N, C, h, w) features -> (N, L, h, w) distances to the nearest code at each depth."""
        parts = []
        for some in torch.split(features, 16):
            encoded, nearest, _ = self._find(self.standardise(some))
            parts.append(_as_map(self._by_depth(encoded, nearest)[:, :-1], some))
        return torch.cat(parts)

    @torch.no_grad()
    def update_codebook(self, encoded: Tensor, indices: Tensor, labelled: int) -> Tensor:
        """Follow one step's normal encodings, and how far their learned dimensions lie from the codes."""
        if labelled:
            learned = (encoded - self.quantizer.codebook[indices])[:, self.stem.channels :].norm(dim=1)
            means = mean_over_ranks(torch.stack([learned.mean(), learned.square().mean()]))
            decay = torch.where(self.learned_moments.any(), self.quantizer.current_decay, 0.0)
            self.learned_moments.lerp_(means, (1 - decay).float())
            mean, square = self.learned_moments
            deviation = (square - mean.square()).clamp(min=_LEAST**2).sqrt()
            self.learned_weight.copy_(learned_deviations(labelled) / deviation)
        return self.quantizer.update(encoded, indices)

    def quantize(self, features: Tensor) -> tuple[Tensor, Quantized]:
        encoded, nearest, indices = self._find(self.standardise(features))
        parts = self._by_depth(encoded, nearest)
        scales = self.deviations.flatten(1).T.repeat(len(features), 1)  # (P, L)
        terms = torch.stack([(parts[:, :-1] / scales).sum(1), self.learned_weight * parts[:, -1]], dim=1)
        squares = parts.square().sum(1).view_as(indices)
        near = _as_map(nearest, features)
        quantized = Quantized(near.detach(), near, indices, squares, _as_map(terms, features))
        return _as_map(encoded, features), quantized

    def _by_depth(self, encoded: Tensor, nearest: Tensor) -> Tensor:
        """Distances to the nearest code at each depth and in learned dimensions. (P, L + 1)"""
        apart = (encoded - nearest).float()
        parts = torch.split(apart, [*self.depths, apart.shape[1] - self.stem.channels], dim=1)
        return torch.stack([torch.linalg.vector_norm(part, dim=1) for part in parts], dim=1)

    def distance_weights(self) -> Tensor:
        """(C + d,): what the distance gives a dimension, by its depth, at the mean over the grid."""
        scales = [*self.deviations.mean(dim=(1, 2)).reciprocal(), self.learned_weight]
        counts = [*self.depths, self.quantizer.codebook.shape[1] - self.stem.channels]
        return torch.cat([scale.square().expand(count) for scale, count in zip(scales, counts, strict=True)])

    def bfloat16_nearest_map(self) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        """`nearest_map` with the stem in bfloat16."""
        self.require_bfloat16()
        own = copy.deepcopy(self)
        own.stem.bfloat16()
        return own.nearest_map

    def _find(self, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, C, h, w) standardised features -> (P, C + d) E(U) and nearest embeddings, (B, h, w) indices.

        Embeddings stay in rows, as they are looked up: some engines would copy a map of them.
        """
        indices = self.quantizer.nearest_indices(target)
        nearest = nn.functional.embedding(indices.flatten(), self.quantizer.codebook)
        features = target.movedim(1, -1).flatten(0, 2)
        usual = nearest[:, : self.stem.channels].detach()
        seen = torch.cat([features, (features - usual).abs()], dim=1)
        learned = self.head(_as_map(seen, target)).movedim(1, -1).flatten(0, 2)
        return torch.cat([features, learned], dim=1), nearest, indices

    def _quantize(self, target: Tensor) -> tuple[Tensor, Quantized]:
        encoded, nearest, indices = self._find(target)
        with torch.autocast(encoded.device.type, enabled=False):
            squares = square_norms(encoded.detach().float() - nearest.detach()).view_as(indices)
            near = _as_map(nearest, target)
            distances = squares.sqrt()[:, None]
            return _as_map(encoded, target), Quantized(near.detach(), near, indices, squares, distances)

    def _reconstruct(self, quantize: Tensor) -> Tensor:
        """The code's own features: D(Q(U)) = q_f. Nothing to learn."""
        return quantize[:, : self.stem.channels]


def _as_map(positions: Tensor, like: Tensor) -> Tensor:
    """(P, C) -> (B, C, h, w), on the grid of another map."""
    batch, _, height, width = like.shape
    return positions.view(batch, height, width, -1).movedim(-1, 1)


def _without_largest(scores: Tensor, doubtful: Tensor, trim: float) -> Tensor:
    """(N,) bool: all but the `trim` share of the doubtful tiles that has the largest scores."""
    ranked = scores.masked_fill(~doubtful, -torch.inf)
    left_out = ranked.topk(int(trim * int(doubtful.sum()))).indices
    return torch.ones_like(scores, dtype=torch.bool).index_fill_(0, left_out, False)


def learned_deviations(labelled: int) -> float:
    """How many deviations of normals the learned dimensions' distance counts as: more with more labels.

    A few labelled outliers may mislead, and no number of them speaks of defects of other kinds.
    """
    return _MOST_LEARNED * labelled / (labelled + _HALF_LEARNED)


def deviations(distances: Tensor) -> Tensor:
    """Deviations of (N, L, h, w) distances of normal tiles, at each position. (L, h, w)

    The variance at a position is averaged with its neighbours', and the fewer tiles there are, the more it is
    drawn to the variance over all positions.
    """
    share = len(distances) / (len(distances) + _PRIOR)
    there = _smoothed(distances.var(dim=0, correction=0))
    everywhere = distances.var(dim=(0, 2, 3), correction=0)[:, None, None]
    return (share * there + (1 - share) * everywhere).sqrt().clamp(min=_LEAST)


def _smoothed(values: Tensor) -> Tensor:
    """(C, h, w) averaged over 3 x 3 positions, weighted 1, 2, 1."""
    weights = torch.tensor([0.25, 0.5, 0.25]).to(values)
    kernel = torch.outer(weights, weights)[None, None]
    padded = nn.functional.pad(values[:, None], (1, 1, 1, 1), mode="replicate")
    return nn.functional.conv2d(padded, kernel)[:, 0]
