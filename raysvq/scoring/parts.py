"""Many score directories in one Ray job: each a run of its own, with its own commit."""

from __future__ import annotations

import math
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from raysvq import log
from raysvq.errors import RaysvqError, ScoringError, first_line
from raysvq.results.format import new_run_id
from raysvq.runtime.cluster import find_capacity
from raysvq.runtime.failures import result_of
from raysvq.runtime.stall import stall_reporter
from raysvq.scoring.pending import Pending, look_up_done
from raysvq.scoring.plan import Crew, find_crew, line_up, plan_run, unit_images
from raysvq.scoring.request import Request
from raysvq.scoring.run import PartRun
from raysvq.scoring.stream import stream_units
from raysvq.scoring.summary import ScoreSummary
from raysvq.scoring.takeover import Leftovers, find_leftovers
from raysvq.scoring.work import UnitReport
from raysvq.settings import Settings

THREADS = 8  # runs that are prepared, or ended, at once on the driver
Found = TypeVar("Found")
HELD_S = 2.0  # for so long the answer of `require_held` counts


@dataclass(frozen=True)
class Part:
    """One score directory, and the images to score into it."""

    name: str  # for people, and to tell its outcome by
    request: Request
    pending: Pending  # one image at least; `version` is of the newest commit that it was made from
    max_seconds: float | None = None  # of all its workers; None: as long as it takes
    leftovers: Leftovers | None = None  # of interrupted runs; None: looked up


@dataclass(frozen=True)
class PartOutcome:
    """How a part ended: with a commit, or with a failure."""

    name: str
    summary: ScoreSummary | None  # None where it failed
    failure: RaysvqError | None  # why nothing is committed; finished work units wait for the next run
    version: int  # of the newest commit: its own, or where it failed the one before


def score_parts(
    parts: Sequence[Part],
    settings: Settings,
    require_held: Callable[[], None],
    run_id: str | None = None,
) -> Iterator[PartOutcome]:
    """Score all parts as one Ray job.

    Each part is committed as soon as its last image is done, before its outcome is yielded. What is wrong
    with one part ends that one alone.

    Args:
        parts: each with another score directory.
        settings: of scoring, storage and ray; the same for all.
        require_held: raises where another process has taken over; asked before commits.
        run_id: of the rows, in all parts; unlike that of any run before.

    Yields:
        One outcome for each part, in the order in which they end.

    Raises:
        SettingsError: the cluster cannot be reached, or cannot score as `scoring.device` says.
        DataError: as `require_held` raises.
    """
    with _Parts(parts, run_id or new_run_id(), require_held, alone=False) as all_parts:
        yield from all_parts.score(settings)


def score_alone(
    part: Part, settings: Settings, require_held: Callable[[], None], run_id: str
) -> ScoreSummary:
    """Score one part as a Ray job of its own. Raises what ends it."""
    with _Parts([part], run_id, require_held, alone=True) as all_parts:
        (outcome,) = all_parts.score(settings)
    assert outcome.summary is not None
    return outcome.summary


class _LostError(Exception):
    """Another process has taken over, as `error` says: of all parts, not of one."""

    def __init__(self, error: RaysvqError) -> None:
        super().__init__(str(error))
        self.error = error


class _Parts:
    """The parts of a job, on their way to their outcomes; each goes by its place in `parts`."""

    def __init__(
        self, parts: Sequence[Part], run_id: str, require_held: Callable[[], None], alone: bool
    ) -> None:
        """`alone`: there is one part, so what ends it ends the job."""
        self.parts, self.run_id, self.alone = parts, run_id, alone
        self._require_held = require_held
        self._held_at = -math.inf
        self._pool = ThreadPoolExecutor(1 if alone else THREADS)
        self._local = tempfile.TemporaryDirectory()
        self._ending: list[Future[PartOutcome]] = []

    def __enter__(self) -> _Parts:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._local.cleanup()

    def score(self, settings: Settings) -> Iterator[PartOutcome]:
        """See `score_parts`."""
        if not self.parts:
            return
        crew = find_crew([part.request for part in self.parts], settings)
        runs: dict[int, PartRun] = {}
        prepared = self._pool.map(partial(self._prepare, crew=crew), range(len(self.parts)))
        for at, found in enumerate(prepared):
            if isinstance(found, PartRun):
                runs[at] = found
            else:
                yield found
        log.info(_announce(list(runs.values()), crew, self.alone), "start", images=_images(runs.values()))
        for at, run in runs.items():
            if not run.units_left:
                self._end(at, run)
        if any(run.units_left for run in runs.values()):
            yield from self._stream(runs, crew)
        while self._ending:
            wait(self._ending, return_when=FIRST_COMPLETED)
            yield from self._ended()

    def _stream(self, runs: Mapping[int, PartRun], crew: Crew) -> Iterator[PartOutcome]:
        """Score what is left on the cluster, and end each part as its last unit is in."""
        places, some = list(runs), list(runs.values())
        units = [run.units_left for run in some]
        ordered = line_up(units, [run.plan.session.model_version for run in some])
        stream = stream_units([run.job for run in some], [(at, units[at]) for at in ordered], crew.workers)
        done = sum(run.summary.done for run in some)
        rejected = sum(run.summary.rejects.total() for run in some)
        meter = log.ProgressMeter(_images(some), before=done)
        stalls = stall_reporter("work unit finished", needs=crew.workers.needs)
        with stalls as alive, closing(stream):
            for at, unit in stream:
                alive.set()
                if some[at].ended:
                    continue
                report = self._report(places[at], some[at], unit)
                if isinstance(report, PartOutcome):
                    yield report
                    continue
                done += report.done
                rejected += sum(report.reasons.values())
                meter.update(done, rejected)
                if not some[at].units_left:
                    self._end(places[at], some[at])
                yield from self._ended()

    def _report(self, at: int, run: PartRun, unit: Any) -> UnitReport | PartOutcome:
        """The report of a work unit that has ended, counted, or how it ends its part."""

        def counted() -> UnitReport:
            report: UnitReport = result_of(unit)  # None only of a run that has ended
            run.add(report)
            return report

        found = self._isolated(at, counted)
        if isinstance(found, PartOutcome):
            run.stop()
        return found

    def _prepare(self, at: int, crew: Crew) -> PartRun | PartOutcome:
        part, folder = self.parts[at], Path(self._local.name, str(at))
        folder.mkdir()
        others = sum(each.pending.images for each in self.parts) - part.pending.images

        def prepared() -> PartRun:
            leftovers = part.leftovers or find_leftovers(part.request.out, folder)
            pending = part.pending
            unknown = bool(pending.rescored) and not pending.replaces
            if not part.leftovers and (unknown or leftovers.paths):
                pending = look_up_done(pending, part.request.out, folder, leftovers.paths)
            plan = plan_run(part.request, self.run_id, pending, leftovers, crew)
            run = PartRun(part.request, pending, leftovers, plan, part.max_seconds)
            rest, asked = plan.takeover.rest, part.request.settings.scoring.batch_images
            run.begin(unit_images(others + rest.images, rest.image_bytes, asked), self.alone)
            return run

        return self._isolated(at, prepared)

    def _end(self, at: int, run: PartRun) -> None:
        """Commit a part whose units are all in, beside the work on the others."""
        run.ended = True

        def committed() -> PartOutcome:
            version = run.commit(self._held)
            shutil.rmtree(Path(self._local.name, str(at)), ignore_errors=True)
            return PartOutcome(self.parts[at].name, run.summary, None, version)

        self._ending.append(self._pool.submit(self._isolated, at, committed))

    def _ended(self) -> Iterator[PartOutcome]:
        """Outcomes of the parts that have ended meanwhile."""
        ended = [ending for ending in self._ending if ending.done()]
        self._ending = [ending for ending in self._ending if ending not in ended]
        try:
            for ending in ended:
                yield ending.result()
        except _LostError as lost:
            raise lost.error from None

    def _isolated(self, at: int, call: Callable[[], Found]) -> Found | PartOutcome:
        """What a call gives, or the failure of its part."""
        try:
            return call()
        except _LostError:
            raise
        except Exception as error:
            if self.alone:
                raise
            unexpected = ScoringError(f"{type(error).__name__}: {first_line(error)}")
            failure = error if isinstance(error, RaysvqError) else unexpected
            part = self.parts[at]
            return PartOutcome(part.name, None, failure, part.pending.version)

    def _held(self) -> None:
        """Ask whether nobody has taken over, unless the answer is a moment old."""
        if time.monotonic() - self._held_at > HELD_S:
            try:
                self._require_held()
            except RaysvqError as error:
                raise _LostError(error) from None
            self._held_at = time.monotonic()


def _images(runs: Iterable[PartRun]) -> int:
    return sum(run.summary.images for run in runs)


def _announce(runs: Sequence[PartRun], crew: Crew, alone: bool) -> str:
    done, again = (sum(getattr(run.pending, name) for run in runs) for name in ("done", "rescored"))
    models = sorted({run.plan.session.model_version for run in runs})
    line = (
        f"scoring {_images(runs)} images{f', {again} of them again' if again else ''}"
        f"{'' if alone else f' into {len(runs)} folder(s)'} with model {', '.join(models)}"
        f" on {crew.workers.on(find_capacity())}"
        f" in {' and '.join(sorted(set(map(str, crew.backends.values()))))}"
        f"{f'; {done} are scored already' if done else ''}"
    )
    taken = [
        text if alone else f"{run.request.out}: {text}" for run in runs for text in run.plan.takeover.lines()
    ]
    return "\n".join([line, *taken])
