"""Loops without Ray that score the images of a manifest: one process per core, each with its share."""

from __future__ import annotations

import io
import multiprocessing
import os
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image

from benchmarks.methods.dictionaries import BANK, Dictionary
from raysvq.data.manifest import open_manifest
from raysvq.imaging.tiling import cut, plan_tiles
from raysvq.model.bundle import Bundle, load_bundle
from raysvq.model.engines import Backend
from raysvq.model.scorer import ImageScorer
from raysvq.results.writer import write_unit
from raysvq.scoring.fetch import fetch, in_groups
from raysvq.scoring.rows import Row, score_row
from raysvq.scoring.work import provenance
from raysvq.settings import Settings

MakeScorer = Callable[[Bundle, Settings, Backend], ImageScorer]


def run_bare(
    manifest: str, model: str, out: Path, settings: Settings, backend: Backend, make: MakeScorer
) -> float:
    """Images per second of one process per core, with the decoder and the rows of raysvq.

    Args:
        make: of a bundle what scores; `own_scorer` or `bank_scorer`.
    """
    rows = open_manifest(manifest).to_table().to_pylist()
    cores = os.cpu_count() or 1
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(cores)
    shares = [(rows[core::cores], model, str(out), settings, backend, make, ready) for core in range(cores)]
    processes = [context.Process(target=_score_share, args=share) for share in shares]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    files = (out / "scores").glob("*.parquet")
    return rate(
        [at for file in files for at in pq.read_table(file, partitioning=None)["scored_at"].to_pylist()]
    )


def own_scorer(bundle: Bundle, settings: Settings, backend: Backend) -> ImageScorer:
    """The bundle's model, as workers of a job have it."""
    return ImageScorer(
        bundle.model, bundle.settings, settings.scoring, precision=backend.precision, engine=backend.engine
    )


def bank_scorer(bundle: Bundle, settings: Settings, backend: Backend) -> ImageScorer:
    """A memory bank on the same stem, in PyTorch and float32; entries of noise, the same arithmetic."""
    noise = np.random.default_rng(0).integers(0, 256, (16, 256, 256, 3), np.uint8)
    bank = Dictionary(noise, BANK, lambda positions: positions, bundle.settings)
    return ImageScorer(bank, bundle.settings, settings.scoring)


def _score_share(
    rows: list[Row],
    model: str,
    out: str,
    settings: Settings,
    backend: Backend,
    make: MakeScorer,
    ready: Any,
) -> None:
    torch.set_num_threads(1)
    bundle = load_bundle(model)
    scorer = make(bundle, settings, backend)
    origin = provenance(bundle, "bare", "bare", backend)
    together = 16 if bundle.settings.tiles.mode == "whole" else 1
    ready.wait()
    for start in range(0, len(rows), 128):
        scored = []
        for group in in_groups(fetch(rows[start : start + 128]), together):
            results = scorer.score_many([content for _, content in group])  # type: ignore[misc]
            scored += [
                score_row(row, result, bundle.decisions, origin)  # type: ignore[arg-type]
                for (row, _), result in zip(group, results, strict=True)
            ]
        write_unit(out, f"{os.getpid()}-{start}", {"scores": scored, "rejects": [], "maps": []}, {})


def run_naive(files: list[Path], model: str) -> float:
    """Images per second of one process, one thing after the other: Pillow, a tile at a time, float32."""
    bundle = load_bundle(model)
    tiling = bundle.settings.tiles
    mode = "RGB" if tiling.channels == 3 else "L"
    started = time.perf_counter()
    with torch.inference_mode():
        for file in files:
            image = Image.open(io.BytesIO(file.read_bytes())).convert(mode)
            if tiling.mode == "whole":
                image = image.resize((tiling.size, tiling.size), Image.Resampling.BOX)
            pixels = np.atleast_3d(np.asarray(image))
            for tile in cut(pixels, plan_tiles(*pixels.shape[:2], tiling)):
                given = torch.from_numpy(tile.astype(np.float32) / 255).permute(2, 0, 1)[None]
                float(bundle.model.distance_map(given).square().sum().sqrt())
    return len(files) / (time.perf_counter() - started)


def rate(times: list[datetime]) -> float:
    """Images per second from the first scored image to the last."""
    return (len(times) - 1) / (max(times) - min(times)).total_seconds()
