"""`ray job submit` against a real head node: what `jobs/` is for. Needs the extra `jobs`."""

import re
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from devtools.ray_head import Head, ray_head
from raysvq.data.index import build_index
from raysvq.ledger.runs import read_runs
from raysvq.results import open_results, read_scores
from raysvq.sample import write_sample
from raysvq.settings import SplitSettings
from tests.fleet.world import World
from tests.test_deploy import LINE

TINY = [
    "model.hidden=8",
    "model.codebook_size=16",
    "model.embedding_dim=8",
    "tiles.anomalous_fraction=0",
    "training.steps=4",
    "training.batch_size=8",
]


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with ray_head() as started:
        yield started


def test_train_and_score_as_submitted_jobs(head: Head, tmp_path: Path) -> None:
    listing = write_sample(tmp_path / "sample", normal=12, anomalous=6)
    manifest, model, scores = (str(tmp_path / name) for name in ("manifest.parquet", "model", "scores"))
    build_index(listing, manifest, SplitSettings(outliers=3))
    overrides = [part for setting in TINY for part in ("--set", setting)]

    trained = head.submit("train", manifest, "--out", model, *overrides)
    assert trained.returncode == 0, trained.stdout + trained.stderr
    assert "saved in" in trained.stdout
    scored = head.submit("score", manifest, "--model", model, "--out", scores)
    assert scored.returncode == 0, scored.stdout + scored.stderr

    wanted = set(pq.read_table(manifest)["image_id"].to_pylist())
    rows = read_scores(scores)
    rejected = open_results(scores, "rejects").to_table()["image_id"].to_pylist()
    assert set(rows["image_id"].to_pylist()) | set(rejected) == wanted
    assert rows.num_rows + len(rejected) == len(wanted)


def test_a_job_that_fails_says_why_and_fails_the_submission(head: Head, tmp_path: Path) -> None:
    failed = head.submit("score", str(tmp_path / "absent.parquet"))
    assert failed.returncode == 1
    assert "absent.parquet does not exist" in failed.stdout + failed.stderr


def test_a_fleet_is_inspected_by_its_line_and_rays_exporter_shows_it_after_the_job(
    head: Head, tmp_path: Path
) -> None:
    world = World(tmp_path)
    today = datetime.now(UTC).date()
    world.put("north.a", today, "a1", "a2", "a3")
    world.put("north.b", today, "b1")
    world.fleet()
    line = LINE.replace("s3://my-bucket/fleet.yaml", str(tmp_path / "fleet.yaml"))
    inspected = head.submit_line(line)
    assert inspected.returncode == 0, inspected.stdout + inspected.stderr
    time.sleep(25)  # longer than Ray shows what a driver that ended had set
    assert exported(head) == {"north.a": 3, "north.b": 1}

    inspected = head.submit_line(line)
    assert inspected.returncode == 0, inspected.stdout + inspected.stderr
    assert "nothing to score" in inspected.stdout
    assert wait_for(head, {"north.a": 0, "north.b": 0}, 60) == {"north.a": 0, "north.b": 0}
    assert [run.scored for run in read_runs(world.out, 5)] == [4, 0]


def test_a_fleet_of_which_nothing_can_run_fails_the_submission(head: Head, tmp_path: Path) -> None:
    failed = head.submit_line(LINE.replace("s3://my-bucket/fleet.yaml", str(tmp_path / "absent.yaml")))
    assert failed.returncode == 1
    assert "absent.yaml" in failed.stdout + failed.stderr


def exported(head: Head) -> dict[str, float]:
    """Images scored by camera, as Prometheus would be told."""
    with urllib.request.urlopen(head.metrics, timeout=20) as answer:
        text = answer.read().decode()
    found = re.findall(r'^ray_raysvq_fleet_camera_scored\{.*camera="([^"]+)".*\} (\S+)$', text, re.M)
    return {camera: float(value) for camera, value in found}


def wait_for(head: Head, wanted: dict[str, float], within_s: float) -> dict[str, float]:
    deadline = time.monotonic() + within_s
    while (found := exported(head)) != wanted and time.monotonic() < deadline:
        time.sleep(1)
    return found
