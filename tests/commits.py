"""Commits scoring runs without scoring: for tests of what reads, counts and rewrites results."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from raysvq.results import Commit, Files, RunRecord, publish, read_snapshot
from raysvq.results.format import count_rows, no_files
from raysvq.results.reconcile import rebuild_ids

ORIGIN = {
    "run_id": "run-1",
    "model_version": "m-1",
    "model_digest": "d1",
    "settings_digest": "5e77",
    "code_version": "0.1.0",
    "precision": "float32",
}

SETTINGS = {"scoring": {"precision": "float32"}}


def prepare(
    out: str,
    origin: dict[str, Any],
    files: Files,
    kept: Files | None = None,
    replaced: dict[str, str | None] | None = None,
    partition_by: tuple[str, ...] = (),
) -> Callable[[], str]:
    """Write the ids of a run's files; returns what publishes them."""
    version = read_snapshot(out).version + 1
    run = RunRecord(
        **origin,
        created_at=datetime.now(UTC).isoformat(),
        images=count_rows(files),
        scored=sum(file.rows for file in files["scores"]),
        rejected=sum(file.rows for file in files["rejects"]),
        run_ids=(origin["run_id"],),
    )
    with tempfile.TemporaryDirectory() as folder:
        ids = rebuild_ids(out, files, version, Path(folder), out, f"{version:020d}")
    commit = Commit(version, (run,), partition_by, files, kept or no_files(), replaced or {}, ids, SETTINGS)
    return lambda: publish(out, commit)


def commit_run(out: str, origin: dict[str, Any], files: Files, **more: Any) -> str:
    """Write ids and record of a run; keywords as in `prepare`."""
    return prepare(out, origin, files, **more)()
