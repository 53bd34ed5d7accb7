"""The function, or on GPUs the actor, that turns manifest rows into result files.

On CPUs, Ray tasks do the work: one that is lost with its node runs again on whichever node has room,
and nodes that join take part. The model stays with the process from one task to the next.
"""

from __future__ import annotations

import json
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import cv2
import torch

from raysvq.errors import BundleError, RaysvqError, ScoringError
from raysvq.imaging.deadline import Deadline
from raysvq.imaging.decode import DecodeError
from raysvq.model.bundle import load_bundle
from raysvq.model.memory import is_out_of_memory
from raysvq.model.precision import Precision
from raysvq.model.scorer import ImageResult, ImageScorer
from raysvq.results.writer import unit_name
from raysvq.scoring.budget import Budget
from raysvq.scoring.fetch import Content, fetch, in_groups
from raysvq.scoring.heatmaps import draw_heatmap
from raysvq.scoring.pending import PENDING, PendingRows
from raysvq.scoring.rows import Row, map_row, reject_row, require_finite, score_row
from raysvq.scoring.trial import Trial, decode
from raysvq.scoring.unit import UnitRows
from raysvq.scoring.work import begun_uri, read_receipt, receipt_uri
from raysvq.settings import ScoringSettings, StorageSettings
from raysvq.storage import configure, create_file, exists, join, read_bytes, write_bytes

MOST_TRIES = 20  # of a work unit
WHOLE_TOGETHER = 16  # images encoded at once, where one is one tile


@dataclass(frozen=True)
class Job:
    """What every worker of a run needs to know."""

    model: str  # the bundle's folder
    out: str
    work: str  # where the pending rows and the receipts are
    origin: tuple[tuple[str, str], ...]  # provenance columns of the run's rows
    scoring: ScoringSettings
    storage: StorageSettings
    unit_images: int
    device: str
    precision: Precision
    budget: Budget
    decoders: int  # threads that decode beside a GPU; 0 on CPUs, where a worker is a CPU


def score_units(units: dict[str, Any], job: Job) -> dict[str, Any]:
    """Numbers of work units -> what was done, as one JSON text a unit, or why the run must end.

    Ray would hand an exception on without its type, and with a page of its own.
    """
    try:
        return _scorer(job)(units)
    except (RaysvqError, OSError) as error:
        name = type(error).__name__ if isinstance(error, RaysvqError) else "StorageError"
        return {"report": [json.dumps({"error": name, "says": str(error)})]}
    except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError
        if not is_out_of_memory(error):
            raise
        return {"report": [json.dumps({"error": ScoringError.__name__, "says": _no_memory(error, job)})]}


def _no_memory(error: BaseException, job: Job) -> str:
    on_cpu = " or scoring.image_memory_mib, or take fewer workers (ray.cpus)," if job.device == "cpu" else ""
    first = str(error).partition("\n")[0]
    return (
        f"a worker ran out of memory on {job.device}: lower scoring.tile_batch, which is"
        f" {job.scoring.tile_batch},{on_cpu} and start the run again ({first})"
    )


class Actor:
    """`score_units` for Ray's actors, which are made of a class."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def __call__(self, units: dict[str, Any]) -> dict[str, Any]:
        """See `score_units`."""
        return score_units(units, self.job)


class ScoreUnits:
    """Scores one work unit after the other: fetches, decodes, scores, writes, and hands back the tally."""

    def __init__(self, job: Job) -> None:
        """Raises BundleError where the model was replaced since the run started."""
        configure(job.storage, reached=True)
        if job.device == "cpu":
            torch.set_num_threads(1)
        cv2.setNumThreads(1)
        bundle = load_bundle(job.model)
        self.job = job
        self.origin = dict(job.origin)
        if bundle.model_version != self.origin["model_version"]:
            raise BundleError(f"{job.model} holds another model than when this run started; start it again")
        self.deadline = Deadline(job.scoring.decode_timeout_s)
        how = (job.scoring, job.device, job.precision, job.decoders, self.deadline)
        self.scorer = ImageScorer(bundle.model, bundle.settings, *how)
        tiles = bundle.settings.tiles
        self.decode = partial(decode, tiles=tiles, scoring=job.scoring)
        self.together = WHOLE_TOGETHER if tiles.mode == "whole" else max(1, 2 * job.decoders)
        self.reference = bundle.reference
        self.rows = PendingRows(join(job.work, PENDING))

    def __call__(self, units: dict[str, Any]) -> dict[str, Any]:
        """Numbers of work units -> what was done, as one JSON text a unit.

        A unit that has a receipt was finished before, and is not touched again.

        Raises:
            ScoringError: a unit was begun MOST_TRIES times, and none of its workers lived to end it.
        """
        return {"report": [self._unit(int(number)) for number in units["id"]]}

    def _unit(self, number: int) -> str:
        if done := read_receipt(self.job.work, number):
            return json.dumps(done)
        size = self.job.unit_images
        sources = self.rows.read(number * size, size)
        tries = self._begin(number, sources)
        report = json.dumps(self._score(sources, cautiously=tries > 1))
        receipt = receipt_uri(self.job.work, number)
        if not create_file(receipt, report.encode()):
            if done := read_receipt(self.job.work, number):  # a worker thought lost has ended the unit
                return json.dumps(done)
            write_bytes(receipt, report.encode())
        return report

    def _begin(self, number: int, sources: list[Row]) -> int:
        """Write down that the unit is begun; returns for which time."""
        begun = begun_uri(self.job.work, number)
        tries = 1 + (int(read_bytes(begun)) if exists(begun) else 0)
        if tries > MOST_TRIES:
            raise ScoringError(
                f"the workers that scored {sources[0]['uri']} and the {len(sources) - 1} images after it died"
                f" {MOST_TRIES} times; see Ray's logs for why (memory?), and start the run again"
            )
        write_bytes(begun, str(tries).encode())
        return tries

    def _score(self, sources: list[Row], cautiously: bool) -> dict[str, Any]:
        """Score a unit's images and write its files; returns counts and files.

        Args:
            cautiously: the unit was begun before and did not end, perhaps because an image crashed its
                worker, or took it beyond the deadline: try each in a process of its own first.

        Raises:
            ScoringError: more of its images alone are rejected than the run may reject.
        """
        folders = {source["image_id"]: source["folder"] for source in sources}
        rows = UnitRows(self.job.out, unit_name(sources, self.origin), folders)
        clock = _Clock()
        limit_s = self.job.scoring.decode_timeout_s
        with Trial(self.decode, limit_s) if cautiously else nullcontext() as trial:
            for group in in_groups(fetch(sources), self.together):
                clock.lap("read")
                results = self._results([content for _, content in group], trial)
                clock.lap("score")
                for (source, content), result in zip(group, results, strict=True):
                    if isinstance(result, ImageResult):
                        self._keep(source, content, result, rows)
                    else:
                        rows.add_reject(reject_row(source, result, self.origin))
                self.job.budget.require_kept(rows.reasons, rows.example)
                clock.lap("rows")
        rows.write()
        clock.lap("write")
        return rows.report() | {"seconds": clock.seconds}

    def _results(
        self, contents: list[Content], trial: Trial | None
    ) -> list[ImageResult | DecodeError | OSError]:
        judged = [_judged(content, trial) for content in contents]
        scored = self.scorer.score_many([each for each in judged if isinstance(each, bytes)])
        results = map(require_finite, scored)
        return [next(results) if isinstance(each, bytes) else each for each in judged]

    def _keep(self, source: Row, content: Content, result: ImageResult, rows: UnitRows) -> None:
        row = score_row(source, result, self.reference, self.origin)
        if self.job.scoring.heatmaps == "anomalous" and row["is_anomalous"]:
            row["heatmap_uri"] = self._heatmap(source, content, result)
        rows.add_score(row)
        if source["keeps_map"]:
            rows.add_map(map_row(source, result))

    def _heatmap(self, source: Row, content: Content, result: ImageResult) -> str | None:
        assert isinstance(content, bytes)
        uri = join(self.job.out, "heatmaps", f"{source['image_id']}-{self.origin['run_id']}.jpg")
        try:
            with self.deadline:
                drawn = draw_heatmap(content, result, self.reference.pixel_threshold, self.job.scoring)
        except DecodeError:  # scored in tiles, but too large to shrink
            return None
        write_bytes(uri, drawn)
        return uri


def _judged(content: Content, trial: Trial | None) -> Content:
    """The content, or why it cannot be used where a trial shows that."""
    if trial and isinstance(content, bytes):
        try:
            trial.require_survival(content)
        except DecodeError as error:
            return error
    return content


@lru_cache(maxsize=1)
def _scorer(job: Job) -> ScoreUnits:
    return ScoreUnits(job)


@dataclass
class _Clock:
    """Where a unit's time goes."""

    seconds: dict[str, float] = field(default_factory=dict)
    since: float = field(default_factory=time.perf_counter)

    def lap(self, what: str) -> None:
        """Count the time since the last lap."""
        now = time.perf_counter()
        self.seconds[what] = self.seconds.get(what, 0.0) + now - self.since
        self.since = now
