"""What an engine is, and which one a run scores with. Needs neither of their libraries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

import numpy as np
import numpy.typing as npt

from raysvq.errors import SettingsError
from raysvq.imaging.decode import Pixels
from raysvq.model.device import Precision, choose_precision, has_fast_bfloat16
from raysvq.settings import ModelSettings, ScoringSettings
from raysvq.settings.model import LITE_NAMES

EngineName = Literal["torch", "openvino"]
Nearest = tuple[npt.NDArray[np.float32], npt.NDArray[np.uint16]]  # terms of distances, codes

# (B, S, S, C) tiles, with their halo -> (B, R, h, w) terms of distances to the codebook, and (B, h, w)
# nearest codes, or (B, p) of some positions of each tile.
Engine = Callable[[Pixels], Nearest]

_TITLES: dict[EngineName, str] = {"torch": "PyTorch", "openvino": "OpenVINO"}


@dataclass(frozen=True)
class Backend:
    """What a model's scores are computed with: the same in all workers of a run."""

    engine: EngineName = "torch"
    precision: Precision = "float32"

    def __str__(self) -> str:
        return f"{self.precision} with {_TITLES[self.engine]}"


EXACT = Backend()  # anywhere


@dataclass(frozen=True)
class Machine:
    """What a worker can compute with."""

    device: str  # PyTorch's name
    has_openvino: bool  # is installed
    has_bfloat16: bool  # multiplies in it


def look_around(device: str) -> Machine:
    """What this process can compute with."""
    return Machine(device, find_spec("openvino") is not None, has_fast_bfloat16(device))


def choose_backend(
    scoring: ScoringSettings,
    model: ModelSettings,
    deviations: Mapping[EngineName, float | None],
    machine: Machine,
) -> Backend:
    """The engine and precision that `scoring.engine` and `scoring.precision` come to.

    Args:
        model: settings of the model.
        deviations: largest relative deviation of its image scores in bfloat16, by engine; None: not measured.
        machine: where it is scored; as good as any other worker's.

    Raises:
        SettingsError: the engine that is asked for cannot compute the model there.
    """
    engine = _choose_engine(scoring, model, machine)
    measured = deviations.get(engine)
    return Backend(engine, choose_precision(scoring.precision, measured, machine.has_bfloat16))


def may_take_openvino(scoring: ScoringSettings, model: ModelSettings) -> bool:
    """Whether a model is computed with it on CPUs that have it, as far as settings say.

    `auto` leaves networks of pixels to PyTorch. It keeps their outer layers in float32, so that bfloat16
    moves scores little, and that is faster than OpenVINO in float32.
    """
    shipped = model.encoder == "features" and model.stem in LITE_NAMES
    return scoring.engine == "openvino" or (scoring.engine == "auto" and shipped)


def engines_with_bfloat16(model: ModelSettings, has_bfloat16: bool) -> list[EngineName]:
    """Engines that `auto` may take, and whose bfloat16 this process can try; has the model none, none."""
    if not has_bfloat16:
        return []
    asked = ScoringSettings(precision="bfloat16")
    wanted = may_take_openvino(asked, model)
    can = wanted and not _problem_of_openvino(asked, model, look_around("cpu"))
    return ["torch", "openvino"] if can else ["torch"]


def _choose_engine(scoring: ScoringSettings, model: ModelSettings, machine: Machine) -> EngineName:
    if not may_take_openvino(scoring, model):
        return "torch"
    problem = _problem_of_openvino(scoring, model, machine)
    if scoring.engine == "openvino" and problem:
        raise SettingsError(f"setting `scoring.engine`: found openvino; {problem}; expected torch or auto")
    return "torch" if problem else "openvino"


def _problem_of_openvino(scoring: ScoringSettings, model: ModelSettings, machine: Machine) -> str | None:
    """Why it cannot be taken; None: it can."""
    if machine.device != "cpu":
        return f"it computes on CPUs alone, and the workers have device {machine.device}"
    if not machine.has_openvino:
        return "it is not installed where the workers are: `pip install 'raysvq[openvino]'`"
    if model.encoder == "features" and model.stem not in LITE_NAMES:
        return f"of stems it computes {', '.join(LITE_NAMES)}, and the model has {model.stem}"
    if scoring.precision == "bfloat16" and not machine.has_bfloat16:
        return "it computes in bfloat16 where the CPU multiplies in it, and the workers' does not"
    return None
