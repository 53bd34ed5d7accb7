"""What a frozen stem gives for the training tiles: computed once, where it fits the cache."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from raysvq.model.network import Network
from raysvq.model.scorer import to_model_input
from raysvq.training.loader import Columns, Source, pieces

_AT_ONCE = 16  # tiles


def stemmed(source: Source, model: Network) -> Source:
    """Rows with `features` (h, w, S) float16, of the model's stem, in place of `tile`."""

    def read() -> Iterator[Columns]:
        for part in pieces(source, _AT_ONCE):
            with torch.inference_mode():
                pixels = to_model_input(part.pop("tile"), model.mean.device)
                features = model.extract_features(pixels).half().movedim(1, -1).cpu().contiguous().numpy()
            yield part | {"features": features}  # outside, as the mode would hold for who takes it

    return read
