"""What a device can do, what some code asks of it, and how near the two are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode

Call = Callable[[], object]

UNITS = ("bfloat16", "tf32", "float32")

_WARM_UPS = 2
_COPY_BYTES = {True: 2**20, False: 2**32}  # quick or not; far beyond any cache
_SIDE = {True: 256, False: 8192}  # of the matrices


@dataclass(frozen=True)
class Ceilings:
    """As measured, not as printed on the box."""

    bytes_per_s: float  # read plus written, of a copy within the device's memory
    flops_per_s: dict[str, float]  # of a matrix product, by unit

    def floor_s(self, flops: float, moved: float, unit: str) -> float:
        """The least time for so many operations of a unit, and bytes through memory."""
        return max(flops / self.flops_per_s[unit], moved / self.bytes_per_s)


def measure_ceilings(device: torch.device, quick: bool) -> Ceilings:
    """On random numbers: some devices are faster on zeros."""
    return Ceilings(_copied(device, quick), {unit: _multiplied(unit, device, quick) for unit in UNITS})


def _copied(device: torch.device, quick: bool) -> float:
    source = torch.rand(_COPY_BYTES[quick] // 4, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / median_s(lambda: target.copy_(source))


def _multiplied(unit: str, device: torch.device, quick: bool) -> float:
    pair = torch.randn(2, _SIDE[quick], _SIDE[quick], device=device)
    one, other = pair.bfloat16() if unit == "bfloat16" else pair
    with _tf32(unit == "tf32"):
        return 2 * _SIDE[quick] ** 3 / median_s(lambda: one @ other)


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def median_s(call: Call, least_s: float = 0.3) -> float:
    """Median seconds of a call, its work on the device included, after some to warm up."""
    for _ in range(_WARM_UPS):
        call()
    timer = Timer("call()", globals={"call": call}, num_threads=torch.get_num_threads())
    return float(timer.blocked_autorange(min_run_time=least_s).median)


def busy_s(call: Call, device: torch.device) -> float | None:
    """Seconds that the kernels of a call take on a GPU. The rest of the call's time it waits for the CPU."""
    if device.type != "cuda":
        return None
    with profile(activities=[ProfilerActivity.CUDA]) as found:
        call()
        torch.cuda.synchronize()
    return sum(event.self_device_time_total for event in found.key_averages()) / 1e6


def flops_of(call: Call) -> int:
    """Floating-point operations of convolutions and matrix products, forwards and backwards."""
    counter = FlopCounterMode(display=False)
    with counter:
        call()
    return int(counter.get_total_flops())


def layer_bytes(network: nn.Module, call: Call, width: int) -> int:
    """What convolutions read and write in a call, each a kernel of its own, in numbers of `width` bytes."""
    moved = 0

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal moved
        moved += (inputs[0].numel() + output.numel()) * width

    layers = [part for part in network.modules() if isinstance(part, nn.Conv2d | nn.ConvTranspose2d)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    call()
    for hook in hooks:
        hook.remove()
    return moved
