"""What tests of several packages stand on: small settings, a real S3 server, a place on each store."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import ray
import torch

from devtools.s3_server import BUCKET, s3_server
from raysvq import storage
from raysvq.runtime.cluster import connect
from raysvq.settings import RaySettings, Settings, StorageSettings, parse_settings

# Two processes share the cores with clusters: how long one example took says nothing.
hypothesis.settings.register_profile("shared", deadline=None)
hypothesis.settings.load_profile("shared")
# Ray Train looks at its workers, and takes their checkpoints, this often; by itself every 2 s.
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
# Processes that tests start share two CPUs: waiting threads give theirs up.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


# The longest first.
LONG = (
    "tune",
    "train_faults",
    "lost_nodes",
    "train_hangs",
    "jobs",
    "chaos",
    "secrets",
    "rehearsal",
    "pipeline",
    "hangs",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long first, so that two processes end at about the same time."""
    places = {f"test_{name}.py": place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


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
    with s3_server(tmp_path_factory.mktemp("s3")) as server, pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ENDPOINT_URL_S3", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_REGION"):
            patch.delenv(name, raising=False)
        for name, value in server.environment.items():
            patch.setenv(name, value)
        storage.forget_clients()
        yield f"s3://{BUCKET}"
    storage.forget_clients()


@pytest.fixture(scope="module")
def small_cluster(s3: str) -> None:
    """A Ray cluster of two CPUs, which all modules share that kill nothing.

    Its processes take the environment it is started in, so the store's credentials stand there before.
    """
    connect(RaySettings(cpus=2, object_store_mib=256))


@pytest.fixture(scope="module")
def no_cluster() -> Iterator[None]:
    """For modules that start clusters of their own: none before, none left."""
    ray.shutdown()
    yield
    ray.shutdown()


@pytest.fixture(params=["disk", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh folder on local disk, then one in the bucket."""
    if request.param == "disk":
        return str(tmp_path / "place")
    return f"{request.getfixturevalue('s3')}/{uuid.uuid4().hex}"


@pytest.fixture
def new_clients(s3: str) -> Iterator[Callable[[], None]]:
    """Call it after a change of credentials in the environment; those of the test run return afterwards."""
    yield storage.forget_clients
    storage.configure(StorageSettings())
    storage.forget_clients()
