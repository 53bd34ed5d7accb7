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
        """Those of some of the tiles."""
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
    kept: Tensor  # (N,) bool, which normal tiles `trim` left in


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
    losses: TileLosses, weight: Tensor | None, settings: ObjectiveSettings, unknown: Tensor | None = None
) -> Loss:
    """Eq. 4 over one batch: normal tiles first, labelled outliers last.

    Args:
        losses: of the whole batch.
        weight: (M, h, w) how much of each grid position of the M outliers is marked, 0 to 1; None
            without outliers, which leaves L_normal alone, the plain VQ-VAE.
        unknown: (N,) bool, which of the normal tiles come from images without a label: taken as
            normal, less what `trim` leaves out, chosen among this rank's. None: all are labelled,
            and then so on every rank.

    Every rank is expected to hold as many normal and as many outlier tiles as any other.
    """
    count = len(losses.total) - (0 if weight is None else len(weight))
    normal, outlier = losses[:count], losses[count:]
    kept = torch.ones(count, dtype=torch.bool, device=losses.total.device)
    size: int | Tensor = count
    if unknown is not None:
        kept = untrimmed(normal.total.flatten(1).mean(1), unknown, settings.trim)
        normal = normal[kept]
        size = mean_over_ranks(kept.sum())
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
