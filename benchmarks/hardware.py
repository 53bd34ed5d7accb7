"""What a benchmark ran on."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch


def processor() -> str:
    """Name of the CPU, and its cores."""
    known = Path("/proc/cpuinfo")
    lines = known.read_text().splitlines() if known.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{next(named, platform.processor())}, {os.cpu_count()} cores"


def accelerator(device: torch.device) -> list[str]:
    """Name of the GPU, if it is one."""
    return [torch.cuda.get_device_name(device)] if device.type == "cuda" else []


def clock(device: torch.device) -> Callable[[], float]:
    """CPU seconds of this process, or where a GPU computes, whose work those leave out, of the wall clock."""
    return time.perf_counter if device.type == "cuda" else time.process_time
