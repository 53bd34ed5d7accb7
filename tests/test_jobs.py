"""`ray job submit` against a real head node: what `jobs/` is for. Needs the extra `jobs`."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from raysvq.data.index import build_index
from raysvq.results import open_results, read_scores
from raysvq.sample import write_sample
from raysvq.settings import SplitSettings

ROOT = Path(__file__).parent.parent
START_S, JOB_S = 60, 240
TINY = [
    "model.hidden=8",
    "model.codebook_size=16",
    "model.embedding_dim=8",
    "tiles.anomalous_fraction=0",
    "training.steps=4",
    "training.batch_size=8",
]


@dataclass(frozen=True)
class Head:
    """A head node of our own: where to submit to, and the environment to do it in."""

    address: str
    environment: dict[str, str]

    def submit(self, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["ray", "job", "submit", "--address", self.address, "--working-dir", "."]
        return subprocess.run(
            [*command, "--", "python", f"jobs/{script}.py", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=JOB_S,
            check=False,
        )


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    folder = Path(tempfile.mkdtemp(prefix="rq", dir="/tmp"))  # Ray's socket paths must stay short
    (folder / "token").write_text("0123456789abcdef0123456789abcdef")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")} | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
    }
    port, dashboard, *others = _free_ports(8)
    names = ("dashboard-agent-listen-port", "dashboard-agent-grpc-port", "metrics-export-port")
    names += ("runtime-env-agent-port", "node-manager-port", "object-manager-port")
    command = ["ray", "start", "--head", "--block", f"--port={port}", f"--dashboard-port={dashboard}"]
    command += ["--dashboard-host=127.0.0.1", f"--temp-dir={folder}", "--num-cpus=2", "--disable-usage-stats"]
    command += ["--object-store-memory=268435456", "--node-ip-address=127.0.0.1"]
    command += [f"--{name}={other}" for name, other in zip(names, others, strict=True)]
    log = (folder / "head.log").open("w")
    process = subprocess.Popen(
        command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        address = f"http://127.0.0.1:{dashboard}"
        _wait_for(address, process, folder / "head.log")
        yield Head(address, environment)
    finally:
        _end_group(process)
        log.close()
        shutil.rmtree(folder, ignore_errors=True)


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


def _free_ports(count: int) -> list[int]:
    """Free ports outside the range that Ray's workers take (10002 to 19999)."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for opened in sockets:
            opened.bind(("127.0.0.1", 0))
        return [opened.getsockname()[1] for opened in sockets]
    finally:
        for opened in sockets:
            opened.close()


def _wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"the head node ended: {log.read_text()[-2000:]}")
        try:
            urllib.request.urlopen(f"{address}/api/version", timeout=2)
            return
        except urllib.error.HTTPError:  # it answers, and wants the token
            return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"no answer from {address} within {START_S} s: {log.read_text()[-2000:]}")


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End the head and everything it started: they share its process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)
