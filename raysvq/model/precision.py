"""Scoring in bfloat16: where it is fast, how far its scores may lie off, and how they are computed.

bfloat16 keeps eight bits of a number. Where hardware multiplies in it, the encoder takes little more
than half the time. Training measures on validation images how far the image scores of a model move,
and the bundle carries the figure; `scoring.precision=auto` decides by it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from raysvq.model.bundle import Reference
from raysvq.model.network import SSVQVAE

Precision = Literal["float32", "bfloat16"]

TOLERANCE = 0.02  # of an image score, relative to the one in float32
_CHUNK = 16384  # positions compared with all codes at once
_CPU_INSTRUCTIONS = ("avx512_bf16", "amx_bf16")


def has_fast_bfloat16(device: torch.device | str) -> bool:
    """Whether the device multiplies in bfloat16 itself, rather than by way of float32."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    found = torch.cpu.get_capabilities()
    return any(found.get(name, False) for name in _CPU_INSTRUCTIONS)


def choose_precision(
    setting: Literal["auto", "float32", "bfloat16"], reference: Reference, fast: bool
) -> Precision:
    """What to score in: what `scoring.precision` says, or, with `auto`, bfloat16 where that is safe and fast.

    Args:
        reference: of the model; a model without a measured deviation is scored in float32.
        fast: whether the device has bfloat16 (`has_fast_bfloat16`).
    """
    if setting != "auto":
        return setting
    measured = reference.bfloat16_deviation
    return "bfloat16" if fast and measured is not None and measured <= TOLERANCE else "float32"


def relative_deviation(score: float, exact: float) -> float:
    """|score − exact| as a share of the exact one; infinite where that is 0 and the score is not."""
    if score == exact:
        return 0.0
    return abs(score - exact) / exact if exact else float("inf")


def bfloat16_distances(model: SSVQVAE) -> Callable[[Tensor], Tensor]:
    """`SSVQVAE.distance_map` with the costly layers in bfloat16: the stem, or an encoder's inner layers.

    The model stays as it is. Codebook and distances are float32.
    """
    if isinstance(model.encoder, nn.Sequential):
        return _OnPixels(model, model.encoder)
    own = copy.deepcopy(model)
    own.stem.bfloat16()
    return own.distance_map


class _OnPixels:
    """The first and last layer of the encoder stay in float32: they cost little, and keep image scores ten
    times closer; the first sees every grey level, the last makes what is compared.

    Only the distance to the nearest code is wanted, not which one it is:
    min_k ‖x − e_k‖² = ‖x‖² + 2 min_k (½‖e_k‖² − x·e_k). Encodings and codes are taken around the
    codebook's mean: far from the origin the terms would cancel.
    """

    def __init__(self, model: SSVQVAE, encoder: nn.Sequential) -> None:
        codebook = model.quantizer.codebook.detach().float()
        centre = codebook.mean(dim=0)
        codes = codebook - centre
        encoder = copy.deepcopy(encoder).requires_grad_(False)
        self.standardise = model.standardise
        self.first, self.inner, self.last = encoder[0], encoder[1:-1].bfloat16(), encoder[-1]
        self.last.get_parameter("bias").sub_(centre)
        self.codes = codes.T.contiguous()  # (d, K)
        self.half_norms = 0.5 * codes.square().sum(dim=1)  # (K,)

    def __call__(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) pixels in [0, 1] -> (B, h, w) float32 distances to the nearest codes."""
        inner = self.inner(self.first(self.standardise(pixels)).bfloat16())
        encoded: Tensor = self.last(inner.float())
        positions = encoded.movedim(1, -1).flatten(0, 2)  # (P, d)
        nearest = [
            torch.addmm(self.half_norms, part, self.codes, alpha=-1).amin(dim=1)
            for part in torch.split(positions, _CHUNK)
        ]
        squares = positions.square().sum(dim=1) + 2 * torch.cat(nearest)
        return squares.clamp_(min=0).sqrt_().view(len(encoded), *encoded.shape[2:])
