"""Sums over data-parallel ranks; the identity where training runs in one process."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Number of data-parallel ranks."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def sum_over_ranks(value: Tensor) -> Tensor:
    """Sum of a tensor over all ranks, the same on each. Carries no gradient."""
    total = value.detach().clone()
    if world_size() > 1:
        dist.all_reduce(total)
    return total


def mean_over_ranks(value: Tensor) -> Tensor:
    """Mean of a tensor over all ranks, the same on each. Carries no gradient."""
    return sum_over_ranks(value) / world_size()


@torch.no_grad()
def take_from_first(value: Tensor) -> Tensor:
    """Overwrite a tensor by that of rank 0."""
    if world_size() > 1:
        dist.broadcast(value, src=0)
    return value
