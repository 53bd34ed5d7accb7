"""The semi-supervised objective (paper, eq. 2 to 4).

Over a batch of normal tiles X and labelled outliers Y: `η · mean L(X) + (1 − η) · outlier term of Y`.
L(U) of a tile is the network's (`Network.losses`).

Shapes: N normal tiles, M labelled outliers, h and w grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from raysvq.model.collective import mean_over_ranks
from raysvq.model.outlier_forms import bounded_term, marked_mean, mean_of_marked
from raysvq.settings import ObjectiveSettings


@dataclass(frozen=True)
class TileLosses:
    """L(U) and two of its squares by grid position, (N + M, h, w); a tile has the mean over its grid."""

    total: Tensor
    reconstruction: Tensor
    commitment: Tensor  # ‖E_i − e_k(i)‖² / d, over the dimensions that learn

    def __getitem__(self, which: slice | Tensor) -> TileLosses:
        """Those of some of the tiles, given by a slice or by int64 indices."""
        return TileLosses(self.total[which], self.reconstruction[which], self.commitment[which])


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
    kept: Tensor | None  # int64 indices of the normal tiles that `trim` left in; None: all


def untrimmed(losses: Tensor, unlabelled: Tensor, trim: float) -> Tensor:
    """The tiles that stay when the `trim` share of the unlabelled ones with the largest loss is left out.

    Iterative trimmed loss minimisation (Shen and Sanghavi, ICML 2019): an anomaly among tiles that
    nobody has labelled is badly explained by what the others have in common.

    Args:
        losses: (N,) L(U).
        unlabelled: int64 indices of the tiles without a label; those labelled normal always stay.

    Returns:
        Their int64 indices, ascending. Their number does not depend on the losses, so no host waits for it.
    """
    worst = losses.detach()[unlabelled].topk(int(trim * len(unlabelled))).indices
    left_out = torch.zeros_like(losses).index_fill_(0, unlabelled[worst], 1)
    return left_out.argsort(stable=True)[: len(losses) - len(worst)]


def objective(
    losses: TileLosses, weight: Tensor | None, settings: ObjectiveSettings, unlabelled: Tensor | None = None
) -> Loss:
    """Eq. 4 over one batch: normal tiles first, labelled outliers last.

    Args:
        losses: of the whole batch.
        weight: (M, h, w) how much of each grid position of the M outliers is marked, 0 to 1; None
            without outliers, which leaves L_normal alone, the plain VQ-VAE.
        unlabelled: int64 indices of the normal tiles that come from images without a label: taken as
            normal, less what `trim` leaves out, chosen among this rank's. None: all are labelled, and then
            so on every rank.

    Every rank is expected to hold as many normal and as many outlier tiles as any other.
    """
    count = len(losses.total) - (0 if weight is None else len(weight))
    normal, outlier = losses[:count], losses[count:]
    kept: Tensor | None = None
    size: int | Tensor = count
    if unlabelled is not None:
        kept = untrimmed(normal.total.flatten(1).mean(1), unlabelled, settings.trim)
        normal = normal[kept]
        size = mean_over_ranks(torch.full((), len(kept), device=kept.device))
    # Eq. 2: L_normal = mean L(X)
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
        # Eq. 4: η L_normal + (1 − η) L_anomalous
        total = settings.eta * loss + (1 - settings.eta) * outlier_loss
    return Loss(total, loss, outlier_loss, reconstruction, commitment, kept)


def negation(losses: Tensor, weight: Tensor) -> Tensor:
    """L_anomalous over what is labelled. Unbounded below."""
    # Eq. 3: L_anomalous = −mean L(Y)
    return mean_of_marked(-marked_mean(losses, weight), weight)
