"""What a run would take: images, bytes, tiles, time and files, without scoring into the folder."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import ray
import torch

from raysvq.data.manifest import open_manifest
from raysvq.errors import DataError
from raysvq.imaging.decode import DecodeError
from raysvq.model.alias import resolve
from raysvq.model.bundle import load_bundle
from raysvq.model.precision import Precision
from raysvq.model.scorer import ImageScorer
from raysvq.results import read_snapshot
from raysvq.runtime.cluster import connect, result_of
from raysvq.scoring.budget import Budget
from raysvq.scoring.fetch import FILES_AHEAD
from raysvq.scoring.job import digests_of, resolve_precision
from raysvq.scoring.pending import Pending, PendingRows, find_pending
from raysvq.scoring.plan import plan_work, unit_images
from raysvq.scoring.progress import duration
from raysvq.scoring.rows import provenance
from raysvq.scoring.takeover import find_leftovers, take_over
from raysvq.scoring.trial import Trial, decode
from raysvq.scoring.work import new_run
from raysvq.settings import Settings
from raysvq.storage import canonical, configure, read_bytes

SAMPLE = 24  # images that are fetched and scored to see how long they take


@dataclass(frozen=True)
class Sampled:
    """What some of the images took on one worker."""

    images: int
    rejected: int
    tiles: float  # an image
    pixels: float  # an image
    read_s: float  # an image
    score_s: float  # an image: decoding, tiling and the network


NOTHING = Sampled(0, 0, 0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Forecast:
    """What a run would do."""

    images: int  # to score, without those that are taken over
    done_before: int
    rescored: int = 0
    taken_over: tuple[str, ...] = ()  # what is, and is not, of interrupted runs
    size_bytes: int = 0
    units: int = 0
    unit_images: int = 0
    workers: int = 0
    device: str = ""
    precision: Precision = "float32"
    sampled: Sampled = NOTHING

    @property
    def seconds(self) -> float:
        """Of the work itself; starting up comes on top."""
        return self.images * (self.sampled.read_s / FILES_AHEAD + self.sampled.score_s) / self.workers

    def lines(self) -> Iterator[str]:
        """As text, a line a figure."""
        one = self.sampled
        yield f"images     {self.images:,} to score ({self.rescored:,} again), {self.done_before:,} are done"
        for line in self.taken_over:
            yield f"before     {line}"
        if not self.images:
            return
        yield f"bytes      {_size(self.size_bytes)}, {_size(self.size_bytes / self.images)} an image"
        yield (
            f"tiles      {round(one.tiles * self.images):,},"
            f" {one.tiles:,.1f} an image of {one.pixels / 1e6:.2f} Mpx"
        )
        yield (
            f"time       {duration(self.seconds)} on {self.workers} {self.device}(s) in {self.precision},"
            f" {self.images / self.seconds:,.1f} images/s"
        )
        yield f"files      {self.units:,} of scores, {self.unit_images} images each"
        total = one.read_s + one.score_s
        yield (
            f"cost       reading {one.read_s / total:.0%} ({1000 * one.read_s:.1f} ms an image),"
            f" decoding and network {one.score_s / total:.0%} ({1000 * one.score_s:.1f} ms)"
        )
        yield f"measured   on {one.images} of the images, {one.rejected} of them rejected, by one worker"


def forecast(manifest: str, model: str, out: str, settings: Settings) -> Forecast:
    """Look at what `score` with these arguments would do; writes nothing.

    Raises:
        DataError, BundleError, StorageError, SettingsError: the run could not start.
    """
    configure(settings.storage)
    manifest, model, out = canonical(manifest), resolve(model), canonical(out)
    rows = open_manifest(manifest)
    bundle = load_bundle(model)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        digests = digests_of(bundle, settings.scoring)
        snapshot = read_snapshot(out)
        pending = find_pending(rows, snapshot, digests, settings.scoring, folder)
        if not pending.rows.count:
            return Forecast(0, pending.done)
        plan = plan_work(connect(settings.ray))
        precision = resolve_precision(bundle, settings, plan)
        origin = provenance(bundle, "", digests["settings_digest"], precision)
        run = new_run(origin, settings.scoring, snapshot.version)
        budget = Budget(pending.rows.count, settings.scoring.max_rejected, pending.retried)
        before = take_over(find_leftovers(out, folder), run, pending, budget)
        rest = before.rest
        sampled = NOTHING
        if uris := _spread(rest):
            task = _sample.options(**plan.resources)
            sampled = result_of(task.remote(uris, model, settings, plan.device, precision))
    size = unit_images(rest.rows.count, settings.scoring.batch_images)
    return Forecast(
        images=rest.rows.count,
        done_before=pending.done,
        rescored=rest.rescored,
        taken_over=tuple(before.lines()),
        size_bytes=rest.size_bytes,
        units=-(-rest.rows.count // size),
        unit_images=size,
        workers=plan.workers,
        device=plan.name,
        precision=precision,
        sampled=sampled,
    )


def _spread(pending: Pending) -> list[str]:
    """Some images, evenly over the rows left."""
    rows = PendingRows(str(pending.path))
    count = pending.rows.count
    return [rows.read(place, 1)[0]["uri"] for place in range(0, count, -(-count // SAMPLE))] if count else []


@ray.remote
def _sample(uris: list[str], model: str, settings: Settings, device: str, precision: Precision) -> Sampled:
    configure(settings.storage)
    if device == "cpu":
        torch.set_num_threads(1)
    bundle = load_bundle(model)
    scorer = ImageScorer(bundle.model, bundle.settings, settings.scoring, device, precision)
    tried = partial(decode, tiles=bundle.settings.tiles, scoring=settings.scoring)
    reading, scoring_s, tiles, pixels = [], [], [], []
    rejected, problem = 0, ""
    with Trial(tried, settings.scoring.decode_timeout_s) as trial:
        for number, uri in enumerate([uris[0], *uris]):  # the first one twice: it warms up
            started = time.perf_counter()
            try:
                content = read_bytes(uri)
                fetched = time.perf_counter()
                trial.require_survival(content)
                tried_at = time.perf_counter()
                result = scorer(content)
            except (DecodeError, OSError) as error:
                rejected, problem = rejected + bool(number), f"{uri}: {error}"
                continue
            if number:
                reading.append(fetched - started)
                scoring_s.append(time.perf_counter() - tried_at)
                tiles.append(len(result.tiling))
                pixels.append(result.tiling.height * result.tiling.width)
    if not tiles:
        raise DataError(f"none of the {len(uris)} images looked at can be scored; {problem}")
    means = [float(np.mean(values)) for values in (tiles, pixels, reading, scoring_s)]
    return Sampled(len(uris), rejected, *means)


def _size(count: float) -> str:
    power = min(int(math.log10(max(count, 1))) // 3, 4)
    return f"{count / 1000**power:,.1f} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"
