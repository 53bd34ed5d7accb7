"""Two data-parallel processes do what one process does on the whole batch.

Run as a script, this file is one rank: `test_collective.py RANK WORLD FOLDER`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from raysvq.model.collective import mean_over_ranks, sum_over_ranks, take_from_first, world_size
from raysvq.model.network import SSVQVAE
from raysvq.model.objective import objective
from raysvq.model.quantizer import perplexity
from raysvq.settings import ModelSettings, ObjectiveSettings

NORMAL, OUTLIERS, SIDE = 8, 4, 16  # the whole batch
STEPS = 3
CASES = [(kind, form) for kind in ("ema", "gradient") for form in ("hinge", "negation")]
LONG = 50

Results = dict[str, Tensor]


def half_batches(rank: int, world: int) -> Results:
    """A few steps on this rank's share of fixed batches."""
    results: Results = {}
    for kind, form in CASES:
        torch.manual_seed(0)
        model = SSVQVAE(3, _settings(kind, revive_below=0.0))
        network = DistributedDataParallel(model, broadcast_buffers=False) if world > 1 else model
        optimiser = torch.optim.SGD(model.parameters(), 0.05)
        data = torch.Generator().manual_seed(1)
        model.mean.fill_(0.5)
        model.std.fill_(0.3)
        with torch.no_grad():
            first = model.encode(torch.rand(NORMAL, 3, SIDE, SIDE, generator=data))
        model.quantizer.start_from(first.movedim(1, -1).flatten(0, 2), seed=0)
        for _ in range(STEPS):
            normal, outlier = (torch.rand(n, 3, SIDE, SIDE, generator=data) for n in (NORMAL, OUTLIERS))
            weight = torch.rand(OUTLIERS, SIDE // 4, SIDE // 4, generator=data)
            pixels = torch.cat([part.chunk(world)[rank] for part in (normal, outlier)])
            output = network(pixels)
            settings = ObjectiveSettings.model_validate({"form": form, "eta": 0.6})
            loss = objective(output, weight.chunk(world)[rank], settings)
            optimiser.zero_grad()
            loss.total.backward()
            optimiser.step()
            count = NORMAL // world
            encoded = output.encoded[:count].movedim(1, -1).flatten(0, 2)
            used = model.quantizer.update(encoded, output.quantized.indices[:count].flatten())
        name = f"{kind}-{form}"
        results[f"{name}.loss"] = mean_over_ranks(loss.total)
        results[f"{name}.perplexity"] = torch.tensor(perplexity(used))
        results[f"{name}.used"] = used
        for key, value in model.state_dict().items():
            results[f"{name}.state.{key}"] = value
        for key, parameter in model.named_parameters():
            results[f"{name}.grad.{key}"] = parameter.grad  # type: ignore[assignment]
    return results


def long_run(rank: int, world: int) -> Results:
    """Training with revival on data and random draws that no two ranks share."""
    results: Results = {}
    for kind in ("ema", "gradient"):
        torch.manual_seed(0)
        model = SSVQVAE(3, _settings(kind, revive_below=0.2))
        network = DistributedDataParallel(model, broadcast_buffers=False)
        torch.manual_seed(100 + rank)
        model.quantizer.start_from(torch.randn(200, 8), seed=rank)
        results[f"{kind}.start"] = model.quantizer.codebook.detach().clone()
        model.quantizer.codebook.data[16:] = 100.0
        optimiser = torch.optim.Adam(model.parameters(), 1e-3)
        for _ in range(LONG):
            output = network(torch.rand(4, 3, SIDE, SIDE))
            loss = objective(output, torch.ones(1, 4, 4), ObjectiveSettings())
            optimiser.zero_grad()
            loss.total.backward()
            optimiser.step()
            encoded = output.encoded[:3].movedim(1, -1).flatten(0, 2)
            model.quantizer.update(encoded, output.quantized.indices[:3].flatten())
        for key, value in model.state_dict().items():
            results[f"{kind}.{key}"] = value
        results[f"{kind}.own"] = output.encoded.detach()
    return results


def sums(rank: int, world: int) -> Results:
    """The collective operations themselves."""
    mine = torch.tensor([1.0, 10.0]) * (rank + 1)
    return {
        "world": torch.tensor(world_size()),
        "sum": sum_over_ranks(mine),
        "mean": mean_over_ranks(mine),
        "first": take_from_first(mine.clone()),
        "mine": mine,
    }


JOBS: list[Callable[[int, int], Results]] = [half_batches, long_run, sums]


def _settings(kind: str, revive_below: float) -> ModelSettings:
    values = {"hidden": 8, "residual_hidden": 4, "residual_layers": 1, "codebook_size": 32}
    more = {"embedding_dim": 8, "codebook": kind, "revive_below": revive_below}
    return ModelSettings.model_validate(values | more)


def _main(rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world)
    for job in JOBS:
        results = {key: value.detach().contiguous() for key, value in job(rank, world).items()}
        safetensors.torch.save_file(results, folder / f"{job.__name__}-{rank}.safetensors")
    dist.barrier()
    # Gloo's threads may outlive the interpreter and abort it; the results are on disk by now.
    os._exit(0)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Results]]:
    """What each of two processes found, by job."""
    folder = tmp_path_factory.mktemp("ranks")
    processes = [
        subprocess.Popen([sys.executable, __file__, str(rank), "2", str(folder)], stderr=subprocess.PIPE)
        for rank in range(2)
    ]
    try:
        for process in processes:
            _, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors.decode()
    finally:
        for process in processes:
            process.kill()
    return {
        job.__name__: [
            safetensors.torch.load_file(folder / f"{job.__name__}-{rank}.safetensors") for rank in range(2)
        ]
        for job in JOBS
    }


def test_half_batches_on_two_ranks_equal_the_whole_batch_on_one(ranks: dict[str, list[Results]]) -> None:
    whole = half_batches(0, 1)
    for halves in ranks["half_batches"]:
        assert halves.keys() == whole.keys()
        for key, value in whole.items():
            close = torch.allclose(halves[key], value.detach(), rtol=1e-4, atol=1e-6)
            assert close, key


def test_the_comparison_sees_gradients_and_many_codes_in_use(ranks: dict[str, list[Results]]) -> None:
    halves = ranks["half_batches"][0]
    for kind, form in CASES:
        gradients = {key: value for key, value in halves.items() if key.startswith(f"{kind}-{form}.grad.")}
        assert len(gradients) == (23 if kind == "gradient" else 22)
        assert all(bool(value.any()) for value in gradients.values())
        assert float(halves[f"{kind}-{form}.perplexity"]) > 4


@pytest.mark.parametrize("kind", ["ema", "gradient"])
def test_codebooks_are_bit_equal_across_ranks_after_a_run_with_revivals(
    ranks: dict[str, list[Results]], kind: str
) -> None:
    first, second = ranks["long_run"]
    assert not torch.equal(first[f"{kind}.own"], second[f"{kind}.own"])
    for key in first:
        if key.startswith(kind) and not key.endswith(".own"):
            assert torch.equal(first[key], second[key]), key
    assert float(first[f"{kind}.quantizer.codebook"].abs().max()) < 50
    assert int(first[f"{kind}.quantizer.updates"]) == LONG


def test_sums_and_broadcasts_reach_every_rank(ranks: dict[str, list[Results]]) -> None:
    for rank, found in enumerate(ranks["sums"]):
        assert int(found["world"]) == 2
        assert found["sum"].tolist() == [3, 30]
        assert found["mean"].tolist() == [1.5, 15]
        assert found["first"].tolist() == [1, 10]
        assert found["mine"].tolist() == [rank + 1, 10 * (rank + 1)]


def test_one_process_is_its_own_sum() -> None:
    value = torch.tensor([1.0, 2.0], requires_grad=True)
    assert world_size() == 1
    for combined in (sum_over_ranks(value), mean_over_ranks(value)):
        assert torch.equal(combined, value)
        assert not combined.requires_grad
    copy = sum_over_ranks(value)
    copy.zero_()
    assert value.tolist() == [1, 2]
    assert take_from_first(value) is value


if __name__ == "__main__":
    _main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
