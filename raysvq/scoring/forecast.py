"""What a run would take: images, bytes, tiles, time and files, without scoring into the folder."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import ray

from raysvq.errors import DataError
from raysvq.imaging.decode import DecodeError
from raysvq.log import duration
from raysvq.model.engines import EXACT, Backend
from raysvq.runtime.cluster import find_capacity
from raysvq.runtime.failures import result_of, returns_failures
from raysvq.runtime.stall import stall_reporter
from raysvq.scoring.fetch import FILES_AHEAD
from raysvq.scoring.pending import Pending, PendingRows
from raysvq.scoring.plan import find_crew, plan_run, unit_images
from raysvq.scoring.request import open_request
from raysvq.scoring.session import WorkerSession, memory_advice, open_session
from raysvq.scoring.spec import SessionConfig
from raysvq.scoring.takeover import find_leftovers
from raysvq.settings import Settings
from raysvq.storage import read_bytes

SAMPLE = 24  # images that are fetched and scored to see how long they take


@dataclass(frozen=True)
class Sampled:
    """What a sample of the images took on one worker."""

    images: int
    rejected: int
    tiles: float  # per image
    pixels: float  # per image
    read_s: float  # per image
    score_s: float  # per image: decoding, tiling and the network


NOTHING = Sampled(0, 0, 0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Forecast:
    """What a run would do."""

    images: int  # to score, without those that are taken over
    done_before: int
    rescored: int = 0
    taken_over: tuple[str, ...] = ()  # lines about interrupted runs
    size_bytes: int = 0
    units: int = 0
    unit_images: int = 0
    workers: int = 0  # processes there is room for now
    machines: str = ""  # what they are on
    backend: Backend = EXACT
    sampled: Sampled = NOTHING

    @property
    def seconds(self) -> float:
        """Expected for the work itself, without start-up."""
        return self.images * (self.sampled.read_s / FILES_AHEAD + self.sampled.score_s) / self.workers

    def lines(self) -> Iterator[str]:
        """For people: one figure per line."""
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
            f"time       {duration(self.seconds)} on {self.machines} in {self.backend},"
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
    request = open_request(manifest, model, out, settings)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        leftovers = find_leftovers(request.out, folder)
        pending = request.find_pending(folder, leftovers.paths)
        if not pending.images:
            return Forecast(0, pending.done)
        crew = find_crew([request], settings)
        plan = plan_run(request, "", pending, leftovers, crew)
        rest = plan.takeover.rest
        each = unit_images(rest.images, rest.image_bytes, settings.scoring.batch_images)
        sampled = NOTHING
        if uris := _spread(rest):
            task = _sample.options(**crew.workers.resources)
            with stall_reporter("image measured", needs=crew.workers.needs):
                sampled = result_of(task.remote(uris, replace(plan.session, decoders=0)))
    capacity = find_capacity()
    return Forecast(
        images=rest.images,
        done_before=pending.done,
        rescored=rest.rescored,
        taken_over=tuple(plan.takeover.lines()),
        size_bytes=rest.size_bytes,
        units=-(-rest.images // each),
        unit_images=each,
        workers=max(1, crew.workers.places(capacity)),
        machines=crew.workers.on(capacity),
        backend=plan.session.backend,
        sampled=sampled,
    )


def _spread(pending: Pending) -> list[str]:
    """URIs of some images, evenly over the rows left."""
    rows = PendingRows(str(pending.path))
    count = pending.images
    return [rows.read(start, 1)[0]["uri"] for start in range(0, count, -(-count // SAMPLE))] if count else []


@ray.remote
@returns_failures
def _sample(uris: list[str], config: SessionConfig) -> Sampled:
    with memory_advice(config):
        return _measure(uris, open_session(config))


def _measure(uris: list[str], session: WorkerSession) -> Sampled:
    """Fetch and score images one after the other.

    Raises:
        DataError: none of them can be scored.
    """
    read_s, score_s, tiles, pixels = [], [], [], []
    rejected, problem = 0, ""
    with session.sandbox() as sandbox:
        for number, uri in enumerate([uris[0], *uris]):  # the first one twice, to warm up
            started = time.perf_counter()
            try:
                content = read_bytes(uri)
                fetched = time.perf_counter()
                sandbox.require_decodable(content)
                decodable = time.perf_counter()
                result = session.scorer(content)
            except (DecodeError, OSError) as error:
                rejected, problem = rejected + bool(number), f"{uri}: {error}"
                continue
            if number:
                read_s.append(fetched - started)
                score_s.append(time.perf_counter() - decodable)
                tiles.append(len(result.tiling))
                pixels.append(result.tiling.height * result.tiling.width)
    if not tiles:
        raise DataError(f"none of the {len(uris)} images looked at can be scored; {problem}")
    means = [float(np.mean(values)) for values in (tiles, pixels, read_s, score_s)]
    return Sampled(len(uris), rejected, *means)


def _size(count: float) -> str:
    power = min(int(math.log10(max(count, 1))) // 3, 4)
    return f"{count / 1000**power:,.1f} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"
