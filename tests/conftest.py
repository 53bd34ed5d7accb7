"""What tests of several packages stand on: small settings, a real S3 server, a place on each store."""

from __future__ import annotations

import json
import random
import socket
import subprocess
import sysconfig
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
import pytest
import s3fs
import torch

from raysvq import storage
from raysvq.errors import StorageError
from raysvq.settings import Settings, parse_settings

BUCKET = "raysvq-test"
KEY, SECRET = "raysvq", "raysvq-secret"
READY_WITHIN = 60  # seconds
PORTS = ("s3", "s3.grpc", "filer", "filer.grpc", "master", "master.grpc", "volume", "volume.grpc", "admin")


@pytest.fixture(autouse=True)
def _repeatable() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def small() -> Callable[..., Settings]:
    """Settings of a model that runs in milliseconds; `tiles={"mode": "whole"}` changes a value."""

    def build(**sections: dict[str, Any]) -> Settings:
        values: dict[str, dict[str, Any]] = {
            "tiles": {"size": 32},
            "model": {"hidden": 8, "residual_hidden": 4, "residual_layers": 1}
            | {"codebook_size": 16, "embedding_dim": 4},
        }
        return parse_settings(values | {name: values.get(name, {}) | new for name, new in sections.items()})

    return build


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URI of a bucket on an S3 server of this test run; its credentials stand in the environment."""
    folder = tmp_path_factory.mktemp("s3")
    ports = dict(zip(PORTS, _free_ports(len(PORTS)), strict=True))
    environment = {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3']}",
        "AWS_REGION": "us-east-1",
    }
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(_command(folder, ports), stdout=log, stderr=log, cwd=folder)
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name in ("AWS_ENDPOINT_URL_S3", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_REGION"):
                patch.delenv(name, raising=False)
            for name, value in environment.items():
                patch.setenv(name, value)
            _forget_clients()
            _make_bucket(server, environment["AWS_ENDPOINT_URL"], folder / "log")
            yield f"s3://{BUCKET}"
    finally:
        _forget_clients()
        server.kill()
        server.wait()


@pytest.fixture(params=["disk", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh folder on local disk, then one in the bucket."""
    if request.param == "disk":
        return str(tmp_path / "place")
    return f"{request.getfixturevalue('s3')}/{uuid.uuid4().hex}"


@pytest.fixture
def new_clients(s3: str) -> Iterator[Callable[[], None]]:
    """Call it after a change of credentials in the environment; those of the test run return afterwards."""
    yield _forget_clients
    _forget_clients()


def _forget_clients() -> None:
    storage._arrow_filesystem.cache_clear()
    storage._fsspec_filesystem.cache_clear()
    s3fs.S3FileSystem.clear_instance_cache()


def _command(folder: Path, ports: dict[str, int]) -> list[str]:
    identity = {"name": "tests", "credentials": [{"accessKey": KEY, "secretKey": SECRET}]}
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": [identity | {"actions": actions}]}))
    (folder / "data").mkdir()
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


def _free_ports(count: int) -> list[int]:
    """Away from the ports of Ray's workers below, and from those given out to clients above."""
    found: list[int] = []
    for port in random.sample(range(20_000, 32_000, 2), 1000):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                found.append(port)
        if len(found) == count:
            return found
    raise OSError(f"fewer than {count} free ports")


def _make_bucket(server: subprocess.Popen[bytes], endpoint: str, log: Path) -> None:
    until = time.monotonic() + READY_WITHIN
    while True:
        try:
            fs = pafs.S3FileSystem(endpoint_override=endpoint, region="us-east-1", allow_bucket_creation=True)
            fs.create_dir(BUCKET)
            storage.write_bytes(f"s3://{BUCKET}/ready", b"")
            return
        except (OSError, StorageError) as error:
            if server.poll() is not None or time.monotonic() > until:
                tail = log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"the S3 server is not ready: {error}\n{tail}") from None
            time.sleep(0.2)
