"""`ray job submit` against a real head node: what `jobs/` is for. Needs the extra `jobs`."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from raysvq.data.index import build_index
from raysvq.results import open_results, read_scores
from raysvq.sample import write_sample
from raysvq.settings import SplitSettings
from tests.ray_head import Head, ray_head

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
