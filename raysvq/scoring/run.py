"""One run on one score directory, on the driver: from its plan to its commit."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

from raysvq.data.manifest import Row
from raysvq.errors import AccountingError, ScoringError, StorageError
from raysvq.results import Commit, RunRecord, publish
from raysvq.results.reconcile import require_complete, write_run_ids
from raysvq.results.rewrite import rewrite_without
from raysvq.scoring.pending import Pending
from raysvq.scoring.plan import RunPlan
from raysvq.scoring.request import Request
from raysvq.scoring.spec import Job
from raysvq.scoring.summary import ScoreSummary
from raysvq.scoring.takeover import Leftovers, finished_folders
from raysvq.scoring.work import UnitReport, remove_work, stopped_uri
from raysvq.storage import join, write_bytes


@dataclass
class PartRun:
    """A run, and what is done of it so far."""

    request: Request
    pending: Pending
    leftovers: Leftovers
    plan: RunPlan
    max_seconds: float | None
    summary: ScoreSummary = field(init=False)
    job: Job = field(init=False)  # once it has begun
    units_left: int = 0  # likewise
    ended: bool = False  # no more reports count
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        """Count what is taken over from interrupted runs."""
        pending, taken = self.pending, self.plan.takeover
        run_id = self.plan.run.run_id
        self.summary = ScoreSummary(
            self.request.out, run_id, pending.images, pending.done, pending.rescored, taken.images
        )
        for report in taken.reports:
            self.summary.add(report)

    @property
    def work(self) -> str:
        """URI of the folder for what is done of it until it is committed."""
        return self.plan.run.folder(self.request.out)

    def begin(self, unit_images: int, alone: bool) -> None:
        """Put the rows to score in place, in units of so many.

        Args:
            alone: no other run is in the same Ray job.

        Raises:
            StorageError: the score directory may not be written.
        """
        rest = self.plan.takeover.rest
        self.units_left = -(-rest.images // unit_images)
        if self.units_left:
            self.plan.run.begin(self.request.out, rest.path)
        self.job = Job(
            session=self.plan.session,
            out=self.request.out,
            work=self.work,
            origin=tuple(self.plan.origin.items()),
            unit_images=unit_images,
            budget=self.plan.budget,
            alone=alone,
        )

    def add(self, report: UnitReport) -> None:
        """Count a work unit.

        Raises:
            ScoringError: more images are rejected, or its workers took longer, than the run may.
        """
        self.units_left -= 1
        self.summary.add(report)
        self.summary.spent.update(report.seconds)
        self.plan.budget.require(self.summary.rejects, report.example)
        spent = self.summary.spent.total()
        if self.max_seconds is not None and spent > self.max_seconds and self.units_left:
            raise ScoringError(
                f"its workers took {spent:.0f} s for {self.summary.done} of {self.summary.images} images,"
                f" more than `max_seconds`, which is {self.max_seconds:g}. Nothing was committed; the next"
                " run goes on where it was"
            )

    def stop(self) -> None:
        """Ask workers to pass by its units. Those that are finished wait for the next run."""
        self.ended = True
        with suppress(StorageError):  # it only saves work
            write_bytes(stopped_uri(self.work), b"")

    def commit(self, require_held: Callable[[], None]) -> int:
        """Account for every image and make the rows count; returns the number of the record.

        Args:
            require_held: raises where another process has taken over.

        Raises:
            AccountingError: scored and rejected rows do not add up to the images that were to be scored.
            DataError: another run has committed since.
            StorageError: the score directory may not be written.
        """
        commit = self._make_commit()
        require_held()
        publish(self.request.out, commit)
        remove_work([*finished_folders(self.leftovers, self.pending.path), self.work])
        self.summary.seconds = time.monotonic() - self.started
        return commit.version

    def _make_commit(self) -> Commit:
        """Account for every image, and write what the commit names beside the rows: overlays, old rows, ids.

        Where it does not add up, the work that the rows came of is removed, so that no run builds on it.
        """
        out, scoring, folder = self.request.out, self.request.settings.scoring, self.leftovers.folder
        summary, pending, plan = self.summary, self.pending, self.plan
        try:
            require_complete(out, summary.files, pending.path, folder)
        except AccountingError:
            remove_work([*(left.folder for left in self.leftovers.runs), self.work])
            raise
        drawn = self._draw_worst() if scoring.worst else []
        summary.heatmaps = [join(out, name) for name in drawn]
        version = pending.version + 1
        kept, replaced = rewrite_without(out, pending.rescored_ids(), pending.replaces, version)
        record = RunRecord(
            **plan.origin,
            created_at=datetime.now(UTC).isoformat(),
            images=summary.images,
            scored=summary.scored,
            rejected=summary.rejects.total(),
            run_ids=tuple(sorted({summary.run_id, *plan.takeover.run_ids})),
            heatmaps=tuple(drawn),
        )
        return Commit(
            version=version,
            runs=(record,),
            partition_by=scoring.partition_by,
            files=summary.files,
            kept=kept,
            replaced=replaced,
            ids=write_run_ids(out, version, pending.path, folder, self.request.digests()),
            settings=_resolved(self.request),
        )

    def _draw_worst(self) -> list[str]:
        """Write overlays of the highest scores; returns their names, worst first."""
        from raysvq.scoring.heatmaps import find_worst, write_worst  # bring PyTorch

        out, summary = self.request.out, self.summary
        worst = find_worst(out, summary.files["scores"], self.request.settings.scoring.worst)
        return write_worst(worst, summary.run_id, out, self.plan.session)


def _resolved(request: Request) -> Row:
    """The settings of a run: the model's own, and those of the job."""
    own = {"scoring": request.settings.scoring, "ray": request.settings.ray}
    resolved: Row = request.bundle.settings.model_copy(update=own).model_dump(mode="json")
    if request.fitted:
        resolved["decision"] = request.fitted.decisions.settings
    if request.region:
        resolved["region_of_interest"] = asdict(request.region) | {"digest": request.region_digest}
    return resolved
