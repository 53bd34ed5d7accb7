"""A small fleet, as many tests start from it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from devtools.fake_s3 import FakeS3, fake_s3
from raysvq.settings import StorageSettings
from tests.fleet.world import FIRST, World
from tests.storage.clients import fresh_clients


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Two cameras with three and two images of the first day."""
    made = World(tmp_path)
    made.put("north.a", FIRST, "a1", "a2", "a3")
    made.put("north.b", FIRST, "b1", "b2")
    return made


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeS3]:
    """An S3 server with injected faults."""
    with fake_s3() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        with fresh_clients(StorageSettings(retry_s=1)):
            yield server
