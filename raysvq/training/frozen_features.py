"""Features of a frozen stem: computed once per tile where they fit the cache; a step draws some positions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from raysvq.imaging.tiling import without_halo
from raysvq.model.network import Network
from raysvq.model.scorer import to_model_input
from raysvq.training.shuffling import Columns, Source, pieces

_AT_ONCE = 16  # tiles


def frozen_features(source: Source, model: Network) -> Source:
    """Replace `tile` by `features` (h, w, S) float16 of the model's stem.

    The halo ends here: features and `weight` are of the tile proper.
    """

    def read() -> Iterator[Columns]:
        for part in pieces(source, _AT_ONCE):
            with torch.inference_mode():
                pixels = to_model_input(part.pop("tile"), model.mean.device)
                features = model.extract_features(pixels).half().movedim(1, -1).cpu().contiguous().numpy()
            if "weight" in part:
                beyond = part["weight"].shape[1] - features.shape[1]
                part["weight"] = without_halo(part["weight"], beyond // 2)
            yield part | {"features": features}  # not in inference mode, which would hold for the caller

    return read


def draw_positions(
    parts: list[Tensor], count: int, weight: Tensor | None, rng: np.random.Generator
) -> list[Tensor]:
    """Draw `count` positions of each grid of parts (B, S, h, w). One (B, count) int64 per part.

    Args:
        weight: (B, h, w), marked share of each position in the last part; marked positions are drawn first.
    """
    keys = rng.random((sum(map(len, parts)), parts[0][0, 0].numel()))
    if weight is not None:
        keys[-len(weight) :] += (weight.flatten(1) > 0).numpy()
    return list(torch.from_numpy(_largest(keys, count)).split([len(part) for part in parts]))


def gather_positions(grid: Tensor, positions: Tensor) -> Tensor:
    """Values of a grid at some of its positions.

    Fast where the grid is channels last, as the result is.

    Args:
        grid: (B, S, h, w).
        positions: (B, P), counted row by row.

    Returns:
        (B, S, P, 1).
    """
    rows = grid.movedim(1, -1).flatten(1, 2)
    first = torch.arange(len(grid), device=grid.device)[:, None] * rows.shape[1]
    found = rows.flatten(0, 1).contiguous().index_select(0, (first + positions).flatten())
    return found.view(*positions.shape, -1).movedim(-1, 1)[..., None]


def _largest(keys: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.int64]:
    """Indices of the `count` largest of each row, ascending. (R, N) -> (R, count)"""
    return np.sort(np.argpartition(keys, -count, axis=1)[:, -count:], axis=1)
