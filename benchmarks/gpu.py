"""Scoring and training on one device, beside the least time that its ceilings allow.

Run: python -m benchmarks.gpu [--device cuda] [--quick] [--cases NAME ...] [--no-compile] [--json FILE]

Ceilings first: a large copy within the device's memory, and matrix products. Then, for the network of each
configuration on 256 x 256 pictures, or tiles of them:

    score  distance maps: of pixels in device memory (`device`), or by `ImageScorer.distances` of 8-bit tiles
           in host memory, pinned or not, so many at once; and with torch.compile
    train  `Trainer.run` over a batch in device memory, as configured and large; and with torch.compile
    files  `ImageScorer.score_many`, from JPEG files in memory to image scores, with one decoder per core
    parity image scores against those in float32 on the CPU: the largest relative deviation

`floor` is the share of the time that must pass: operations at the rate of their unit (float32 scores exactly,
trains its convolutions in tf32), or bytes at the rate of the copy, whichever takes longer; input, weights and
output move once. `layers` is the same, but each convolution reads its input and writes its output; a training
step thrice. `busy` is the share of the time in which the GPU has kernels to run. Times are medians.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.hardware import accelerator, processor
from benchmarks.roofline import Call, Ceilings, busy_s, flops_of, layer_bytes, measure_ceilings, median_s
from benchmarks.scoring import make_images
from raysvq.imaging.pixels import open_tiles
from raysvq.model.device import Precision, relative_deviation
from raysvq.model.network import Network, build_network, cell_size
from raysvq.model.scorer import ImageScorer, exact_convolutions, to_model_input
from raysvq.scoring.worker import WHOLE_TOGETHER
from raysvq.settings import Settings, load_settings
from raysvq.training.checkpoint import TrainingState
from raysvq.training.data_loading import Batch, outliers_per_step
from raysvq.training.frozen_features import gather_positions
from raysvq.training.trainer import Trainer, make_optimiser

Row = dict[str, Any]

CASES = {"textures": 2048, "paper": 2048, "features": 128}  # configurations, and tiles that fill a GPU
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
_STEPS = 20  # of training, timed together
_WIDTHS = {"float32": 4, "bfloat16": 2}  # bytes
_PICTURES, _FILES = 64, 192
_FITTED = 8192  # positions that the codebook starts from
_OVERRIDES = ["training.steps=1000000", "objective.form=hinge"]
COLUMNS = {
    "case": ("<10", ""),
    "what": ("<7", ""),
    "how": ("<16", ""),
    "precision": ("<10", ""),
    "batch": (">7", "d"),
    "ms": (">10", ".3f"),
    "per_s": (">11", ",.0f"),
    "tflops": (">9", ".1f"),
    "busy": (">7", ".0%"),
    "floor": (">8", ".2%"),
    "layers": (">8", ".1%"),
    "deviation": (">11", ".1e"),
}


@dataclass(frozen=True)
class Case:
    """A network that has seen its tiles, and what it is measured on."""

    name: str
    settings: Settings
    model: Network
    files: list[bytes]
    tiles: np.ndarray  # (T, S, S, C) uint8
    device: torch.device
    ceilings: Ceilings
    least_s: float

    def row(self, what: str, how: str, precision: str, batch: int, call: Call, calls: float = 1) -> Row:
        """Time a call over `calls` batches."""
        seconds = median_s(call, self.least_s) / calls
        busy = busy_s(call, self.device)
        row: Row = {"case": self.name, "what": what, "how": how, "precision": precision, "batch": batch}
        row |= {"ms": 1000 * seconds, "per_s": batch / seconds}
        return row if busy is None else row | {"busy": busy / calls / seconds}

    def against_floor(self, row: Row, flops: float, fewest: float, layers: float, unit: str) -> Row:
        """Add the least time that the ceilings allow for a row."""
        floors = {"floor": fewest, "layers": layers}
        shares = {
            name: 1000 * self.ceilings.floor_s(flops, moved, unit) / row["ms"]
            for name, moved in floors.items()
        }
        return row | {"tflops": flops / row["ms"] / 1e9, "gflop": flops / 1e9} | shares


def make_case(name: str, device: torch.device, ceilings: Ceilings, files: list[bytes], quick: bool) -> Case:
    """Random weights, and a codebook of what they make of the pictures: the arithmetic is the same."""
    settings = load_settings(name, _OVERRIDES)
    opened = [open_tiles(file, settings.tiles, settings.scoring) for file in files]
    found = np.concatenate([part for image in opened for part in image.parts])
    tiles = np.resize(found, (4 if quick else CASES[name], *found.shape[1:]))
    torch.manual_seed(0)
    model = build_network(settings)
    model.load_pretrained()
    model.to(device)
    with torch.no_grad():
        features = model.extract_features(to_model_input(found[:_PICTURES], device))
        model.fit_statistics(features)
        positions = model.encode(features).movedim(1, -1).flatten(0, 2)
        some = torch.randperm(len(positions), device=device)[:_FITTED]
        model.quantizer.initialize(positions[some], seed=0)
        model.fit_deviations(features, lambda _: None)
    return Case(name, settings, model.eval(), files, tiles, device, ceilings, 0.001 if quick else 0.3)


def score(case: Case, compiled: bool) -> Iterator[Row]:
    """Distance maps."""
    model, batch = case.model, len(case.tiles)
    pixels = to_model_input(case.tiles, case.device)
    plain = _as_scored(partial(model.distance_map, pixels))
    flops, cells = flops_of(plain), plain().nbytes
    beside = sum(value.nbytes for value in model.state_dict().values()) + cells
    for precision in PRECISIONS:
        layers = layer_bytes(model, plain, _WIDTHS[precision])
        found = model.nearest_map if precision == "float32" else model.bfloat16_nearest_map()
        if compiled:
            calls = {"device, compiled": (partial(_compiled(found), pixels), pixels.nbytes)}
        else:
            calls = {"device": (partial(found, pixels), pixels.nbytes)} | _from_host(case, precision)
        for how, (call, taken) in calls.items():
            row = case.row("score", how, precision, batch, _as_scored(call))
            yield case.against_floor(row, flops, taken + beside, layers + beside, precision)


def _as_scored(call: Call) -> Call:
    """In the modes of `ImageScorer.distances`."""

    def run() -> Any:
        with torch.inference_mode(), exact_convolutions():
            return call()

    return run


def _compiled(found: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    torch.compiler.reset()
    return torch.compile(lambda pixels: found(pixels), dynamic=False)  # which takes functions alone


def _from_host(case: Case, precision: Precision) -> dict[str, tuple[Call, int]]:
    """The scorer's own way, by name, and the bytes that it takes."""
    usual, batch = case.settings.scoring.tile_batch, len(case.tiles)
    ways = {f"host, {usual}": (case.tiles, usual), "host": (case.tiles, batch)}
    if case.device.type == "cuda":
        ways["pinned"] = (torch.from_numpy(case.tiles).pin_memory().numpy(), batch)
    calls = {}
    for how, (tiles, at_once) in ways.items():
        scoring = case.settings.scoring.model_copy(update={"tile_batch": at_once})
        scorer = ImageScorer(case.model, case.settings, scoring, case.device, precision)
        calls[how] = (partial(scorer.distances, tiles), tiles.nbytes)
    return calls


def train(case: Case, compiled: bool) -> Iterator[Row]:
    """Steps."""
    usual = case.settings.training.batch_size
    for size, precision in itertools.product([usual, len(case.tiles)], PRECISIONS):
        batch = _batch(case, size)
        wanted = case.settings.training.model_copy(update={"precision": precision})
        settings = case.settings.model_copy(update={"training": wanted})
        model, counted = copy.deepcopy(case.model), copy.deepcopy(case.model)
        if compiled:
            torch.compiler.reset()  # or a limit on variants is met, and sizes are taken for variable
            model.compile(dynamic=False)
        trainer, counter = (
            Trainer(each, make_optimiser(each, settings), settings, TrainingState())
            for each in (model, counted)
        )
        run = partial(_run, trainer, batch)
        row = case.row("train", "compiled" if compiled else "", precision, size, run, _STEPS)
        flops = flops_of(partial(counter.run, itertools.repeat(batch), 1))
        once = partial(counted, batch.pixels)
        layers = layer_bytes(counted, once, _WIDTHS[precision])
        learning = sum(value.nbytes for value in model.parameters() if value.requires_grad)
        fewest = batch.pixels.nbytes + 6 * learning  # weights and two moments are read and written
        unit = "tf32" if precision == "float32" else "bfloat16"
        yield case.against_floor(row, flops, fewest, 3 * layers + 6 * learning, unit)


def _run(trainer: Trainer, batch: Batch) -> None:
    trainer.run(itertools.repeat(batch), trainer.state.step + _STEPS)


def _batch(case: Case, size: int) -> Batch:
    """Tiles of which the configured share are outliers, marked all over."""
    training, side = case.settings.training, case.settings.tiles.size // cell_size(case.settings.model)
    outliers = outliers_per_step(size, training.outlier_fraction)
    tiles = np.resize(case.tiles, (size, *case.tiles.shape[1:]))
    with torch.no_grad():
        pixels = case.model.extract_features(to_model_input(tiles, case.device))
    if case.settings.model.encoder == "pixels":
        return Batch(pixels, outliers, torch.ones(outliers, side, side, device=case.device))
    keys = torch.rand(size, side * side, device=case.device)
    positions = keys.argsort(dim=1)[:, : training.positions_per_tile].sort(dim=1).values
    weight = torch.ones(outliers, positions.shape[1], 1, device=case.device)
    return Batch(gather_positions(pixels, positions), outliers, weight)


def files(case: Case) -> Iterator[Row]:
    """From JPEG files to image scores, in groups as in a scoring job, and whole ones in large groups too."""
    decoders, whole = os.cpu_count() or 1, case.settings.tiles.mode == "whole"
    count = len(case.files) if len(case.files) < _PICTURES else _FILES
    contents = list(itertools.islice(itertools.cycle(case.files), count))
    sizes = (WHOLE_TOGETHER, 8 * WHOLE_TOGETHER) if whole else (2 * decoders,)
    for precision, together in itertools.product(PRECISIONS, sizes):
        model, scoring = case.model, case.settings.scoring
        scorer = ImageScorer(model, case.settings, scoring, case.device, precision, decoders)
        groups = [contents[start : start + together] for start in range(0, count, together)]
        run = partial(_each, scorer.score_many, groups)
        yield case.row("files", f"{decoders} decoders", precision, together, run, count / together)


def _each(call: Callable[[list[bytes]], object], groups: list[list[bytes]]) -> None:
    for group in groups:
        call(group)


def parity(case: Case) -> Iterator[Row]:
    """Image scores, here and on the CPU."""
    scoring = case.settings.scoring
    exact = ImageScorer(copy.deepcopy(case.model), case.settings, scoring)
    scores = [exact(file).image_score for file in case.files]
    for precision in PRECISIONS:
        scorer = ImageScorer(case.model, case.settings, scoring, case.device, precision)
        pairs = zip([scorer(file).image_score for file in case.files], scores, strict=True)
        largest = max(relative_deviation(found, wanted) for found, wanted in pairs)
        row = {"case": case.name, "what": "parity", "how": f"{len(scores)} images", "precision": precision}
        yield row | {"deviation": largest}


def line(row: Row) -> str:
    """A row of the table; what it has not stays blank."""
    cells = []
    for name, (place, form) in COLUMNS.items():
        cells.append(format(format(row[name], form) if name in row else "", place))
    return "".join(cells).rstrip()


def main() -> None:
    """Measure; print each row when it is there, and write the JSON anew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cuda", help="default: cuda")
    parser.add_argument("--quick", action="store_true", help="few tiles, short times: does it run?")
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument(
        "--no-compile", action="store_true", help="leave out torch.compile, which takes minutes"
    )
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    hardware = ", ".join([processor(), *accelerator(device), f"torch {torch.__version__}"])
    ceilings = measure_ceilings(device, arguments.quick)
    print(f"{hardware}\ncopy {ceilings.bytes_per_s / 1e12:.2f} TB/s", end="")
    print("".join(f", {unit} {rate / 1e12:.1f} TFLOP/s" for unit, rate in ceilings.flops_per_s.items()))
    print("".join(format(name, place) for name, (place, _) in COLUMNS.items()), flush=True)
    record: Row = {"hardware": hardware, "ceilings": asdict(ceilings), "rows": []}
    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder) / "pictures"
        make_images(pictures, 2 if arguments.quick else _PICTURES)
        contents = [file.read_bytes() for file in sorted(pictures.iterdir())]
    cases = [make_case(name, device, ceilings, contents, arguments.quick) for name in arguments.cases]
    parts: list[Callable[[Case], Iterator[Row]]] = [parity, files]
    parts += [partial(part, compiled=False) for part in (score, train)]
    if not arguments.no_compile:
        parts += [partial(part, compiled=True) for part in (score, train)]
    for part, case in itertools.product(parts, cases):
        for row in part(case):
            print(line(row), flush=True)
            record["rows"].append(row)
            if arguments.json:
                arguments.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
