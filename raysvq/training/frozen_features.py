"""What a frozen stem gives for tiles: computed once where it fits the cache, learnt from in part per step."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from raysvq.model.network import Network
from raysvq.model.scorer import to_model_input
from raysvq.training.shuffling import Columns, Source, pieces

_AT_ONCE = 16  # tiles


def frozen_features(source: Source, model: Network) -> Source:
    """Rows with `features` (h, w, S) float16, of the model's stem, in place of `tile`."""

    def read() -> Iterator[Columns]:
        for part in pieces(source, _AT_ONCE):
            with torch.inference_mode():
                pixels = to_model_input(part.pop("tile"), model.mean.device)
                features = model.extract_features(pixels).half().movedim(1, -1).cpu().contiguous().numpy()
            yield part | {"features": features}  # outside, as the mode would hold for who takes it

    return read


def draw_positions(
    parts: list[Tensor], count: int, weight: Tensor | None, rng: np.random.Generator
) -> list[Tensor]:
    """For each of the parts (B, S, h, w), `count` of the positions of each of its grids. (B, count) int64.

    Args:
        weight: (B, h, w), marked share of each position of the last part, whose marked ones come first.
    """
    keys = rng.random((sum(map(len, parts)), parts[0][0, 0].numel()))
    if weight is not None:
        keys[-len(weight) :] += (weight.flatten(1) > 0).numpy()
    return list(torch.from_numpy(_largest(keys, count)).split([len(part) for part in parts]))


def _largest(keys: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.int64]:
    """Where the `count` largest of each row are. (R, N) -> (R, count), ascending."""
    return np.sort(np.argpartition(keys, -count, axis=1)[:, -count:], axis=1)
