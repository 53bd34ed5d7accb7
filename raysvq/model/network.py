"""The interface of both networks, which training, validation and scoring use.

Shapes: B batch, C channels, H and W pixels, S channels that a network learns from, h and w grid,
d size of an embedding, P positions, K codebook_size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from raysvq.errors import SettingsError
from raysvq.model.objective import TileLosses
from raysvq.model.quantizer import Quantized, Quantizer
from raysvq.settings import ModelSettings, Settings

if TYPE_CHECKING:
    from raysvq.model.feature_dictionary import FeatureDictionary
    from raysvq.model.pixel_network import PixelNetwork

_LEAST = 1e-3  # lower bound of a channel's deviation, to avoid division by 0


@dataclass(frozen=True)
class Output:
    """A training step's pass through encoder, codebook and decoder."""

    target: Tensor  # what the decoder should reconstruct
    encoded: Tensor  # (B, d, h, w) E(U)
    quantized: Quantized  # Q(U)
    reconstruction: Tensor  # D(Q(U)), shaped like target


class Network(nn.Module, ABC):
    """Takes pixels in [0, 1]; gives a training step its losses and an image its distances.

    Standardisation is part of it: `mean` and `std` of normal training tiles travel with the weights, so
    nothing outside the model can prepare its input differently. `state_dict` is all that a bundle needs.
    """

    cell: ClassVar[int]  # pixels along the side of a grid position
    quantizer: Quantizer
    has_bfloat16 = True  # whether `bfloat16_nearest_map` can be had

    def __init__(self, channels: int) -> None:
        """`channels` are those of what it learns from, S."""
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("std", torch.ones(channels, 1, 1))

    def load_pretrained(self) -> None:
        """Give frozen layers their pretrained weights, where there are any. Raises SettingsError."""

    def files(self) -> Mapping[str, bytes]:
        """What a model bundle must hold beside the weights to build the network again: name -> content."""
        return {}

    @property
    def size_bytes(self) -> int:
        """Of its weights and files."""
        weights: int = sum(value.numel() * value.element_size() for value in self.state_dict().values())
        return weights + sum(len(content) for content in self.files().values())

    def require_bfloat16(self) -> None:
        """Raise SettingsError where the network computes in float32 alone."""
        if not self.has_bfloat16:
            raise SettingsError(
                "setting `scoring.precision`: an ONNX file as `model.stem` computes as it was exported; found"
                " bfloat16, expected float32 or auto"
            )

    def extract_features(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) pixels in [0, 1] -> (B, S, h, w) output of frozen layers, else the pixels."""
        return pixels

    def fit_deviations(
        self,
        features: Tensor,
        place_codes: Callable[[Tensor], None],
        doubtful: Tensor | None = None,
        trim: float = 0.0,
    ) -> Tensor:
        """Measure on the (N, S, h, w) features of normal tiles what scales distances to the codebook.

        Args:
            place_codes: places the codes among the features of some tiles.
            doubtful: (N,) bool, tiles that may show a defect; None: none does.
            trim: share of the doubtful ones to leave out.

        Returns:
            (N,) bool: the tiles that the codebook may start from.
        """
        return torch.ones(len(features), dtype=torch.bool, device=features.device)

    @abstractmethod
    def encode(self, features: Tensor) -> Tensor:
        """(B, S, h, w) features -> the encodings by which the nearest code is found."""

    @abstractmethod
    def losses(self, output: Output, beta: float) -> TileLosses:
        """L(U) of each tile of a batch, per grid position, in float32."""

    def update_codebook(self, encoded: Tensor, indices: Tensor, labelled: int) -> Tensor:
        """Update the codebook with one step's normal encodings (P, d) and their codes (P,).

        Args:
            labelled: number of labelled outliers that training draws from.

        Returns:
            (K,) how often each code was used, over all ranks.
        """
        return self.quantizer.update(encoded, indices)

    @abstractmethod
    def bfloat16_nearest_map(self) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        """A copy of `nearest_map` for the present weights, with the costly layers in bfloat16.

        The network stays as it is. Codebook and distances are float32. Codes may be those of some positions
        of each tile, (B, p).

        Raises:
            SettingsError: the layers cannot compute in it (`has_bfloat16`).
        """

    def distance_weights(self) -> Tensor:
        """(d,) weight of each dimension of E(U) − Q(U) in a squared distance."""
        return torch.ones_like(self.quantizer.codebook[0])

    @abstractmethod
    def _quantize(self, target: Tensor) -> tuple[Tensor, Quantized]:
        """(B, S, h, w) standardised features -> E(U) and Q(U)."""

    @abstractmethod
    def _reconstruct(self, quantize: Tensor) -> Tensor:
        """D(Q(U)), shaped like the standardised features."""

    def fit_statistics(self, features: Tensor) -> None:
        """Set `mean` and `std` from the (N, S, h, w) features of normal tiles."""
        mean, std = channel_statistics(features)
        self.mean.copy_(mean)
        self.std.copy_(std)

    def standardise(self, features: Tensor) -> Tensor:
        """Features with zero mean and unit deviation on normal training tiles."""
        return (features - self.mean) / self.std

    def forward(self, features: Tensor) -> Output:
        """A training step's pass over the (B, S, h, w) features of a batch, or of some of their positions."""
        target = self.standardise(features)
        encoded, quantized = self._quantize(target)
        return Output(target, encoded, quantized, self._reconstruct(quantized.quantize))

    def quantize(self, features: Tensor) -> tuple[Tensor, Quantized]:
        """(B, S, h, w) features -> (B, d, h, w) E(U), and Q(U). No decoder is run."""
        return self._quantize(self.standardise(features))

    def nearest(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S, h, w) features -> (B, R, h, w) terms of distances, (B, h, w) codes k(i). No decoder is run.

        The sum of the terms is the distance. A network has one, ‖E_i − e_k(i)‖₂, or beside that of the
        dictionary a second one that holds all that labelled outliers taught it.
        """
        quantized = self.quantize(features)[1]
        return quantized.terms, quantized.indices

    def nearest_map(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) pixels in [0, 1] -> (B, R, h, w) terms of distances, (B, h, w) codes."""
        return self.nearest(self.extract_features(pixels))

    def distance_map(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) pixels in [0, 1] -> (B, h, w) distances. No decoder is run."""
        return self.nearest_map(pixels)[0].sum(1)


def build_network(settings: Settings) -> Network:
    """The network that `model.encoder` names, with random weights."""
    return _network(settings.model)(settings)


def cell_size(settings: ModelSettings) -> int:
    """Pixels along the side of a grid position."""
    return _network(settings).cell


def _network(settings: ModelSettings) -> type[PixelNetwork | FeatureDictionary]:
    # Imported here: both modules import this one.
    from raysvq.model.feature_dictionary import FeatureDictionary
    from raysvq.model.pixel_network import PixelNetwork

    return FeatureDictionary if settings.encoder == "features" else PixelNetwork


def make_quantizer(dim: int, settings: ModelSettings) -> Quantizer:
    """A codebook of random embeddings in `dim` dimensions."""
    return Quantizer(
        dim,
        settings.codebook_size,
        decay=settings.decay,
        threshold_dead_code=settings.threshold_dead_code,
        learnable_codebook=settings.codebook == "gradient",
    )


def channel_statistics(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of (N, S, h, w) normal features, one value per channel. (S, 1, 1) each"""
    deviation = features.std(dim=(0, 2, 3)).clamp(min=_LEAST)
    return features.mean(dim=(0, 2, 3))[:, None, None], deviation[:, None, None]
