"""Scoring under attack, the short form of `make chaos`: nothing is lost, doubled or changed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_what_is_killed_loses_and_doubles_nothing(tmp_path: Path) -> None:
    figures = tmp_path / "chaos.json"
    command = [sys.executable, "-m", "benchmarks.chaos", "--runs", "1", "--images", "40", "--outage", "3"]
    command += ["--devices", "cpu", "--json", str(figures)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    tallies = json.loads(figures.read_text())
    assert [tally["attack"] for tally in tallies] == ["driver", "worker", "node", "store"]
    unharmed = {"runs": 1, "lost": 0, "twice": 0, "other": 0, "failed": []}
    for tally in tallies:
        assert {name: tally[name] for name in unharmed} == unharmed, tally["attack"]
