"""Scoring that is killed and started again, or over more images: what was finished is not done anew."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from devtools.untrained import untrained_bundle
from raysvq.data.index import build_index
from raysvq.errors import DataError
from raysvq.model.bundle import save_bundle
from raysvq.results import open_results, read_commits, read_scores
from raysvq.sample import write_sample
from raysvq.scoring.job import score
from raysvq.scoring.summary import ScoreSummary
from raysvq.scoring.work import UnitReport
from raysvq.settings import Settings, load_settings

WAIT_S = 120
OVERRIDES = ["model.hidden=32", "scoring.batch_images=2"]
Rows = dict[str, float | str]  # image id -> score, or the reason of its rejection


@dataclass(frozen=True)
class Setup:
    """A manifest, a model, and the rows of a run that nothing disturbed."""

    folder: Path
    manifest: str
    model: str
    settings: Settings
    undisturbed: Rows

    def score(self, out: Path) -> ScoreSummary:
        return score(self.manifest, self.model, str(out), self.settings)


@pytest.fixture(scope="module")
def setup(small_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Setup:
    folder = tmp_path_factory.mktemp("resume")
    settings = load_settings(None, OVERRIDES)
    manifest, model = str(folder / "manifest.parquet"), str(folder / "model")
    build_index(write_sample(folder / "sample", normal=60, anomalous=4), manifest, settings.split)
    save_bundle(untrained_bundle(settings, threshold=1.0), model)
    score(manifest, model, str(folder / "undisturbed"), settings)
    return Setup(folder, manifest, model, settings, _rows(folder / "undisturbed"))


def _rows(out: Path) -> Rows:
    scored = read_scores(str(out)).to_pylist()
    rejected = open_results(str(out), "rejects").to_table().to_pylist()
    found: Rows = {row["image_id"]: row["image_score"] for row in scored}
    found |= {row["image_id"]: row["reason"] for row in rejected}
    assert len(found) == len(scored) + len(rejected)
    return found


def _receipts(out: Path) -> list[Path]:
    return [path for path in out.glob("_work/*/receipts/*.json") if not path.name.startswith(".")]


def _wait_for(what: str, condition: object) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, f"waited {WAIT_S} s for {what}"
        time.sleep(0.01)


def test_a_run_started_again_keeps_what_was_finished(setup: Setup, tmp_path: Path) -> None:
    out = tmp_path / "scores"
    command = [sys.executable, "-c", "from raysvq.cli import main; main()", "score", setup.manifest]
    command += ["--model", setup.model, "--out", str(out), "--set", "ray.object_store_mib=256"]
    command += [part for setting in OVERRIDES for part in ("--set", setting)]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for("three finished work units", lambda: len(_receipts(out)) >= 3)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    time.sleep(2)  # the workers of a driver that is gone end by themselves
    kept = {path: path.read_text() for path in _receipts(out)}
    assert 3 <= len(kept) < len(setup.undisturbed) / 2
    with pytest.raises(DataError, match="no finished scoring run"):
        read_scores(str(out))
    reports = map(UnitReport.from_json, kept.values())
    files = [out / file.name for report in reports for file in report.files["scores"]]
    written = {file: file.stat().st_mtime_ns for file in files}

    summary = setup.score(out)

    assert _rows(out) == setup.undisturbed
    assert (summary.images, summary.taken_over) == (len(setup.undisturbed), 2 * len(kept))
    assert {file: file.stat().st_mtime_ns for file in files} == written
    (commit,) = read_commits(str(out))
    assert set(read_scores(str(out))["run_id"].to_pylist()) == set(commit.runs[0].run_ids)
    assert len(commit.runs[0].run_ids) == 2
    assert not list(out.glob("_work/*"))


def test_a_grown_manifest_scores_only_what_is_new(setup: Setup, tmp_path: Path) -> None:
    table = pq.read_table(setup.manifest)
    part = tmp_path / "part.parquet"
    pq.write_table(table.slice(0, 40), part)
    first = score(str(part), setup.model, str(tmp_path / "scores"), setup.settings)
    second = setup.score(tmp_path / "scores")
    assert (first.images, second.images, second.done_before) == (40, table.num_rows - 40, 40)
    assert _rows(tmp_path / "scores") == setup.undisturbed
    assert len(read_commits(str(tmp_path / "scores"))) == 2
    third = setup.score(tmp_path / "scores")
    assert (third.images, third.done_before) == (0, table.num_rows)
