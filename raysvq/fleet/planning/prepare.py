"""What a run has to do: the cameras and their new images, before anything is scored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from raysvq import log
from raysvq.errors import DataError
from raysvq.fleet.listing.listing import Listing, list_fleet
from raysvq.fleet.night.unfinished import Noted
from raysvq.fleet.options import InspectOptions
from raysvq.fleet.planning.asked import Asked, ask
from raysvq.fleet.planning.missing import missing_cameras
from raysvq.fleet.planning.plan import CameraPlan, plan_night
from raysvq.fleet.settings.fleet import Fleet
from raysvq.settings import Settings

if TYPE_CHECKING:
    from raysvq.fleet.night.work import Requests


@dataclass(frozen=True)
class Prepared:
    """A run that may begin."""

    asked: Asked
    plans: Mapping[str, CameraPlan]  # by camera, those that were not found among them
    unlisted: Mapping[str, str]  # prefix whose cameras are not known -> why it could not be listed
    requests: Callable[[], Requests]  # what cameras are scored with; the first call imports Ray and PyTorch
    deletions: Callable[[], Iterator[pa.Table]]  # entries of images that are gone

    @property
    def pending(self) -> dict[str, CameraPlan]:
        """The cameras with something to score."""
        return {name: plan for name, plan in self.plans.items() if plan.pending and plan.pending.images}


def prepare(fleet: Fleet, options: InspectOptions, now: datetime, folder: Path, noted: Noted) -> Prepared:
    """List what may have changed, and compare it with the ledger.

    Args:
        folder: a local one, for what does not fit into memory.
        noted: cameras that runs before were about to commit when they were killed.

    Raises:
        DataError: two cameras claim one image, no camera fits `--only`, or the ledger is damaged or of
            a later version.
        StorageError: the ledger cannot be read or written.
    """
    asked = ask(fleet, options, now)

    @cache
    def requests() -> Requests:
        from raysvq.fleet.night.work import Requests

        return Requests(fleet.out, _settings(fleet))

    log.info(f"listing {fleet.name}, days up to {asked.night}", "stage")
    listing = list_fleet(fleet, asked.since, asked.night, folder, asked.only)
    for line in listing.skips.lines():
        log.info(line)
    listing = _with_model(listing, options.rescore)
    group_by = lambda camera: requests().group_by(camera)  # noqa: E731
    moved = bool(options.since) or any(run.templates_digest != fleet.templates_digest for run in asked.runs)
    plan = plan_night(fleet.out, listing, asked.since, asked.night, asked.known, group_by, folder, moved)
    plans = dict(plan.cameras)
    plans |= {missing.camera.name: missing for missing in missing_cameras(fleet, asked, listing, noted)}
    if options.only and not plans and not listing.failures:
        raise DataError(f"no camera of {fleet.file} fits --only {' '.join(options.only)}")
    unlisted = {name: why for name, why in listing.failures.items() if name not in plans}
    if not plans and not unlisted:
        days = f"{asked.since('')} to {asked.night}"
        unlisted = {
            fleet.file: f"no camera has an image of {days}; raysvq inspect --check says what is there"
        }
    return Prepared(asked, plans, unlisted, requests, plan.deletions)


def _with_model(listing: Listing, model: str | None) -> Listing:
    """With another model for all cameras, where one is given."""
    if model is None:
        return listing
    cameras = {name: replace(camera, model=model) for name, camera in listing.cameras.items()}
    return replace(listing, cameras=cameras)


def _settings(fleet: Fleet) -> Settings:
    """Results of a camera lie in a folder per date."""
    scoring = fleet.settings.scoring.model_copy(update={"partition_by": ("date",)})
    return fleet.settings.model_copy(update={"scoring": scoring})
