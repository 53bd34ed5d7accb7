"""Precision to compute in, and whether a device's memory is used up.

bfloat16 has eight significant bits. Where hardware multiplies in it, the encoder takes little more than half
the time. Training measures on validation images by how much it changes image scores. The bundle stores that
value, and `scoring.precision=auto` decides by it.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from raysvq.errors import RaysvqError, first_line

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Precision = Literal["float32", "bfloat16"]

TOLERANCE = 0.02  # largest relative change of an image score
_CPU_INSTRUCTIONS = ("avx512_bf16", "amx_bf16")


def has_fast_bfloat16(device: torch.device | str) -> bool:
    """Whether the device multiplies in bfloat16 itself, rather than by way of float32."""
    import torch  # what a driver imports of this module needs it not

    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    found = torch.cpu.get_capabilities()
    return any(found.get(name, False) for name in _CPU_INSTRUCTIONS)


def require_device(device: str, kind: type[RaysvqError]) -> None:
    """Raise an error of this kind where PyTorch finds no GPU on this machine, and is to compute on one."""
    import torch

    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise kind(
            f"PyTorch {torch.__version__} finds no GPU on {socket.gethostname()}, where Ray has one: expected"
            " a driver and a PyTorch with CUDA there, or a machine that is started with --num-gpus 0"
        )


def send(value: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on the device.

    To a GPU it goes by way of page-locked memory: a copy from any other would wait for all that the GPU has
    to do.
    """
    if device.type == "cuda" and value.device.type == "cpu":
        value = value.pin_memory()
    return value.to(device, non_blocking=True)


def choose_precision(
    setting: Literal["auto", "float32", "bfloat16"], measured: float | None, fast: bool
) -> Precision:
    """The precision to score in: `scoring.precision`, or with `auto` bfloat16 where that is safe and fast.

    Args:
        measured: largest relative deviation of the model's image scores in bfloat16; None: not measured,
            and then it is scored in float32.
        fast: whether the device has bfloat16 (`has_fast_bfloat16`).
    """
    if setting != "auto":
        return setting
    return "bfloat16" if fast and measured is not None and measured <= TOLERANCE else "float32"


def relative_deviation(score: float, exact: float) -> float:
    """|score − exact| as a share of the exact one; infinite where that is 0 and the score is not."""
    if score == exact:
        return 0.0
    return abs(score - exact) / exact if exact else float("inf")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory of a GPU or of the machine is used up."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # On a CPU, PyTorch raises nothing more telling.
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


@contextmanager
def memory_errors_as(kind: type[RaysvqError], advice: str) -> Iterator[None]:
    """Raise an error of this kind, with the advice, where memory is used up in the block."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError
        if not is_out_of_memory(error):
            raise
        raise kind(f"{advice} ({first_line(error)})") from None
