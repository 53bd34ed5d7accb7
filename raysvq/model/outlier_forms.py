"""Forms of the outlier term: what a labelled outlier Y adds to the loss.

D is the mean squared distance of Y's encodings to their nearest codes, ‖E_i − e_k(i)‖², over the
dimensions that learn and the positions that its label marks, relative to that of this step's normal
tiles: D = 1 is as near as a normal tile. So no form depends on the scale of the encodings. Each takes
one D per tile and turns that into one value per tile, as its source does (Liznerski et al. 2021 too, whose
masks weigh the mean inside the logarithm); each falls as D grows, is bounded, of the order of 1 at
D = 1, and finite for every D >= 0 in float32.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from raysvq.model.collective import sum_over_ranks
from raysvq.settings import ObjectiveSettings

_FAR = 1e6  # a larger D has no gradient
_NEAR = 1e-3
_DEVIATIONS = 5.0
_LEAST_SPREAD = 0.1

Form = Callable[[Tensor, Tensor, ObjectiveSettings], Tensor]


def hinge(distance: Tensor, spread: Tensor, settings: ObjectiveSettings) -> Tensor:
    """max(0, 1 − D / margin), in [0, 1]. Beyond the margin nothing is pushed."""
    return torch.relu(1 - distance / settings.margin)


def inverse(distance: Tensor, spread: Tensor, settings: ObjectiveSettings) -> Tensor:
    """1 / (D + ε), in (0, 1]: Deep SAD (Ruff et al., ICLR 2020).

    ε is 1, one normal distance, so that outliers near a code cannot rule the step.
    """
    return 1 / (distance + 1)


def hypersphere(distance: Tensor, spread: Tensor, settings: ObjectiveSettings) -> Tensor:
    """−log(1 − exp(−(D + ε))), in [0, 7): the hypersphere classifier.

    Ruff et al., "Rethinking Assumptions in Deep Anomaly Detection", 2020; Liznerski et al., FCDD,
    ICLR 2021. ε is 1e-3 and keeps it finite on a code.
    """
    return -torch.log(-torch.expm1(-(distance + _NEAR)))


def deviation(distance: Tensor, spread: Tensor, settings: ObjectiveSettings) -> Tensor:
    """max(0, a − z) / a, z = (D − 1) / σ, a = 5, in [0, 3]: DevNet (Pang et al., KDD 2019).

    σ is the spread of D over this step's normals, at least 0.1, in place of DevNet's random reference
    scores. Divided by a, so that η weighs it as it weighs the other forms.
    """
    return torch.relu(1 - (distance - 1) / (_DEVIATIONS * spread.clamp(min=_LEAST_SPREAD)))


FORMS: dict[str, Form] = {
    "hinge": hinge,
    "inverse": inverse,
    "hypersphere": hypersphere,
    "deviation": deviation,
}


def bounded_term(outlier: Tensor, weight: Tensor, normal: Tensor, settings: ObjectiveSettings) -> Tensor:
    """Mean over the outliers of the form set. A scalar.

    Args:
        outlier: (M, h, w) squared distances, up to a common factor.
        weight: (M, h, w) how much of each position is labelled.
        normal: (N, h, w) squared distances of this rank's normal tiles; what is taken from them
            is summed over ranks, and held constant.
    """
    mean, spread = _moments(normal.flatten(1).mean(1) if settings.labels == "tile" else normal)
    distance = marked_mean((outlier / mean).clamp(max=_FAR), weight)
    return mean_of_marked(FORMS[settings.form](distance, spread / mean, settings), weight)


def marked_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Mean over each tile's grid, (M, h, w) -> (M,), weighted; 0 where a tile has no weight."""
    return (weight * values).flatten(1).sum(1) / weight.flatten(1).sum(1).clamp(min=1e-8)


def mean_of_marked(values: Tensor, weight: Tensor) -> Tensor:
    """Mean over tiles, (M,) -> (); a tile without weight counts as 0, as an outlier that is far enough."""
    marked = weight.flatten(1).any(1)
    return torch.where(marked, values, 0).sum() / max(len(values), 1)


def _moments(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean, at least 1e-8, and standard deviation over the values of all ranks."""
    found = values.detach().double()
    sums = torch.stack([torch.ones_like(found).sum(), found.sum(), found.square().sum()])
    count, total, squares = sum_over_ranks(sums)
    mean = total / count
    spread = (squares / count - mean.square()).clamp(min=0).sqrt()
    return mean.clamp(min=1e-8).float(), spread.float()
