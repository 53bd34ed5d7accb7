"""A plant whose cameras land images, and whose nights are planned and committed, without a model."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raysvq.data.sources.folder_scan import Skips
from raysvq.fleet.listing.listing import LISTED, Listing
from raysvq.fleet.planning.committed import entries_of_commit
from raysvq.fleet.planning.plan import NightPlan, known_versions, plan_night
from raysvq.fleet.planning.windows import by_camera, window_of
from raysvq.fleet.settings.cameras import Camera
from raysvq.ledger.entries import append_entries
from raysvq.ledger.nights import read_nights, write_nights
from raysvq.ledger.records import CameraNight
from raysvq.ledger.runs import next_number, publish_run
from raysvq.results import Files, open_results, read_snapshot
from raysvq.results.format import no_files
from raysvq.results.rewrite import rewrite_without
from raysvq.results.writer import write_unit
from raysvq.scoring.pending import Pending
from raysvq.storage import image_id
from tests.commits import ORIGIN, prepare
from tests.ledger.test_records import RUN
from tests.results.history import reject, score

FIRST = date(2026, 5, 4)
LATENESS, CATCH_UP = 2, 10

Row = dict[str, Any]


class Killed(Exception):
    """The run ends here, as if killed."""


def nothing(step: str) -> None:
    """Go on."""


def kill_at(wanted: int) -> Callable[[str], None]:
    """Killed at the so many'th step."""
    steps: list[str] = []

    def step(name: str) -> None:
        steps.append(name)
        if len(steps) == wanted:
            raise Killed(name)

    return step


@dataclass
class Plant:
    """Images by camera and day; each is its version, a number."""

    folder: Path
    images: dict[tuple[str, date | None, str], int] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)  # URIs that are rejected as not found
    failures: dict[str, str] = field(default_factory=dict)  # cameras that cannot be listed
    cameras: set[str] = field(default_factory=set)
    today: date = FIRST
    runs: int = 0
    group_by: str | None = None

    @property
    def out(self) -> str:
        """The fleet's folder."""
        return str(self.folder / "fleet")

    def land(self, camera: str, *names: str, day: date | None = FIRST, version: int = 1) -> None:
        """Put images there, or replace them."""
        self.cameras.add(camera)
        for name in names:
            self.images[camera, day, name] = version

    @staticmethod
    def uri(camera: str, day: date | None, name: str) -> str:
        """Of an image."""
        return f"/raw/{camera}/{day}/{name}.png"

    def rows(self, since: Callable[[str], date]) -> list[Row]:
        """What a listing of the window finds."""
        return [
            {
                "camera": camera,
                "date": day,
                "image_id": image_id(uri := self.uri(camera, day, name)),
                "uri": uri,
                "size_bytes": version,
                "etag": f"e{version}",
                "mtime": datetime(2026, 5, 4, tzinfo=UTC) + timedelta(hours=version),
                "captured_at": None,
                "meta": {"camera": camera, "recipe": name[0]},
            }
            for (camera, day, name), version in self.images.items()
            if camera not in self.failures and (day is None or since(camera) <= day <= self.today)
        ]

    def camera(self, name: str) -> Camera:
        """As the fleet's file would say it."""
        return Camera(name, (("camera", name),), "model")

    def plan(self, folder: Path) -> NightPlan:
        """A night's plan, from its own listing."""
        history = read_nights(self.out)
        nights = by_camera(history)

        def since(camera: str) -> date:
            return window_of(nights.get(camera, []), self.today, LATENESS, CATCH_UP).since

        path = folder / "listed.parquet"
        pq.write_table(pa.Table.from_pylist(self.rows(since), schema=LISTED), path)
        cameras = {name: self.camera(name) for name in sorted(self.cameras)}
        listing = Listing(path, cameras, {}, self.failures, Skips())
        return plan_night(
            self.out,
            listing,
            since,
            self.today,
            known_versions(history),
            lambda camera: self.group_by,
            folder,
        )

    def inspect(
        self, step: Callable[[str], None] = nothing, only: Collection[str] | None = None
    ) -> NightPlan:
        """A run from end to end; `step` is called between any two writes."""
        self.runs += 1
        run_id = f"run-{self.runs}"
        with tempfile.TemporaryDirectory() as name:
            history = read_nights(self.out)
            plan = self.plan(Path(name))
            nights = []
            for camera, each in plan.cameras.items():
                version = each.version
                if each.pending and (only is None or camera in only):
                    folder = each.camera.folder(self.out)
                    step(f"before the commit of {camera}")
                    version = self.commit(folder, each.pending, run_id)
                    step(f"after the commit of {camera}")
                    for table in entries_of_commit(camera, folder, version):
                        for row in table.to_pylist():
                            append_entries(self.out, pa.Table.from_pylist([row], schema=table.schema))
                            step(f"after an entry of {camera}")
                window = window_of(by_camera(history).get(camera, []), self.today, LATENESS, CATCH_UP)
                listed = None if camera in self.failures else window
                nights.append(
                    CameraNight(
                        camera,
                        run_id,
                        self.today.isoformat(),
                        "failed" if each.failure else "ok",
                        dict(each.camera.fields),
                        listed_since=listed and listed.since.isoformat(),
                        listed_until=listed and listed.until.isoformat(),
                        version=version,
                        skipped=each.pending.images
                        if each.pending and not (only is None or camera in only)
                        else 0,
                    )
                )
            for table in plan.deletions():
                append_entries(self.out, table)
            step("before the nights")
            number = next_number(self.out)
            write_nights(self.out, number, nights)
            step("after the nights")
            publish_run(self.out, replace(RUN, number=number, run_id=run_id))
            return plan

    def commit(self, out: str, pending: Pending, run: str) -> int:
        """Write rows for what is pending and commit them; returns the version."""
        files: Files = no_files()
        for row in pq.read_table(pending.path).to_pylist():
            source = {name: row[name] for name in ("image_id", "uri", "size_bytes", "etag", "mtime")}
            rejected = row["uri"] in self.broken
            tables: dict[str, list[Row]] = {
                "scores": [] if rejected else [score(row["uri"], run) | source],
                "rejects": [reject(row["uri"], run) | source | {"reason": "not_found"}] if rejected else [],
            }
            name = f"{run}-{row['image_id']}"
            for kind, some in write_unit(out, name, tables, {row["image_id"]: row["folder"]}).items():
                files[kind] += some
        version = read_snapshot(out).version + 1
        assert version == pending.version + 1
        kept, replaced = rewrite_without(out, pending.rescored_ids(), pending.replaces, version)
        prepare(out, ORIGIN | {"run_id": run}, files, kept, replaced, ("date",))()
        return version

    def results(self) -> dict[str, list[tuple[str, int]]]:
        """Camera -> the rows that readers see: URI and version of each image."""
        found = {}
        for camera in sorted(self.cameras):
            folder = self.camera(camera).folder(self.out)
            rows = []
            if read_snapshot(folder).commits:
                for kind in ("scores", "rejects"):
                    rows += open_results(folder, kind).to_table(["uri", "size_bytes"]).to_pylist()
            found[camera] = sorted((row["uri"], row["size_bytes"]) for row in rows)
        return found

    def expected(self) -> dict[str, list[tuple[str, int]]]:
        """The same, if each image is scored once per its last version."""
        found: dict[str, list[tuple[str, int]]] = {camera: [] for camera in sorted(self.cameras)}
        for (camera, day, name), version in self.images.items():
            found[camera].append((self.uri(camera, day, name), version))
        return {camera: sorted(rows) for camera, rows in found.items()}
