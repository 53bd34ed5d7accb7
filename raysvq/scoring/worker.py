"""The function, or on GPUs the actor, that turns manifest rows into result files.

On CPUs, Ray tasks do the work: one that is lost with its node runs again on whichever node has room,
and nodes that join take part. The session stays with the process from one task to the next.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from raysvq.data.manifest import Row
from raysvq.errors import ScoringError
from raysvq.imaging.decode import DecodeError
from raysvq.imaging.sandbox import Sandbox
from raysvq.model.scorer import ImageResult
from raysvq.results.writer import unit_name
from raysvq.runtime.failures import Failure, require_success, returns_failures
from raysvq.scoring.fetch import Content, fetch, in_groups
from raysvq.scoring.heatmaps import draw_heatmap
from raysvq.scoring.pending import PENDING, PendingRows
from raysvq.scoring.rows import RowBuffer, map_row, reject_row, require_finite, score_row
from raysvq.scoring.session import SessionConfig, WorkerSession, memory_advice
from raysvq.scoring.work import RejectBudget, UnitReport, begun_uri, read_receipt, receipt_uri
from raysvq.storage import create_file, exists, join, read_bytes, write_bytes

MAX_TRIES = 20  # of a work unit
WHOLE_TOGETHER = 16  # images encoded at once, where one is one tile


@dataclass(frozen=True)
class Job:
    """What every worker of a run needs to know."""

    session: SessionConfig
    out: str
    work: str  # URI of the folder with the pending rows and the receipts
    origin: tuple[tuple[str, str], ...]  # provenance columns of the run's rows
    unit_images: int
    budget: RejectBudget


def score_units(batch: dict[str, Any], job: Job) -> dict[str, list[str]]:
    """Score the work units whose numbers stand in the column `id` of a Ray Data batch.

    Returns:
        A batch with one row per unit, for `report_of`.
    """
    outcomes = [_score_unit(int(number), job) for number in batch["id"]]
    return {
        "error": [each.error if isinstance(each, Failure) else "" for each in outcomes],
        "text": [each.message if isinstance(each, Failure) else each.to_json() for each in outcomes],
    }


def report_of(row: dict[str, str]) -> UnitReport:
    """The report in a row that `score_units` made. Raises the RaysvqError that ended the unit."""
    failure = Failure(row["error"], row["text"]) if row["error"] else None
    return UnitReport.from_json(require_success(failure or row["text"]))


@returns_failures
def _score_unit(number: int, job: Job) -> UnitReport:
    with memory_advice(job.session):
        return _scorer(job).score(number)


class ScoringActor:
    """`score_units` for Ray's actors, which are made of a class."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """See `score_units`."""
        return score_units(batch, self.job)


class UnitScorer:
    """Scores one work unit after the other: fetches, decodes, scores, writes, and reports."""

    def __init__(self, job: Job) -> None:
        """Raises BundleError where the model was replaced since the run started."""
        self.job = job
        self.session = WorkerSession(job.session)
        self.origin = dict(job.origin)
        self.rows = PendingRows(join(job.work, PENDING))
        whole = self.session.bundle.settings.tiles.mode == "whole"
        self.group_images = WHOLE_TOGETHER if whole else max(1, 2 * job.session.decoders)

    def score(self, number: int) -> UnitReport:
        """Score a work unit and leave a receipt. A unit that has one was finished before, and is left alone.

        Raises:
            ScoringError: a unit was begun MAX_TRIES times, and none of its workers lived to end it; or more
                of its images alone are rejected than the run may reject.
        """
        if done := read_receipt(self.job.work, number):
            return done
        size = self.job.unit_images
        sources = self.rows.read(number * size, size)
        tries = self._begin(number, sources)
        report = self.score_images(sources, sandboxed=tries > 1)
        receipt, content = receipt_uri(self.job.work, number), report.to_json().encode()
        if not create_file(receipt, content):
            if done := read_receipt(self.job.work, number):  # a worker thought lost has ended the unit
                return done
            write_bytes(receipt, content)
        return report

    def _begin(self, number: int, sources: list[Row]) -> int:
        """Write down that the unit is begun; returns how often it was, this time included."""
        begun = begun_uri(self.job.work, number)
        tries = 1 + (int(read_bytes(begun)) if exists(begun) else 0)
        if tries > MAX_TRIES:
            raise ScoringError(
                f"the workers that scored {sources[0]['uri']} and the {len(sources) - 1} images after it died"
                f" {MAX_TRIES} times; see Ray's logs for why (memory?), and start the run again"
            )
        write_bytes(begun, str(tries).encode())
        return tries

    def score_images(self, sources: list[Row], sandboxed: bool) -> UnitReport:
        """Score a unit's images and write its files.

        Args:
            sources: their rows of the manifest.
            sandboxed: decode each image in a child process first. Set where the unit was begun before and
                did not end, perhaps because an image crashed its worker, or took it beyond the deadline.
        """
        folders = {source["image_id"]: source["folder"] for source in sources}
        rows = RowBuffer(self.job.out, unit_name(sources, self.origin), folders)
        clock = _Stopwatch()
        with self.session.sandbox() if sandboxed else nullcontext() as sandbox:
            for group in in_groups(fetch(sources), self.group_images):
                clock.lap("read")
                results = self._results([content for _, content in group], sandbox)
                clock.lap("score")
                for (source, content), result in zip(group, results, strict=True):
                    if isinstance(result, ImageResult):
                        self._add(source, content, result, rows)
                    else:
                        rows.add_reject(reject_row(source, result, self.origin))
                self.job.budget.require(rows.reasons, rows.example)
                clock.lap("rows")
        rows.write()
        clock.lap("write")
        return UnitReport(
            token=uuid.uuid4().hex,
            scored=rows.scored,
            anomalous=rows.anomalous,
            reasons=dict(rows.reasons),
            example=rows.example,
            files=rows.files,
            seconds=clock.seconds,
        )

    def _results(
        self, contents: Sequence[Content], sandbox: Sandbox | None
    ) -> list[ImageResult | DecodeError | OSError]:
        if sandbox:
            contents = [_decodable(content, sandbox) for content in contents]
        scored = self.session.scorer.score_many([each for each in contents if isinstance(each, bytes)])
        results = map(require_finite, scored)
        return [next(results) if isinstance(each, bytes) else each for each in contents]

    def _add(self, source: Row, content: Content, result: ImageResult, rows: RowBuffer) -> None:
        row = score_row(source, result, self.session.bundle.decisions, self.origin)
        if self.job.session.scoring.heatmaps == "anomalous" and row["is_anomalous"]:
            row["heatmap_uri"] = self._write_heatmap(source, content, result)
        rows.add_score(row)
        if source["keeps_map"]:
            rows.add_map(map_row(source, result))

    def _write_heatmap(self, source: Row, content: Content, result: ImageResult) -> str | None:
        assert isinstance(content, bytes)
        uri = join(self.job.out, "heatmaps", f"{source['image_id']}-{self.origin['run_id']}.jpg")
        try:
            with self.session.deadline:
                drawn = draw_heatmap(content, result, self.session)
        except DecodeError:  # scored in tiles, but too large to shrink
            return None
        write_bytes(uri, drawn)
        return uri


def _decodable(content: Content, sandbox: Sandbox) -> Content:
    """The content, or why the sandbox could not decode it."""
    if isinstance(content, bytes):
        try:
            sandbox.require_decodable(content)
        except DecodeError as error:
            return error
    return content


@lru_cache(maxsize=1)
def _scorer(job: Job) -> UnitScorer:
    return UnitScorer(job)


@dataclass
class _Stopwatch:
    """Seconds of a unit by step."""

    seconds: dict[str, float] = field(default_factory=dict)
    since: float = field(default_factory=time.perf_counter)

    def lap(self, step: str) -> None:
        """Count the time since the last lap for this step."""
        now = time.perf_counter()
        self.seconds[step] = self.seconds.get(step, 0.0) + now - self.since
        self.since = now
