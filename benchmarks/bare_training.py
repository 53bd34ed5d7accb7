"""The training step in plain PyTorch over tiles in memory; what benchmarks/training.py compares with.

Run: python -m benchmarks.bare_training TILES SETTINGS, or the same under torchrun, one process per worker.
TILES is an npz file of `normal` and `outlier` tiles (T, S, S, C) uint16 and `weight` (T, h, w) float32,
SETTINGS a JSON file. Prints tiles/s over the second half of the steps.
"""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from raysvq.model.network import Network, build_network
from raysvq.model.objective import objective
from raysvq.settings import Settings


def train(tiles: dict[str, Tensor], settings: Settings) -> float:
    """Tiles/s."""
    training = settings.training
    world = dist.get_world_size() if dist.is_initialized() else 1
    share = training.batch_size // world
    outliers = round(share * training.outlier_fraction)
    torch.manual_seed(training.seed)
    model = build_network(settings)
    _start(model, tiles["normal"])
    network: nn.Module = DistributedDataParallel(model, broadcast_buffers=False) if world > 1 else model
    optimiser = torch.optim.Adam(model.parameters(), training.learning_rate, fused=True)
    for step in range(training.steps):
        if step == training.steps // 2:
            started = time.perf_counter()
        normal = torch.randint(len(tiles["normal"]), (share - outliers,))
        outlier = torch.randint(len(tiles["outlier"]), (outliers,))
        axes = [axis for axis in (-2, -1) if random.random() < 0.5]
        pixels = torch.cat([tiles["normal"][normal], tiles["outlier"][outlier]]).flip(axes)
        output = network(pixels)
        losses = model.losses(output, settings.objective.beta)
        loss = objective(losses, tiles["weight"][outlier].flip(axes), settings.objective)
        optimiser.zero_grad()
        loss.total.backward()
        optimiser.step()
        encoded = output.encoded[: len(normal)].detach().movedim(1, -1).flatten(0, 2)
        labelled = len(tiles["outlier"]) if outliers else 0
        model.update_codebook(encoded, output.quantized.indices[: len(normal)].flatten(), labelled)
    steps = training.steps - training.steps // 2
    return steps * training.batch_size / (time.perf_counter() - started)


def _start(model: Network, normal: Tensor) -> None:
    first = normal[:512]
    with torch.no_grad():
        model.mean.copy_(first.mean(dim=(0, 2, 3))[:, None, None])
        model.std.copy_(first.std(dim=(0, 2, 3))[:, None, None])
        model.quantizer.initialize(model.encode(first).movedim(1, -1).flatten(0, 2), seed=0)


def main() -> None:
    """Train on this process's share of the tiles, print the pace."""
    world, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    if world > 1:
        dist.init_process_group("gloo")
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // world))
    found = np.load(sys.argv[1])
    tiles = {name: torch.from_numpy(found[name][rank::world].astype(np.float32)) for name in found}
    for name in ("normal", "outlier"):
        tiles[name] = tiles[name].div_(65535).permute(0, 3, 1, 2).contiguous()
    pace = train(tiles, Settings.model_validate_json(Path(sys.argv[2]).read_text()))
    if rank == 0:
        print(pace)
    if world > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
