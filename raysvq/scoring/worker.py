"""From a work unit's rows of the manifest to result files, in a process that keeps its session for more."""

from __future__ import annotations

import time
import traceback
import uuid
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from raysvq.data.manifest import Row
from raysvq.errors import ScoringError, first_line
from raysvq.imaging.decode import DecodeError
from raysvq.imaging.sandbox import Sandbox
from raysvq.model.scorer import ImageResult
from raysvq.results.writer import unit_name
from raysvq.runtime.failures import Failure, returns_failures
from raysvq.scoring.fetch import Content, fetch, in_groups
from raysvq.scoring.heatmaps import draw_heatmap
from raysvq.scoring.pending import PENDING, PendingRows
from raysvq.scoring.rows import RowBuffer, map_row, reject_row, require_finite, score_row
from raysvq.scoring.session import memory_advice, open_session
from raysvq.scoring.spec import Job
from raysvq.scoring.work import (
    UnitReport,
    begun_uri,
    joined,
    read_receipt,
    receipt_uri,
    stopped_uri,
)
from raysvq.storage import configure, create_file, exists, join, read_bytes, write_bytes

PART_S = 60.0  # after which what is scored of a unit is written: what a killed worker loses, about
WHOLE_TOGETHER = 16  # images encoded at once, where one is one tile


def score_unit(job: Job, number: int) -> UnitReport | Failure | None:
    """Score a work unit, in this process.

    Beside other runs an error of any kind ends this one alone.

    Returns:
        Its report; what ended it; or None of a unit that was not wanted any more.
    """
    try:
        return _score_unit(number, job)
    except Exception as error:
        if job.alone:
            raise
        where = traceback.extract_tb(error.__traceback__)[-1]
        name = f"{Path(where.filename).name}:{where.lineno}"
        return Failure("ScoringError", f"{type(error).__name__}: {first_line(error)} ({name})")


@returns_failures
def _score_unit(number: int, job: Job) -> UnitReport | None:
    with memory_advice(job.session):
        configure(job.session.storage, reached=True)
        if not job.alone and exists(stopped_uri(job.work)):
            return None
        return _scorer(job).score(number)


class UnitScorer:
    """Scores one work unit after the other: fetches, decodes, scores, writes, and reports."""

    def __init__(self, job: Job) -> None:
        """Raises BundleError where the model was replaced since the run started."""
        self.job = job
        self.session = open_session(job.session)
        self.origin = dict(job.origin)
        self.rows = PendingRows(join(job.work, PENDING))
        whole = self.session.bundle.settings.tiles.mode == "whole"
        self.group_images = WHOLE_TOGETHER if whole else max(1, 2 * job.session.decoders)

    def score(self, number: int) -> UnitReport:
        """Score a work unit and leave receipts. What has one was finished before, and is left alone.

        Raises:
            ScoringError: the same images were begun too often, and none of their workers lived to end them;
                or more of the unit's images alone are rejected than the run may reject.
        """
        first = number * self.job.unit_images
        sources = self.rows.read(first, self.job.unit_images)
        reports: list[UnitReport] = []
        done = 0
        while done < len(sources):
            reports.append(self._score_part(first + done, sources[done:]))
            done += reports[-1].done
        return joined(reports)

    def _score_part(self, first: int, sources: list[Row]) -> UnitReport:
        """The report of some rows, from the first on: of all, or of as many as PART_S allows."""
        if done := read_receipt(self.job.work, first):
            return done
        tries = self._begin(first, sources)
        report = self.score_images(first, sources, sandboxed=tries > 1)
        receipt, content = receipt_uri(self.job.work, first), report.to_json().encode()
        if not create_file(receipt, content):
            if done := read_receipt(self.job.work, first):  # a worker thought lost has ended the part
                return done
            write_bytes(receipt, content)
        return report

    def _begin(self, first: int, sources: list[Row]) -> int:
        """Write down that scoring is begun at a row; returns how often it was, this time included."""
        begun = begun_uri(self.job.work, first)
        tries = 1 + (int(read_bytes(begun)) if exists(begun) else 0)
        if tries > self.job.max_tries:
            raise ScoringError(
                f"the workers that scored {sources[0]['uri']} and the {len(sources) - 1} images after it died"
                f" {self.job.max_tries} times; see Ray's logs for why (memory?), and start the run again"
            )
        write_bytes(begun, str(tries).encode())
        return tries

    def score_images(self, first: int, sources: list[Row], sandboxed: bool) -> UnitReport:
        """Score images for PART_S, or until all are scored, and write their files.

        Args:
            first: row of the first of them.
            sources: their rows of the manifest.
            sandboxed: decode each image in a child process first. Set where scoring was begun here before and
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
                if clock.total > PART_S:
                    break
        rows.write()
        clock.lap("write")
        return UnitReport(
            token=uuid.uuid4().hex,
            first=first,
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

    @property
    def total(self) -> float:
        """Of all steps."""
        return sum(self.seconds.values())

    def lap(self, step: str) -> None:
        """Count the time since the last lap for this step."""
        now = time.perf_counter()
        self.seconds[step] = self.seconds.get(step, 0.0) + now - self.since
        self.since = now
