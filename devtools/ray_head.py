"""A head node of a Ray cluster, as `ray start --head` makes it. Needs the extra `jobs`."""

from __future__ import annotations

import contextlib
import os
import shlex
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
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
START_S, JOB_S = 60, 240


@dataclass(frozen=True)
class Head:
    """Where to submit to, where it exports metrics, and the environment to do it in."""

    address: str  # of the job server
    cluster: str  # for `ray.address`
    metrics: str  # what Prometheus asks
    environment: dict[str, str]

    def submit(self, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self._submit("python", f"jobs/{script}.py", *arguments)

    def submit_line(self, line: str) -> subprocess.CompletedProcess[str]:
        return self._submit(*shlex.split(line))

    def _submit(self, *entrypoint: str) -> subprocess.CompletedProcess[str]:
        command = ["ray", "job", "submit", "--address", self.address, "--working-dir", ".", "--", *entrypoint]
        return subprocess.run(
            command,
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=JOB_S,
            check=False,
        )


@contextmanager
def ray_head() -> Iterator[Head]:
    """A head of two CPUs on ports of its own, closed to others by a token."""
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
        metrics = f"http://127.0.0.1:{others[names.index('metrics-export-port')]}/metrics"
        yield Head(address, f"127.0.0.1:{port}", metrics, environment)
    finally:
        _end_group(process)
        log.close()
        shutil.rmtree(folder, ignore_errors=True)


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
            raise RuntimeError(f"the head node ended: {log.read_text()[-2000:]}")
        try:
            urllib.request.urlopen(f"{address}/api/version", timeout=2)
            return
        except urllib.error.HTTPError:  # it answers, and wants the token
            return
        except OSError:
            time.sleep(0.5)
    raise RuntimeError(f"no answer from {address} within {START_S} s: {log.read_text()[-2000:]}")


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End the head and everything it started: they share its process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)
