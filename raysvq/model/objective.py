"""The semi-supervised objective (paper, eq. 2 to 4).

For one tile U, with every square averaged over its elements:
`L(U) = ‖D(Q(U)) − U‖² + ‖sg[E(U)] − Q(U)‖² + β‖E(U) − sg[Q(U)]‖²`,
the last over the dimensions that learn,

and over a batch of normal tiles X and labelled outliers Y:
`η · mean L(X) + (1 − η) · outlier term of Y`
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from raysvq.model.collective import mean_over_ranks
from raysvq.model.network import Output
from raysvq.model.outlier_forms import bounded_term, marked_mean, mean_of_marked
from raysvq.settings import ObjectiveSettings


@dataclass(frozen=True)
class Loss:
    """The terms of one step, scalars; `total` carries the gradient.

    Averaged over ranks, as data-parallel training averages gradients, each is that of the whole batch.
    """

    total: Tensor
    normal: Tensor
    outlier: Tensor | None
    reconstruction: Tensor  # of the normal tiles
    commitment: Tensor  # of the normal tiles
    kept: Tensor  # (N,) bool, the normal tiles that carry weight


@dataclass(frozen=True)
class Parts:
    """L(U) and two of its squares by grid position, (B, h, w); a tile's value is the mean over its grid."""

    total: Tensor
    reconstruction: Tensor
    commitment: Tensor  # ‖E_i − e_k(i)‖² / d, over the dimensions that learn


def tile_losses(output: Output, beta: float) -> Parts:
    """L(U) for every tile of a batch, in float32. The target's sides are multiples of the grid's."""
    nearest, encoded = output.quantized.nearest, output.encoded.float()
    codebook = output.quantized.squares / encoded.shape[1]
    if nearest.requires_grad:
        codebook = (encoded.detach() - nearest).square().mean(1)
    learned = slice(output.fixed, None)
    commitment = (encoded[:, learned] - nearest.detach()[:, learned]).square().mean(1)
    errors = (output.reconstruction.float() - output.target.float()).square().mean(1)
    rows, columns = codebook.shape[1:]
    cell = (errors.shape[1] // rows, errors.shape[2] // columns)
    reconstruction = nn.functional.avg_pool2d(errors[:, None], cell)[:, 0]
    return Parts(reconstruction + codebook + beta * commitment, reconstruction, commitment)


def untrimmed(losses: Tensor, unknown: Tensor, trim: float) -> Tensor:
    """Which tiles stay when the `trim` share of the unknown ones with the largest loss is left out.

    Iterative trimmed loss minimisation (Shen and Sanghavi, ICML 2019): an anomaly among tiles that
    nobody has labelled is badly explained by what the others have in common.

    Args:
        losses: (N,) L(U).
        unknown: (N,) bool, the tiles without a label; those labelled normal always stay.

    Returns:
        (N,) bool.
    """
    kept = torch.ones_like(unknown)
    candidates = unknown.nonzero().flatten()
    worst = losses.detach()[candidates].topk(int(trim * len(candidates))).indices
    kept[candidates[worst]] = False
    return kept


def objective(
    output: Output, weight: Tensor | None, settings: ObjectiveSettings, unknown: Tensor | None = None
) -> Loss:
    """Eq. 4 over one batch: normal tiles first, labelled outliers last.

    Args:
        output: of the whole batch.
        weight: (M, h, w) how much of each grid position of the M outliers is marked, 0 to 1; None
            without outliers, which leaves L_normal alone, the plain VQ-VAE.
        unknown: (N,) bool, which of the normal tiles come from images without a label: taken as
            normal, less what `trim` leaves out, chosen among this rank's. None: all are labelled,
            and then so on every rank.

    Every rank is expected to hold as many normal and as many outlier tiles as any other.
    """
    parts = tile_losses(output, settings.beta)
    count = len(parts.total) - (0 if weight is None else len(weight))
    normal, outlier = _take(parts, slice(0, count)), _take(parts, slice(count, None))
    kept = torch.ones(count, dtype=torch.bool, device=parts.total.device)
    size: int | Tensor = count
    if unknown is not None:
        kept = untrimmed(normal.total.flatten(1).mean(1), unknown, settings.trim)
        normal = _take(normal, kept)
        size = mean_over_ranks(kept.sum())
    loss, reconstruction, commitment = (
        part.flatten(1).mean(1).sum() / size
        for part in (normal.total, normal.reconstruction, normal.commitment)
    )
    total, outlier_loss = loss, None
    if weight is not None:
        weight = torch.ones_like(weight) if settings.labels == "tile" else weight
        if settings.form == "negation":
            outlier_loss = negation(outlier.total, weight)
        else:
            outlier_loss = bounded_term(outlier.commitment, weight, normal.commitment, settings)
        total = settings.eta * loss + (1 - settings.eta) * outlier_loss
    return Loss(total, loss, outlier_loss, reconstruction, commitment, kept)


def negation(losses: Tensor, weight: Tensor) -> Tensor:
    """Eq. 3: −mean L(Y), over what is labelled. Unbounded below."""
    return mean_of_marked(-marked_mean(losses, weight), weight)


def _take(parts: Parts, which: slice | Tensor) -> Parts:
    return Parts(parts.total[which], parts.reconstruction[which], parts.commitment[which])
