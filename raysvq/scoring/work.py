"""What a run leaves below a score directory until it is committed, and how many rejections it may have.

_work/<run id>/pending.parquet   the rows it scores; a work unit is a range of them
_work/<run id>/run.json          what else its rows depend on; written when the rows are in place
_work/<run id>/begun/<n>         how often scoring was begun at row n
_work/<run id>/receipts/<n>.json the report of what was scored from row n on: of a unit, or of a part of it
_work/<run id>/stopped           no more units are wanted, in a job that goes on with other folders

A unit that takes long is written in parts, each with a receipt: what a killed worker had not written is lost.
The next part begins where the one before ends. Whoever writes the receipt at a row first says where that is.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from raysvq import __version__
from raysvq.data.manifest import Row
from raysvq.errors import ScoringError, StorageError
from raysvq.model.bundle_summary import BundleSummary
from raysvq.model.engines import Backend
from raysvq.results.format import Files, files_from_json, no_files
from raysvq.scoring.pending import OUTSIDE, PENDING
from raysvq.settings import ScoringSettings
from raysvq.storage import exists, join, list_objects, put_file, read_bytes, remove_folder, write_bytes

WORK = "_work"
_RUN, _RECEIPTS = "run.json", "receipts"


@dataclass(frozen=True)
class Run:
    """What decides whether another run may take over the units of this one."""

    run_id: str
    retry_rejected: bool
    depends_on: Row  # all that its rows depend on, beside the images
    version: int  # number of the newest commit when it began

    def folder(self, out: str) -> str:
        """URI of the folder with its work."""
        return join(out, WORK, self.run_id)

    def begin(self, out: str, rows: Path) -> str:
        """Put the rows to score in place; returns the folder."""
        folder = self.folder(out)
        put_file(rows, join(folder, PENDING))
        write_bytes(join(folder, _RUN), json.dumps(asdict(self)).encode())
        return folder


def provenance(bundle: BundleSummary, run_id: str, settings_digest: str, backend: Backend) -> Row:
    """The columns that say where a row came from; every row adds its own `scored_at`."""
    return {
        "run_id": run_id,
        "model_version": bundle.model_version,
        "model_digest": bundle.model_digest,
        "settings_digest": settings_digest,
        "code_version": __version__,
        "precision": backend.precision,
        "engine": backend.engine,
    }


def new_run(origin: Row, decisions_digest: str, scoring: ScoringSettings, version: int) -> Run:
    """A run that begins. `origin` has the provenance columns of its rows."""
    depends_on = {name: value for name, value in origin.items() if name != "run_id"}
    depends_on |= {"heatmaps": scoring.heatmaps, "decisions_digest": decisions_digest}
    return Run(origin["run_id"], scoring.retry_rejected, depends_on, version)


@dataclass(frozen=True)
class UnitReport:
    """What was done of a work unit, or of a part of it: also what its receipt holds."""

    token: str  # unique, so that a receipt belongs to one report
    first: int  # row of its first image; those of the others follow
    scored: int
    anomalous: int
    reasons: dict[str, int]  # rejected images by reason
    example: str  # of a rejection for reasons outside the image: URI and detail; empty where there is none
    files: Files
    seconds: dict[str, float]  # by step: read, score, rows, write

    @property
    def done(self) -> int:
        """Images that were scored or rejected."""
        return self.scored + sum(self.reasons.values())

    def to_json(self) -> str:
        """As text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> UnitReport:
        """Read what `to_json` wrote. Raises ValueError where it is damaged, or of another version."""
        try:
            values: dict[str, Any] = json.loads(text)
            report = cls(**values | {"files": files_from_json(values["files"])})
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"no report of a work unit: {error}") from None
        if not report.done:
            raise ValueError("no report of a work unit: it has no image")
        return report


def joined(reports: Sequence[UnitReport]) -> UnitReport:
    """One report of a unit's parts, in their order."""
    if len(reports) == 1:
        return reports[0]
    reasons, seconds = Counter[str](), Counter[str]()
    files = no_files()
    for report in reports:
        reasons.update(report.reasons)
        seconds.update(report.seconds)
        for kind, some in report.files.items():
            files[kind] += some
    return replace(
        reports[0],
        scored=sum(report.scored for report in reports),
        anomalous=sum(report.anomalous for report in reports),
        reasons=dict(reasons),
        example=next(filter(None, (report.example for report in reports)), ""),
        files=files,
        seconds=dict(seconds),
    )


def receipt_uri(folder: str, row: int) -> str:
    """Of what was scored from a row on."""
    return join(folder, _RECEIPTS, f"{row:012d}.json")


def read_receipt(folder: str, row: int) -> UnitReport | None:
    """The report of what was scored from a row on; None where there is none, or it was cut off.

    File systems without hard links leave such ones behind a process that was killed.
    """
    try:
        return UnitReport.from_json(read_bytes(receipt_uri(folder, row)))
    except (FileNotFoundError, ValueError):
        return None


def begun_uri(folder: str, row: int) -> str:
    """Of a row that some worker has begun at."""
    return join(folder, "begun", f"{row:012d}")


def stopped_uri(folder: str) -> str:
    """Of the sign that no more units are wanted."""
    return join(folder, "stopped")


def work_folders(out: str) -> dict[str, list[int]]:
    """URIs of the folders that runs have left, with the rows that their receipts begin at; oldest first."""
    above = join(out, WORK)
    found: defaultdict[str, list[int]] = defaultdict(list)
    for info in list_objects(above, must_exist=False):
        run_id, _, name = info.uri.removeprefix(f"{above}/").partition("/")
        rows = found[join(above, run_id)]
        kind, _, number = name.removesuffix(".json").partition("/")
        if kind == _RECEIPTS and name.endswith(".json") and number.isdecimal():
            rows.append(int(number))
    return {folder: sorted(found[folder]) for folder in sorted(found)}


def read_run(folder: str) -> Run | None:
    """The run that left a folder; None where it has not begun, was being removed, or is another version's."""
    if not all(exists(join(folder, name)) for name in (_RUN, PENDING)):
        return None
    with suppress(TypeError):
        return Run(**json.loads(read_bytes(join(folder, _RUN))))
    return None


def remove_work(folders: list[str]) -> None:
    """Remove work folders. One that the store keeps does no harm: its units are committed or not wanted."""
    for folder in folders:
        with suppress(StorageError):
            remove_folder(folder)


def outside(reasons: Mapping[str, int]) -> dict[str, int]:
    """Of the counts by reason those that say nothing of the images: the store, keys, machine, model."""
    return {reason: images for reason, images in reasons.items() if reason in OUTSIDE}


@dataclass(frozen=True)
class RejectBudget:
    """How many images a run may reject for reasons outside them before it stops."""

    images: int  # of the run
    max_rejected: float  # fraction of the images, `scoring.max_rejected`
    rejected_before: int = 0  # images among them that were rejected so before, and may be again

    @property
    def allowed(self) -> int:
        """Images; at least one where the fraction is not 0."""
        return self.rejected_before + math.ceil(round(self.max_rejected * self.images, 6))

    def allows(self, reasons: Mapping[str, int]) -> bool:
        """Whether these counts by reason are within it."""
        return sum(outside(reasons).values()) <= self.allowed

    def require(self, reasons: Mapping[str, int], example: str) -> None:
        """Raise ScoringError where it is exceeded. `example` is one of the rejections: URI and detail."""
        if self.allows(reasons):
            return
        found = outside(reasons)
        listed = ", ".join(f"{reason} {images}" for reason, images in sorted(found.items()))
        such = f", such as {example}" if example else ""
        raise ScoringError(
            f"{sum(found.values())} of the run's {self.images} images are rejected for reasons outside them"
            f" ({listed}){such}; setting `scoring.max_rejected`: {self.max_rejected:g} allows {self.allowed}."
            " Nothing was committed: mend the cause, and start the run again, it goes on where it was"
        )
