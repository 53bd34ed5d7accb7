"""Two data-parallel processes do what one process does on the whole batch.

Run as a script, this file is one rank: `test_data_parallel.py RANK WORLD FOLDER`.
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
from raysvq.model.feature_dictionary import FeatureDictionary
from raysvq.model.network import build_network
from raysvq.model.objective import Loss, objective
from raysvq.model.outlier_forms import FORMS
from raysvq.model.quantizer import perplexity
from raysvq.settings import ObjectiveSettings, parse_settings

NORMAL, OUTLIERS, SIDE = 8, 4, 16  # the whole batch
GRID = SIDE // 4
STEPS, LONG = 4, 200
KINDS = ("ema", "gradient")
CASES = [
    (kind, form, labels)
    for kind in KINDS
    for form in ("negation", *FORMS)
    for labels in ("position", "tile")
    if labels == "position" or form in ("negation", "deviation")
]

Results = dict[str, Tensor]


class Trained:
    """A small model, in data-parallel training where there are several ranks."""

    def __init__(self, kind: str, threshold_dead_code: float, rate: float, **settings: object) -> None:
        torch.manual_seed(0)
        values = {"hidden": 8, "residual_hidden": 4, "residual_layers": 1, "codebook_size": 32}
        more = {"embedding_dim": 8, "codebook": kind, "threshold_dead_code": threshold_dead_code}
        self.model = build_network(parse_settings({"model": values | more}))
        self.model.mean.fill_(0.5)
        self.model.std.fill_(0.3)
        self.network: torch.nn.Module = self.model
        if world_size() > 1:
            self.network = DistributedDataParallel(self.model, broadcast_buffers=False)
        self.optimiser = torch.optim.SGD(self.model.parameters(), rate)
        self.settings = ObjectiveSettings.model_validate(settings)
        self.used = torch.zeros(0)

    def step(self, normal: Tensor, outlier: Tensor, weight: Tensor) -> Loss:
        """One step on this rank's tiles."""
        output = self.network(torch.cat([normal, outlier]))
        loss = objective(self.model.losses(output, self.settings.beta), weight, self.settings)
        self.optimiser.zero_grad()
        loss.total.backward()
        self.optimiser.step()
        encoded = output.encoded[: len(normal)].movedim(1, -1).flatten(0, 2)
        indices = output.quantized.indices[: len(normal)].flatten()
        self.used = self.model.update_codebook(encoded, indices, labelled=2)
        return loss

    def results(self, name: str) -> Results:
        gradients = {f"{name}.grad.{key}": value.grad for key, value in self.model.named_parameters()}
        state = {f"{name}.state.{key}": value for key, value in self.model.state_dict().items()}
        return gradients | state  # type: ignore[return-value]


def half_batches(rank: int, world: int) -> Results:
    """A few steps on this rank's share of fixed batches."""
    results: Results = {}
    for kind, form, labels in CASES:
        trained = Trained(kind, 0.0, 0.001, form=form, labels=labels, eta=0.6)
        data = torch.Generator().manual_seed(1)
        with torch.no_grad():
            first = trained.model.encode(torch.rand(NORMAL, 3, SIDE, SIDE, generator=data))
        trained.model.quantizer.initialize(first.movedim(1, -1).flatten(0, 2), seed=0)
        for _ in range(STEPS):
            normal, outlier = (torch.rand(n, 3, SIDE, SIDE, generator=data) for n in (NORMAL, OUTLIERS))
            weight = torch.rand(OUTLIERS, GRID, GRID, generator=data)
            loss = trained.step(*(part.chunk(world)[rank] for part in (normal, outlier, weight)))
        name = f"{kind}-{form}-{labels}"
        results[f"{name}.loss"] = mean_over_ranks(loss.total)
        results[f"{name}.perplexity"] = torch.tensor(perplexity(trained.used))
        results[f"{name}.used"] = trained.used
        results |= trained.results(name)
    return results


def long_run(rank: int, world: int) -> Results:
    """Training with revival on data and random draws that no two ranks share."""
    results: Results = {}
    for kind in KINDS:
        trained = Trained(kind, 0.2, 0.05)
        quantizer = trained.model.quantizer
        torch.manual_seed(100 + rank)
        quantizer.initialize(torch.randn(200, 8), seed=rank)
        results[f"{kind}.start"] = quantizer.codebook.detach().clone()
        revived = torch.zeros(())
        for _ in range(LONG):
            before = quantizer.cluster_size.clone()
            own = torch.rand(4, 3, SIDE, SIDE)
            trained.step(own[:3], own[3:], torch.ones(1, GRID, GRID))
            # The moving count of a code that is not used falls, unless the code is revived.
            revived += ((trained.used == 0) & (quantizer.cluster_size > before)).sum()
        results |= trained.results(kind)
        results[f"{kind}.revived"] = revived
        results[f"own.{kind}"] = own
    return results


def features_run(rank: int, world: int) -> Results:
    """A dictionary of features, on data that no two ranks share."""
    torch.manual_seed(rank)
    results: Results = {}
    for kind in KINDS:
        values = {"encoder": "features", "codebook_size": 16, "embedding_dim": 3, "hidden": 8}
        settings = parse_settings({"model": values | {"codebook": kind, "threshold_dead_code": 0.2}})
        network = FeatureDictionary(settings)
        channels = len(network.mean)
        network.quantizer.initialize(torch.randn(100, channels), seed=rank)
        network.fit_deviations(torch.randn(3, channels, 8, 8), lambda _: None)
        for _ in range(30):
            encoded = torch.randn(2, channels + 3, 4, 4)
            codes = network.quantizer.nearest_indices(encoded[:, :channels]).flatten()
            network.update_codebook(encoded.movedim(1, -1).flatten(0, 2), codes, labelled=2)
        for name, value in network.state_dict().items():
            if not name.startswith(("stem.", "head.")):  # drawn by each rank for itself
                results[f"{kind}.{name}"] = value.detach()
        results[f"own.{kind}"] = encoded
    return results


def unmarked(rank: int, world: int) -> Results:
    """A step in which nothing is marked on the second rank."""
    results: Results = {}
    for form in ("negation", *FORMS):
        trained = Trained("ema", 0.0, 0.05, form=form)
        pixels = torch.rand(NORMAL + OUTLIERS, 3, SIDE, SIDE)
        weight = torch.full((OUTLIERS, GRID, GRID), 1.0 - rank)
        loss = trained.step(pixels[:NORMAL], pixels[NORMAL:], weight)
        assert loss.outlier is not None
        results |= trained.results(form) | {f"{form}.loss": loss.total, f"own.{form}": loss.outlier}
    return results


def trimmed(rank: int, world: int) -> Results:
    """Trimming, with three tiles of unknown label on the first rank and all on the second."""
    model = Trained("ema", 0.0, 0.05).model
    pixels = torch.rand(NORMAL, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(rank))
    unlabelled = torch.arange(3 if rank == 0 else NORMAL)
    settings = ObjectiveSettings(trim=0.4)
    loss = objective(model.losses(model(pixels), settings.beta), None, settings, unlabelled)
    alone = [model.losses(model(tile[None]), settings.beta) for tile in pixels]
    each = torch.stack([objective(losses, None, settings).total for losses in alone])
    assert loss.kept is not None
    return {"loss": mean_over_ranks(loss.total), "each": each, "kept": loss.kept}


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


JOBS: list[Callable[[int, int], Results]] = [half_batches, long_run, features_run, unmarked, trimmed, sums]


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
            _, errors = process.communicate(timeout=300)
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
            apart, largest = (part.detach().abs().max() for part in (halves[key] - value, value))
            assert float(apart) <= 1e-4 * float(largest), key


def test_the_comparison_sees_gradients_and_many_codes_in_use(ranks: dict[str, list[Results]]) -> None:
    halves = ranks["half_batches"][0]
    for case in CASES:
        name = "-".join(case)
        gradients = {key: value for key, value in halves.items() if key.startswith(f"{name}.grad.")}
        assert len(gradients) == (23 if case[0] == "gradient" else 22)
        assert all(bool(value.any()) for value in gradients.values())
        assert float(halves[f"{name}.perplexity"]) > 4


@pytest.mark.parametrize("kind", KINDS)
def test_codebooks_are_bit_equal_across_ranks_after_a_run_with_revivals(
    ranks: dict[str, list[Results]], kind: str
) -> None:
    first, second = ranks["long_run"]
    assert not torch.equal(first[f"own.{kind}"], second[f"own.{kind}"])
    assert int(first[f"{kind}.revived"]) > 0
    assert int(first[f"{kind}.state.quantizer.updates"]) == LONG
    for key in first:
        if key.startswith(kind):
            assert torch.equal(first[key], second[key]), key


@pytest.mark.parametrize("kind", KINDS)
def test_what_scales_distances_of_features_is_bit_equal_across_ranks(
    ranks: dict[str, list[Results]], kind: str
) -> None:
    first, second = ranks["features_run"]
    assert not torch.equal(first[f"own.{kind}"], second[f"own.{kind}"])
    assert float(first[f"{kind}.learned_weight"]) > 0
    assert float(first[f"{kind}.deviations"].std()) > 0
    for key in first:
        if key.startswith(kind):
            assert torch.equal(first[key], second[key]), key


@pytest.mark.parametrize("form", ["negation", *FORMS])
def test_a_rank_without_marks_learns_what_the_other_one_learns(
    ranks: dict[str, list[Results]], form: str
) -> None:
    first, second = ranks["unmarked"]
    assert float(first[f"own.{form}"]) != 0
    assert float(second[f"own.{form}"]) == 0
    for key in first:
        if key.startswith(form):
            assert bool(torch.isfinite(first[key]).all()), key
            assert key.endswith(".loss") or torch.equal(first[key], second[key]), key


def test_trimming_weighs_tiles_alike_however_many_each_rank_keeps(ranks: dict[str, list[Results]]) -> None:
    kept = [rank["kept"] for rank in ranks["trimmed"]]
    assert [NORMAL - len(which) for which in kept] == [1, 3]
    each = torch.cat([rank["each"][which] for rank, which in zip(ranks["trimmed"], kept, strict=True)])
    for rank in ranks["trimmed"]:
        assert float(rank["loss"]) == pytest.approx(float(each.mean()), rel=1e-5)


def test_sums_and_broadcasts_reach_every_rank(ranks: dict[str, list[Results]]) -> None:
    for rank, found in enumerate(ranks["sums"]):
        assert int(found["world"]) == 2
        assert found["sum"].tolist() == [3, 30]
        assert found["mean"].tolist() == [1.5, 15]
        assert found["first"].tolist() == [1, 10]
        assert found["mine"].tolist() == [rank + 1, 10 * (rank + 1)]


if __name__ == "__main__":
    _main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
