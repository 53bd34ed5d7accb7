"""What the commands that measure accuracy have in common: options, records, and where they run."""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from benchmarks.methods.draws import NO_LABELS, Level
from benchmarks.methods.jobs import Bench
from benchmarks.methods.protocol import Manifests
from benchmarks.methods.records import Records
from benchmarks.methods.sets import DATA, SETS


@dataclass(frozen=True)
class Session:
    """What a command works with until it ends."""

    levels: list[Level]
    manifests: Manifests
    records: Records
    bench: Bench


def add_arguments(parser: argparse.ArgumentParser, labels: list[int]) -> None:
    """Options of data, draws and place; `labels` is the default of `--labels`."""
    parser.add_argument("--sets", nargs="+", default=SETS, help=f"default: {' '.join(SETS)}")
    parser.add_argument("--labels", nargs="+", type=int, default=labels, help="numbers of labelled outliers")
    parser.add_argument(
        "--unseen-types", action="store_true", help="labels are of one defect type, the test of all others"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4], help="default: five draws")
    parser.add_argument("--data", type=Path, default=DATA, help="folder that holds the sets")
    parser.add_argument("--json", type=Path, help="file of finished runs, read and added to")
    parser.add_argument(
        "--predictions",
        type=Path,
        help="folder of scores per image; default: beside the JSON, without `.json`",
    )
    parser.add_argument(
        "--cache", type=Path, help="folder for frozen features, so that each is computed once"
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes, of one thread each")
    parser.add_argument("--set", nargs="+", default=[], help="settings of all methods, as of `raysvq train`")


def levels_of(arguments: argparse.Namespace) -> list[Level]:
    """All levels that are asked for: labels or gammas, without and with hidden defects."""
    asked = [Level("outliers", value) for value in arguments.labels]
    if getattr(arguments, "gammas", None):
        asked = [Level("gamma", value) if value else NO_LABELS for value in arguments.gammas]
    shares = [0.0, *getattr(arguments, "hidden", [])]
    unseen = arguments.unseen_types
    return [replace(level, hidden=share, unseen_types=unseen) for share in shares for level in asked]


@contextlib.contextmanager
def session(arguments: argparse.Namespace) -> Iterator[Session]:
    """Records, manifests and folders of a command; this process computes in one thread."""
    torch.set_num_threads(1)
    levels = levels_of(arguments)
    with tempfile.TemporaryDirectory() as name:
        beside = arguments.json.with_suffix("") if arguments.json else Path(name) / "predictions"
        manifests = Path(name) / "manifests"
        manifests.mkdir()
        gamma = max((level.value for level in levels if level.kind == "gamma"), default=None)
        hidden = max(level.hidden for level in levels)
        yield Session(
            levels,
            Manifests(arguments.data, manifests, Level("gamma", gamma, hidden) if gamma else NO_LABELS),
            Records(arguments.json),
            Bench(arguments.predictions or beside, arguments.cache, arguments.jobs),
        )
