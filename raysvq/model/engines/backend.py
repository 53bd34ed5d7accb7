"""What an engine is, and which one a run scores with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from raysvq.imaging.decode import Pixels
from raysvq.model.device import Precision

EngineName = Literal["torch", "openvino"]
Nearest = tuple[npt.NDArray[np.float32], npt.NDArray[np.uint16]]  # distances, codes

# (B, S, S, C) tiles, with their halo -> (B, h, w) distances to the codebook, and (B, h, w) nearest codes, or
# (B, p) of some positions of each tile.
Engine = Callable[[Pixels], Nearest]

_TITLES: dict[EngineName, str] = {"torch": "PyTorch", "openvino": "OpenVINO"}


@dataclass(frozen=True)
class Backend:
    """What a model's scores are computed with: the same in all workers of a run."""

    engine: EngineName = "torch"
    precision: Precision = "float32"

    def __str__(self) -> str:
        return f"{self.precision} with {_TITLES[self.engine]}"
