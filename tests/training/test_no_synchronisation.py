"""A training step reads nothing back from the device: on a GPU the host would wait for all that it has to do.

Shown on a CPU, by forbidding the operations whose result the host needs before it can go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from raysvq.model.network import build_network
from raysvq.model.outlier_forms import FORMS
from raysvq.settings import Settings
from raysvq.training.checkpoint import TrainingState
from raysvq.training.data_loading import Batch
from raysvq.training.trainer import READ_EVERY, Trainer, make_optimiser

Build = Callable[..., Settings]
Batches = Callable[..., Iterator[Batch]]

_ATEN = torch.ops.aten
_READS = {  # a value, or the size of a result
    _ATEN._local_scalar_dense,
    _ATEN.bincount,
    _ATEN.equal,
    _ATEN.histc,
    _ATEN.masked_select,
    _ATEN.multinomial,
    _ATEN.nonzero,
    _ATEN.repeat_interleave,
    _ATEN.unique_consecutive,
    _ATEN._unique,
    _ATEN._unique2,
}
_INDEXED = {_ATEN.index, _ATEN.index_put, _ATEN.index_put_, _ATEN._index_put_impl_}  # a mask makes them read
_COPIES = {Tensor.__array__, Tensor.cpu, Tensor.numpy, Tensor.tolist}


class _ReadError(Exception):
    pass


class _NoReads(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        packet = func.overloadpacket
        masks = packet in _INDEXED and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        if packet in _READS or masks:
            raise _ReadError(str(func))
        return func(*args, **(kwargs or {}))


class _NoCopies(TorchFunctionMode):
    def __init__(self, allowed: int = 0) -> None:
        super().__init__()
        self.allowed = allowed
        self.copies = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _COPIES:
            self.copies += 1
            if self.copies > self.allowed:
                raise _ReadError(str(func))
        return func(*args, **(kwargs or {}))


@contextmanager
def _no_synchronisation(copies: int = 0) -> Iterator[_NoCopies]:
    with _NoReads(), _NoCopies(copies) as counted:
        yield counted


READS: dict[str, Callable[[Tensor], Any]] = {
    "int": lambda values: int(values.sum()),
    "float": lambda values: float(values[0]),
    "bool": lambda values: bool(values.any()),
    "if": lambda values: 1 if values[0] > 0 else 0,
    "item": lambda values: values[0].item(),
    "tolist": lambda values: values.tolist(),
    "numpy": lambda values: values.numpy(),
    "cpu": lambda values: values.cpu(),
    "equal": lambda values: torch.equal(values, values),
    "nonzero": lambda values: values.nonzero(),
    "where": lambda values: torch.where(values > 0),
    "bincount": lambda values: torch.bincount(values.long()),
    "unique": lambda values: values.unique(),
    "masked_select": lambda values: values.masked_select(values > 0),
    "mask": lambda values: values[values > 0],
    "write": lambda values: values.__setitem__(values > 0, torch.ones(())),
}


@pytest.mark.parametrize("name", READS)
def test_a_read_is_noticed(name: str) -> None:
    values = torch.tensor([1.0, 0.0, 2.0])
    READS[name](values)
    with _no_synchronisation(), pytest.raises(_ReadError):
        READS[name](values)


def test_a_read_in_the_backward_pass_is_noticed() -> None:
    values = torch.ones(3, requires_grad=True)
    values.register_hook(lambda gradient: gradient * float(gradient.sum()))
    with _no_synchronisation(), pytest.raises(_ReadError):
        values.square().sum().backward()


def _trainer(settings: Settings, progress: Any = None) -> Trainer:
    model = build_network(settings)
    return Trainer(model, make_optimiser(model, settings), settings, TrainingState(), progress)


def _batch(encoder: str, trainer: Trainer, outliers: int) -> Batch:
    shape = (3, 16, 16) if encoder == "pixels" else (len(trainer.model.mean), 5, 1)
    grid = (4, 4) if encoder == "pixels" else (5, 1)
    weight = torch.rand(outliers, *grid) if outliers else None
    return Batch(torch.rand(6 + outliers, *shape), outliers, weight, torch.tensor([1, 2, 5]))


@pytest.mark.parametrize("outliers", [0, 2])
@pytest.mark.parametrize("codebook", ["ema", "gradient"])
@pytest.mark.parametrize("encoder", ["pixels", "features"])
def test_a_step_reads_nothing_back(small: Build, encoder: str, codebook: str, outliers: int) -> None:
    tiles = {"size": 16} if encoder == "pixels" else {"mode": "whole", "size": 64}
    model = {"encoder": encoder, "codebook": codebook, "threshold_dead_code": 0.5}
    trainer = _trainer(small(tiles=tiles, model=model, objective={"trim": 0.4}))
    quantizer = trainer.model.quantizer
    batch = _batch(encoder, trainer, outliers)
    trainer.step(batch)
    with torch.no_grad():
        quantizer.codebook[3] = 1e3  # far from all encodings
        quantizer.cluster_size[3] = 0
    with _no_synchronisation():
        loss, used = trainer.step(batch)
    assert float(quantizer.codebook.detach().abs().max()) < 1e3  # it was revived
    assert float(quantizer.cluster_size[3]) > 0
    assert loss.kept is not None
    assert len(loss.kept) == 5
    assert int(used.sum()) == 5 * (16 if encoder == "pixels" else 5)


@pytest.mark.parametrize("form", ["negation", *FORMS])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_no_form_of_the_outlier_term_reads_anything_back(
    small: Build, batches: Batches, form: str, precision: str
) -> None:
    trainer = _trainer(small(objective={"form": form}, training={"precision": precision}))
    data = [next(batches()) for _ in range(2)]
    with _no_synchronisation():
        losses = [trainer.step(batch)[0].total for batch in data]
    assert bool(torch.stack(losses).isfinite().all())


def test_a_run_reads_its_losses_once_in_a_while(small: Build, batches: Batches) -> None:
    steps = 2 * READ_EVERY + 3
    lines: list[str] = []
    trainer = _trainer(small(training={"steps": steps}), lines.append)
    source = batches()
    data = iter([next(source) for _ in range(steps)])
    with _no_synchronisation(copies=steps) as counted:
        trainer.run(data, steps)
    assert counted.copies == 3 + 1  # and the terms of the last step
    assert trainer.losses["loss"] is not None
