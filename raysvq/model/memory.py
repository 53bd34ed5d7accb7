"""Whether an error says that memory is used up."""

from __future__ import annotations

import torch


def is_out_of_memory(error: BaseException) -> bool:
    """Of a GPU or of the machine."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # On a CPU, PyTorch raises nothing more telling.
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
