"""Scoring runs of a night: commands in processes of their own, and the rows that they leave."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from raysvq.results import open_results, read_snapshot

WAIT_S = 600

Rows = dict[str, float | str]  # image id -> score, or the reason of its rejection


@dataclass(frozen=True)
class Runs:
    """What `raysvq score` is asked to do, each time on a Ray cluster of its own."""

    manifest: str
    model: str
    settings: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)

    def score(self, out: str) -> subprocess.CompletedProcess[str]:
        """Score into a folder. Raises TimeoutExpired where that takes more than WAIT_S seconds."""
        command = [sys.executable, "-c", "from raysvq.cli import main; main()", "score", self.manifest]
        command += ["--model", self.model, "--out", out]
        command += [part for setting in self.settings for part in ("--set", setting)]
        outside = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        return subprocess.run(
            command,
            env=outside | {**self.environment},
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )


def committed(out: str) -> tuple[Rows, int]:
    """What readers see of a folder, and how many of its rows are of an image that has one already."""
    if not read_snapshot(out).commits:
        return {}, 0
    scored = open_results(out, "scores").to_table(columns=["image_id", "image_score"]).to_pylist()
    rejected = open_results(out, "rejects").to_table(columns=["image_id", "reason"]).to_pylist()
    found: Rows = {row["image_id"]: row["image_score"] for row in scored}
    found |= {row["image_id"]: row["reason"] for row in rejected}
    return found, len(scored) + len(rejected) - len(found)


def last_words(ended: subprocess.CompletedProcess[str]) -> str:
    """What a run said at its end."""
    said = (ended.stderr.strip() or ended.stdout.strip() or "nothing").splitlines()[-1]
    return f"exit code {ended.returncode}: {said}"
