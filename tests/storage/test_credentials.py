"""Temporary keys and an authority of one's own reach every client: obstore, botocore, Arrow, s3fs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from devtools.certificates import own_authority
from devtools.fake_s3 import BUCKET, FakeS3, fake_s3
from raysvq import storage
from raysvq.errors import SettingsError, StorageError
from raysvq.settings import StorageSettings
from raysvq.storage import filesystem, list_objects, read_bytes

URI = f"s3://{BUCKET}/images/a.png"
KEYS: dict[str, Any] = {"access_key_id": "temporary", "secret_access_key": "secret"}


def _through_arrow(uri: str) -> bytes:
    fs, path = filesystem(uri)
    with fs.open_input_stream(path) as stream:
        return bytes(stream.read())


def _through_botocore(uri: str) -> bytes:
    [info] = list_objects(uri.rpartition("/")[0])
    assert info.uri == uri
    return b"x"


CLIENTS = {"obstore": read_bytes, "botocore": _through_botocore, "arrow": _through_arrow}
each_client = pytest.mark.parametrize("call", CLIENTS.values(), ids=CLIENTS)


@each_client
def test_a_session_token_of_the_settings_reaches_the_store(
    fake: FakeS3, call: Callable[[str], bytes]
) -> None:
    fake.put("images/a.png", b"x")
    storage.configure(StorageSettings(**KEYS, session_token="of-the-settings"))  # type: ignore[arg-type]
    assert call(URI) == b"x"
    assert set(fake.tokens) == {"of-the-settings"}


@each_client
def test_a_token_of_the_environment_goes_with_the_keys_there_alone(
    fake: FakeS3, monkeypatch: pytest.MonkeyPatch, call: Callable[[str], bytes]
) -> None:
    fake.put("images/a.png", b"x")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of-the-environment")
    storage.forget_clients()
    assert call(URI) == b"x"
    assert set(fake.tokens) == {"of-the-environment"}
    fake.tokens.clear()
    storage.configure(StorageSettings(**KEYS))
    assert call(URI) == b"x"
    assert set(fake.tokens) == {None}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """PEM files: the authority, and what it signed for the server."""
    return own_authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def secure(certificates: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeS3]:
    """A server over TLS, whose authority no system knows; it holds one image."""
    with fake_s3(certificates[1]) as server:
        for name in ("AWS_ENDPOINT_URL_S3", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_CA_BUNDLE"):
            monkeypatch.delenv(name, raising=False)
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        server.put("images/a.png", b"x")
        storage.forget_clients()
        yield server
    storage.configure(StorageSettings())
    storage.forget_clients()


@each_client
@pytest.mark.parametrize("given", ["settings", "environment"])
def test_an_authority_of_one_s_own_is_trusted(
    secure: FakeS3,
    certificates: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[[str], bytes],
    given: str,
) -> None:
    if given == "environment":
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificates[0]))
    storage.configure(
        StorageSettings(retry_s=0, ca_bundle=str(certificates[0]) if given == "settings" else None)
    )
    storage.forget_clients()
    assert call(URI) == b"x"


@each_client
def test_an_authority_that_nobody_knows_is_not(secure: FakeS3, call: Callable[[str], bytes]) -> None:
    storage.configure(StorageSettings(retry_s=0))
    with pytest.raises(StorageError, match=r"cannot read s3://fake/images"):
        call(URI)
    assert not secure.requests


@each_client
@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "No such file or directory; expected a PEM file on every node"),
        ("", "holds no PEM certificates"),
        ("-----BEGIN", "holds no PEM certificates"),
    ],
)
@pytest.mark.parametrize("name", ["setting `storage.ca_bundle`", "AWS_CA_BUNDLE"])
def test_a_bundle_that_is_none_is_named(
    fake: FakeS3,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[[str], bytes],
    name: str,
    content: str | None,
    problem: str,
) -> None:
    path = tmp_path / "authorities.pem"
    if content is not None:
        path.write_text(content)
    if name == "AWS_CA_BUNDLE":
        monkeypatch.setenv(name, str(path))
    else:
        storage.configure(StorageSettings(ca_bundle=str(path)))
    storage.forget_clients()
    with pytest.raises(SettingsError) as failure:
        call(URI)
    assert str(failure.value).startswith(f"{name} is '{path}'")
    assert problem in str(failure.value)


def test_a_token_without_its_keys_is_refused() -> None:
    with pytest.raises(ValueError, match="session_token goes with access_key_id and secret_access_key"):
        StorageSettings(session_token="token")  # type: ignore[arg-type]


def test_a_token_that_is_none_is_named_and_not_repeated() -> None:
    storage.configure(StorageSettings(**KEYS, session_token="hid den"))  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=r"^setting `storage\.session_token` holds blanks") as failure:
        read_bytes(URI)
    assert "hid" not in str(failure.value)
    storage.configure(StorageSettings())
