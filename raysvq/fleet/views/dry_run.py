"""What a night would do, camera by camera, and how long it may take."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from raysvq.fleet.listing.listing import named
from raysvq.fleet.options import InspectOptions
from raysvq.fleet.planning.plan import CameraPlan
from raysvq.fleet.planning.prepare import prepare
from raysvq.fleet.rescoring import to_rescore
from raysvq.fleet.settings.fleet import Fleet
from raysvq.fleet.views.columns import aligned
from raysvq.log import duration
from raysvq.storage import configure

_HEAD = ("camera", "days", "listed", "new", "replaced", "gone", "again", "to score", "MB", "model")


@dataclass(frozen=True)
class DryRun:
    """What would be done."""

    plans: Mapping[str, CameraPlan]
    days: Mapping[str, str]  # of each camera, as text
    unlisted: Mapping[str, str]  # prefix -> why it cannot be listed
    images_per_s: float | None  # of earlier runs; None: there was none

    @property
    def images(self) -> int:
        """To score."""
        return sum(plan.pending.images for plan in self.plans.values() if plan.pending)

    @property
    def size_bytes(self) -> int:
        """Of their files."""
        return sum(plan.pending.size_bytes for plan in self.plans.values() if plan.pending)

    def lines(self) -> Iterator[str]:
        """A table, and what it comes to."""
        rows = [_HEAD, *(_cells(plan, self.days[name]) for name, plan in sorted(self.plans.items()))]
        yield from aligned(rows, range(2, 9))
        failures = {name: plan.failure for name, plan in self.plans.items() if plan.failure}
        yield from (named(name, why) for name, why in (failures | dict(self.unlisted)).items())
        models = {plan.camera.model for plan in self.plans.values() if plan.pending}
        yield (
            f"{self.images:,} images of {self.size_bytes / 1e6:,.1f} MB to score at"
            f" {len(self.plans)} cameras, with {len(models)} model(s)"
        )
        if self.images and self.images_per_s:
            seconds = self.images / self.images_per_s
            yield f"about {duration(seconds)}, at {self.images_per_s:,.1f} images/s as in the last runs"
        elif self.images:
            yield "no run has scored yet, so nothing is known of the time"


def dry_run(fleet: Fleet, options: InspectOptions) -> DryRun:
    """Look at what `inspect` would do. It only enters into the ledger what cameras have committed already.

    Raises:
        RaysvqError: as `raysvq.fleet.inspect.inspect`, before it scores.
    """
    configure(fleet.settings.storage)
    fleet, options = to_rescore(fleet, options)
    with tempfile.TemporaryDirectory() as name:
        prepared = prepare(fleet, options, datetime.now(UTC), Path(name), {})
    paces = [run.images_per_s for run in prepared.asked.runs if run.images_per_s]
    windows = {camera: prepared.asked.window_of(camera) for camera in prepared.plans}
    days = {camera: f"{window.since} to {window.until}" for camera, window in windows.items()}
    return DryRun(prepared.plans, days, prepared.unlisted, statistics.median(paces) if paces else None)


def _cells(plan: CameraPlan, days: str) -> tuple[str, ...]:
    images, size = (plan.pending.images, plan.pending.size_bytes) if plan.pending else (0, 0)
    counts = (plan.listed, plan.new, plan.replaced, plan.deleted, plan.retried, images)
    numbers = (f"{count:,}" for count in counts)
    return (plan.camera.name, days, *numbers, f"{size / 1e6:,.1f}", plan.camera.model)
