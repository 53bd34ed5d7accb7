"""An S3 server in memory, for keys and answers that the real one does not give."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from devtools.fake_s3 import FakeS3, fake_s3
from raysvq.settings import StorageSettings
from tests.storage.clients import fresh_clients


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeS3]:
    """The server; clients go to it, and try again for two seconds."""
    with fake_s3() as server:
        for name in ("AWS_ENDPOINT_URL_S3", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_REGION"):
            monkeypatch.delenv(name, raising=False)
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        with fresh_clients(StorageSettings(retry_s=2)):
            yield server
