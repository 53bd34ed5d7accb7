"""The bookkeeper of the rehearsal: what was uploaded, and whether the results say the same.

It keeps its own log and asks no ledger what there is to find.
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter, defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow.parquet as pq

from devtools.rehearsal.script import Camera, Script, Shot
from devtools.rehearsal.site import OUT
from devtools.s3_server import BUCKET
from raysvq.results import open_results, read_snapshot
from raysvq.storage import join, list_objects, read_bytes

SCORED = "scored"
_READERS = 8
_COLUMNS = ["image_id", "uri", "etag", "size_bytes", "model_version", "run_id"]


@dataclass(frozen=True)
class Version:
    """An image as it was last uploaded."""

    night: int  # of the upload
    md5: str
    size: int
    broken: bool


@dataclass(frozen=True)
class Found:
    """A row of the results of a camera."""

    image_id: str
    etag: str
    size: int
    outcome: str  # SCORED, or the reason of a reject row
    model: str
    run_id: str


Rows = dict[str, list[Found]]  # of a camera, by URI
Entries = dict[tuple[str, str], dict[str, Any]]  # of the ledger, by camera and image id


@dataclass
class Bookkeeper:
    """Logs uploads and promotions, and compares the results with them."""

    script: Script
    log: dict[Camera, dict[str, Version]] = field(default_factory=lambda: defaultdict(dict))  # by URI
    champions: dict[str, list[tuple[int, str]]] = field(
        default_factory=dict
    )  # product -> (from this night, version)
    seen: dict[str, tuple[str, str]] = field(default_factory=dict)  # URI -> (ETag, run) of the last audit

    def upload(self, shot: Shot, content: bytes, night: int) -> None:
        """Note an upload; the same bytes again are no new version."""
        uri = f"s3://{BUCKET}/{shot.key(self.script.first)}"
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        known = self.log[shot.camera].get(uri)
        if known is None or known.md5 != md5:
            self.log[shot.camera][uri] = Version(night, md5, len(content), shot.kind == "broken")

    def promote(self, product: str, version: str, night: int) -> None:
        """From this night on, a model is in force."""
        self.champions.setdefault(product, []).append((night, version))

    def new_in(self, night: int) -> int:
        """Images that a run of this night is to score or reject."""
        return sum(
            self.script.found_in(camera, version.night) == night
            for camera, images in self.log.items()
            for version in images.values()
        )

    def audit(self, night: int) -> Counter[str]:
        """How many images differ, and in what, after a night's run."""
        with ThreadPoolExecutor(_READERS) as pool:
            rows = dict(zip(self.log, pool.map(lambda camera: read_rows(camera.name), self.log), strict=True))
        return self.compare(rows, read_entries(), night)

    def compare(self, rows: Mapping[Camera, Rows], entries: Entries, night: int) -> Counter[str]:
        """`audit`, of rows and entries that were read."""
        differs: Counter[str] = Counter()
        for camera, found in rows.items():
            self._compare(camera, found, night, differs)
        differs["ledger"] = _compare_ledger({camera.name: found for camera, found in rows.items()}, entries)
        self.seen = {
            uri: (row.etag, row.run_id) for found in rows.values() for uri, [row, *_] in found.items()
        }
        return +differs

    def _compare(self, camera: Camera, found: Rows, night: int, differs: Counter[str]) -> None:
        """Count what of a camera's rows is not as it must be."""
        due = {
            uri: version
            for uri, version in self.log[camera].items()
            if self.script.found_in(camera, version.night) <= night
        }
        differs["lost"] += len(due.keys() - found.keys())
        differs["unknown"] += len(found.keys() - self.log[camera].keys())
        for uri, rows in found.items():
            differs["twice"] += len(rows) - 1
            version, row = due.get(uri), rows[0]
            if version is None:  # its last version is not to be seen yet
                continue
            if (row.etag.strip('"'), row.size) != (version.md5, version.size):
                differs["old version"] += 1
                continue
            differs["wrong outcome"] += (row.outcome != SCORED) != version.broken
            wanted = self._in_force(camera.product, self.script.found_in(camera, version.night))
            differs["wrong model"] += row.model != wanted
            etag, run = self.seen.get(uri, (None, None))
            differs["scored again"] += etag == row.etag and run != row.run_id

    def _in_force(self, product: str, night: int) -> str:
        return [version for since, version in self.champions[product] if since <= night][-1]


def read_rows(camera: str) -> Rows:
    """All committed rows of a camera, by URI."""
    out = join(OUT, "cameras", camera)
    rows: Rows = defaultdict(list)
    if not read_snapshot(out).commits:
        return rows
    for kind, outcome in (("scores", []), ("rejects", ["reason"])):
        for row in open_results(out, kind).to_table(columns=_COLUMNS + outcome).to_pylist():
            rows[row["uri"]].append(
                Found(
                    row["image_id"],
                    row["etag"] or "",
                    row["size_bytes"],
                    row.get("reason", SCORED),
                    row["model_version"],
                    row["run_id"],
                )
            )
    return rows


def read_entries(out: str = OUT) -> Entries:
    """The newest entry of a ledger for each camera and image id, by version and time of the commit."""
    newest: Entries = {}
    files = [info.uri for info in list_objects(join(out, "ledger", "entries"), must_exist=False)]
    with ThreadPoolExecutor(_READERS) as pool:
        for rows in pool.map(_read_file, (uri for uri in files if uri.endswith(".parquet"))):
            for row in rows:
                known = newest.get((row["camera"], row["image_id"]))
                if known is None or _age(known) < _age(row):
                    newest[row["camera"], row["image_id"]] = row
    return newest


def _read_file(uri: str) -> list[dict[str, Any]]:
    return pq.read_table(io.BytesIO(read_bytes(uri))).to_pylist()


def _age(entry: dict[str, Any]) -> tuple[int, Any]:
    return entry["version"], entry["committed_at"]


def _compare_ledger(rows: Mapping[str, Rows], entries: Entries) -> int:
    """Images of which ledger and results say different things, or one of them nothing."""
    results = {
        (camera, row.image_id): (row.etag, row.outcome, row.model, row.run_id)
        for camera, found in rows.items()
        for each in found.values()
        for row in each
    }
    ledger = {
        key: (entry["etag"] or "", entry["outcome"], entry["model_version"], entry["run_id"])
        for key, entry in entries.items()
        if entry["outcome"] != "deleted"
    }
    return len(dict(results.items() ^ ledger.items()))
