"""What each engine takes: CPU time per tile on one thread, first call, memory, deviation of distances.

Run: python -m benchmarks.engines [CONFIG ...] [--rounds 30] [--json FILE]

A CONFIG is what `--config` of raysvq takes. Weights are random, since time does not depend on them, but for
pretrained stems; codes lie where encodings do. Engines take turns, so that another load slows all alike.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np
import psutil
import torch

from devtools.untrained import untrained_bundle
from raysvq.errors import SettingsError
from raysvq.imaging.decode import Pixels
from raysvq.model.device import Precision
from raysvq.model.engines import Backend, EngineName, choose_backend, look_around
from raysvq.model.scorer import ImageScorer, to_model_input
from raysvq.settings import ModelSettings, ScoringSettings, load_settings

CONFIGS = ("features", "textures", "objects", "paper")
PIXELS = 2**16  # of the tiles of a call, about


def measure(config: str, rounds: int) -> list[dict[str, Any]]:
    """A row per engine and precision, in the order of the table."""
    settings = load_settings(config)
    model = untrained_bundle(settings, threshold=1.0).model.eval()
    model.load_pretrained()
    tiles = _tiles(max(1, PIXELS // settings.tiles.seen**2), settings.tiles.seen, settings.tiles.channels)
    with torch.no_grad():
        features = model.extract_features(to_model_input(tiles, torch.device("cpu")))
        model.fit_statistics(features)
        encoded = model.encode(features).movedim(1, -1).flatten(0, 2)
        codes = encoded[torch.randint(len(encoded), (len(model.quantizer.codebook),))]
        model.quantizer.codebook[:, : codes.shape[1]] = codes + 0.3 * torch.randn_like(codes)
    rows, scorers = [], []
    exact: Any = None
    for backend in backends_here(settings.model, True):
        scorer = ImageScorer(
            model, settings, settings.scoring, precision=backend.precision, engine=backend.engine
        )
        held, started = psutil.Process().memory_info().rss, time.perf_counter()
        found = scorer.distances(tiles)
        first = time.perf_counter() - started
        exact = found if exact is None else exact
        largest, typical = (float(pool(np.abs(found / exact - 1))) for pool in (np.max, np.median))
        rows.append(
            {
                "config": config,
                "side": settings.tiles.seen,
                "engine": backend.engine,
                "precision": backend.precision,
                "first_s": first,
                "mib": (psutil.Process().memory_info().rss - held) / 2**20,
                "largest": largest,
                "typical": typical,
            }
        )
        scorers.append(scorer)
    seconds: list[list[float]] = [[] for _ in scorers]
    for _ in range(rounds):
        for scorer, spent in zip(scorers, seconds, strict=True):
            started = time.process_time()
            scorer.nearest(tiles)
            spent.append((time.process_time() - started) / len(tiles))
    return [
        row | {"ms": 1000 * statistics.median(spent), "least_ms": 1000 * min(spent)}
        for row, spent in zip(rows, seconds, strict=True)
    ]


def backends_here(model: ModelSettings, has_bfloat16: bool) -> list[Backend]:
    """What this process can compute a model with; `has_bfloat16` says whether the model has any."""
    here, found = look_around("cpu"), []
    for engine, precision in product(get_args(EngineName), get_args(Precision)):
        with suppress(SettingsError):
            found.append(choose_backend(ScoringSettings(engine=engine, precision=precision), model, {}, here))
    return [backend for backend in found if has_bfloat16 or backend.precision == "float32"]


def _tiles(count: int, side: int, channels: int) -> Pixels:
    """Smooth shapes with some noise, (count, side, side, channels) uint8."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side] / side
    waves = rng.uniform(6, 54, (count, channels, 2, 1, 1))
    shapes = np.moveaxis(np.sin(waves[:, :, 0] * x) * np.cos(waves[:, :, 1] * y) * 90 + 128, 1, -1)
    noisy = shapes + rng.normal(0, 12, shapes.shape)
    return np.ascontiguousarray(noisy.clip(0, 255).astype(np.uint8))


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("configs", nargs="*", default=CONFIGS)
    parser.add_argument("--rounds", type=int, default=30, help="over which the median is taken")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row for config in arguments.configs for row in measure(config, arguments.rounds)]
    print_table(rows)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """As docs/tuning.md has it."""
    names = ["configuration", "engine", "ms", "least", "first call, s", "MiB", "moves, median", "most"]
    print(f"| {' | '.join(names)} |")
    print("|---" * len(names) + "|")
    for row in rows:
        print(
            f"| `{row['config']}`, {row['side']} × {row['side']} | {row['engine']}, {row['precision']}"
            f" | {row['ms']:.2f} | {row['least_ms']:.2f} | {row['first_s']:.1f} | {row['mib']:.0f}"
            f" | {row['typical']:.1e} | {row['largest']:.1e} |"
        )


if __name__ == "__main__":
    main()
