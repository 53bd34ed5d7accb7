"""An S3 server of this machine, for tests, benchmarks and the demonstration on object storage."""

from __future__ import annotations

import json
import random
import socket
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow.fs as pafs

from raysvq.storage import join, put_file

BUCKET = "raysvq-test"
REGION = "us-east-1"
READY_WITHIN = 60  # seconds
_KEY, _SECRET = "raysvq-access-key", "raysvq-secret-key"
_GUEST, _GUEST_SECRET = "raysvq-guest-key", "raysvq-guest-secret"
_PORTS = ("s3", "s3.grpc", "filer", "filer.grpc", "master", "master.grpc", "volume", "volume.grpc", "admin")


@dataclass
class S3Server:
    """A server that can be stopped and started again on the same data."""

    folder: Path
    ports: dict[str, int]
    environment: dict[str, str]  # variables that open it; not set
    process: subprocess.Popen[bytes] | None = None

    @property
    def guest(self) -> dict[str, str]:
        """The same of one whom a bucket's policy binds; it does not bind the owner."""
        keys = {"AWS_ACCESS_KEY_ID": _GUEST, "AWS_SECRET_ACCESS_KEY": _GUEST_SECRET}
        return self.environment | keys

    def start(self) -> None:
        """Raises RuntimeError where it is not ready within READY_WITHIN seconds."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                _command(self.folder, self.ports), stdout=log, stderr=log, cwd=self.folder
            )
        _wait_for_bucket(self.process, self.environment["AWS_ENDPOINT_URL"], self.folder / "log")

    def stop(self) -> None:
        """Let it write down what it holds, and wait until it is gone."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """Run an S3 server (SeaweedFS) on 127.0.0.1 that holds the empty bucket BUCKET, until the block ends.

    Args:
        folder: where it keeps its data and its log; made here.

    Raises:
        RuntimeError: it is not ready within READY_WITHIN seconds.
    """
    (folder / "data").mkdir(parents=True, exist_ok=True)
    ports = dict(zip(_PORTS, free_ports(len(_PORTS)), strict=True))
    environment = {
        "AWS_ACCESS_KEY_ID": _KEY,
        "AWS_SECRET_ACCESS_KEY": _SECRET,
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3']}",
        "AWS_REGION": REGION,
    }
    server = S3Server(folder, ports, environment)
    try:
        server.start()
        yield server
    finally:
        if server.process is not None:
            server.process.kill()
            server.process.wait()


def upload(folder: Path, prefix: str) -> None:
    """Copy a local folder's files below a URI."""
    for file in sorted(filter(Path.is_file, folder.rglob("*"))):
        put_file(file, join(prefix, file.relative_to(folder).as_posix()))


def free_ports(count: int) -> list[int]:
    """Away from the ports of Ray's workers below, and from those given out to clients above."""
    found: list[int] = []
    for port in random.SystemRandom().sample(range(20_000, 32_000, 2), 1000):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                found.append(port)
        if len(found) == count:
            return found
    raise OSError(f"fewer than {count} free ports")


def _command(folder: Path, ports: dict[str, int]) -> list[str]:
    may = ["Read", "Write", "List", "Tagging"]
    identities = [
        _identity("raysvq", _KEY, _SECRET, ["Admin", *may]),
        _identity("guest", _GUEST, _GUEST_SECRET, may),
    ]
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": identities}))
    options = {
        "dir": folder / "data",
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "master.telemetry": "false",
        "admin.ui": "false",
        "webdav": "false",
        "volume.max": 50,
        "s3.config": config,
        "s3.autoCreateBucket": "false",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "admin.port.grpc": ports["admin"] + 1,
    }
    for name, port in ports.items():
        service, _, grpc = name.partition(".")
        options[f"{service}.port.{grpc}" if grpc else f"{service}.port"] = port
    weed = Path(sysconfig.get_path("scripts"), "weed")
    return [str(weed), "-logtostderr=true", "mini", *(f"-{name}={value}" for name, value in options.items())]


def _identity(name: str, key: str, secret: str, actions: list[str]) -> dict[str, object]:
    return {"name": name, "credentials": [{"accessKey": key, "secretKey": secret}], "actions": actions}


def _wait_for_bucket(server: subprocess.Popen[bytes], endpoint: str, log: Path) -> None:
    until = time.monotonic() + READY_WITHIN
    while True:
        try:
            fs = pafs.S3FileSystem(
                access_key=_KEY,
                secret_key=_SECRET,
                endpoint_override=endpoint,
                region=REGION,
                allow_bucket_creation=True,
            )
            fs.create_dir(BUCKET)
            with fs.open_output_stream(f"{BUCKET}/ready") as probe:
                probe.write(b"x")
            fs.delete_file(f"{BUCKET}/ready")
            return
        except OSError as error:
            if server.poll() is not None or time.monotonic() > until:
                tail = log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"the S3 server is not ready: {error}\n{tail}") from None
            time.sleep(0.2)
