"""The semi-supervised objective (paper, eq. 2 to 4).

For one tile U, with every square averaged over its elements:
`L(U) = ‖D(Q(U)) − U‖² + ‖sg[E(U)] − Q(U)‖² + β‖E(U) − sg[Q(U)]‖²`

and over a batch of normal tiles X and labelled outliers Y:
`η · mean L(X) + (1 − η) · outlier_term(Y)`
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from raysvq.model.collective import mean_over_ranks
from raysvq.model.network import Output
from raysvq.settings import ObjectiveSettings


@dataclass(frozen=True)
class Loss:
    """The terms of one step, scalars; `total` carries the gradient."""

    total: Tensor
    normal: Tensor
    outlier: Tensor | None
    reconstruction: Tensor  # of the normal tiles
    commitment: Tensor  # of the normal tiles


@dataclass(frozen=True)
class Parts:
    """L(U) and what it is made of, one value a tile. (B,)"""

    total: Tensor
    reconstruction: Tensor
    commitment: Tensor
    squares: Tensor  # (B, h, w) ‖E_i − e_k(i)‖²: eq. 5's s(U)² is their sum


def tile_losses(output: Output, beta: float) -> Parts:
    """L(U) for every tile of a batch, in float32."""
    nearest, encoded = output.quantized.nearest, output.encoded.float()
    reconstruction = (output.reconstruction.float() - output.target.float()).square().flatten(1).mean(1)
    codebook = (encoded.detach() - nearest).square().flatten(1).mean(1)
    squares = (encoded - nearest.detach()).square()
    commitment = squares.flatten(1).mean(1)
    total = reconstruction + codebook + beta * commitment
    return Parts(total, reconstruction, commitment, squares.sum(1))


def negation(outlier: Parts, normal: Parts, weight: Tensor, settings: ObjectiveSettings) -> Tensor:
    """Eq. 3 as printed: −mean L(Y). Unbounded below; takes the tile as a whole."""
    return -outlier.total.mean()


def bounded(outlier: Parts, normal: Parts, weight: Tensor, settings: ObjectiveSettings) -> Tensor:
    """A hinge on the quantity that is scored: mean max(0, 1 − D(Y) / (margin · D(X))).

    D(Y) is the mean squared distance to the codebook over the marked part of a tile's grid, D(X) the
    mean over this step's normal tiles of all ranks, held constant. An outlier that already stands
    `margin` times farther than a normal tile exerts no force; the term lies in [0, 1], so nothing
    can run away.
    """
    reach = settings.margin * mean_over_ranks(normal.squares.mean()).clamp(min=1e-8)
    marked = (weight * outlier.squares).flatten(1).sum(1) / weight.flatten(1).sum(1).clamp(min=1e-8)
    return torch.relu(1 - marked / reach).mean()


FORMS: dict[str, Callable[[Parts, Parts, Tensor, ObjectiveSettings], Tensor]] = {
    "bounded": bounded,
    "negation": negation,
}


def objective(output: Output, weight: Tensor | None, settings: ObjectiveSettings) -> Loss:
    """Eq. 4 over one batch: normal tiles first, labelled outliers last.

    Args:
        output: of the whole batch.
        weight: (M, h, w) how much of each grid position of the M outliers is marked, 0 to 1; None
            without outliers, which leaves L_normal alone, the plain VQ-VAE.

    Every rank is expected to hold as many normal and as many outlier tiles as any other, so that
    averaging gradients over ranks gives the gradient of the whole batch.
    """
    parts = tile_losses(output, settings.beta)
    outliers = 0 if weight is None else len(weight)
    count = len(parts.total) - outliers
    normal = _take(parts, slice(0, count))
    loss = normal.total.mean()
    total, outlier_loss = loss, None
    if weight is not None:
        outlier_loss = FORMS[settings.form](_take(parts, slice(count, None)), normal, weight, settings)
        total = settings.eta * loss + (1 - settings.eta) * outlier_loss
    return Loss(total, loss, outlier_loss, normal.reconstruction.mean(), normal.commitment.mean())


def _take(parts: Parts, which: slice) -> Parts:
    return Parts(
        parts.total[which], parts.reconstruction[which], parts.commitment[which], parts.squares[which]
    )
