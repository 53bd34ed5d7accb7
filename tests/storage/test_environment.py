"""Nonsense in the environment is one sentence that names the variable."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator

import obstore
import pytest

from raysvq import storage
from raysvq.errors import SettingsError, StorageError
from raysvq.settings import StorageSettings
from raysvq.storage import environment, exists, filesystem, list_objects, read_bytes, write_bytes
from tests.storage.clients import fresh_clients

CALLS: list[Callable[[str], object]] = [
    read_bytes,
    exists,
    filesystem,
    lambda uri: list(list_objects(uri)),
    lambda uri: write_bytes(uri, b"x"),
]


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    names = (*environment.ENDPOINTS, *environment.REGIONS, environment.TOKEN, "AWS_PROFILE")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with fresh_clients(StorageSettings(retry_s=0)):
        yield


@pytest.mark.parametrize("name", environment.ENDPOINTS)
@pytest.mark.parametrize(
    "value",
    [
        "localhost:9000",
        "minio:9000",
        "minio:9000/",
        "minio:9000/path",
        "s3.amazonaws.com",
        "//minio:9000",
        "http:/minio:9000",
        "http//minio:9000",
        "http://",
        "https://:9000",
        "ftp://minio",
        " http://minio:9000",
        "http://minio:9000\n",
        "'http://minio:9000'",
        '"http://minio:9000"',
        "http://mi nio:9000",
        "http://minio:port",
        "http://minio:99999",
        "http://minio:9000?x=1",
        "http://${HOST}:9000",
        "http://[::1",
        "none",
    ],
)
def test_an_endpoint_that_is_no_url_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    for call in CALLS:
        with pytest.raises(SettingsError, match=rf"^{name} is .*; expected http:// or https://") as failure:
            call("s3://bucket/a.png")
        assert repr(value) in str(failure.value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("http://localhost:9000", "http://localhost:9000"),
        ("https://minio.example.com/", "https://minio.example.com"),
        ("http://10.0.0.7:9000", "http://10.0.0.7:9000"),
        ("http://[::1]:9000", "http://[::1]:9000"),
        ("http://my_minio:9000", "http://my_minio:9000"),
        ("https://project.example.com/storage/v1/s3", "https://project.example.com/storage/v1/s3"),
        ("", None),
    ],
)
def test_an_endpoint_that_is_one_is_taken(
    monkeypatch: pytest.MonkeyPatch, value: str, expected: str | None
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", value)
    assert environment.endpoint(StorageSettings()) == expected
    assert environment.endpoint(StorageSettings(endpoint_url="http://mine:1")) == "http://mine:1"


def test_a_password_in_an_endpoint_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://user:hidden@minio:9000")
    with pytest.raises(SettingsError, match="AWS_ENDPOINT_URL holds a user name") as failure:
        read_bytes("s3://bucket/a.png")
    assert "hidden" not in str(failure.value)


@pytest.mark.parametrize("name", environment.REGIONS)
@pytest.mark.parametrize("value", [" eu-west-1", "eu-west-1\n", "eu west", "'eu-west-1'", "${REGION}"])
def test_a_region_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=re.escape(f"{name} is {value!r}; expected the name of a region")):
        read_bytes("s3://bucket/a.png")


@pytest.mark.parametrize(
    ("there", "missing"),
    [
        ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
        ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"),
    ],
)
@pytest.mark.parametrize("how", ["unset", "empty"])
def test_half_a_pair_of_keys_is_named(
    monkeypatch: pytest.MonkeyPatch, there: str, missing: str, how: str
) -> None:
    monkeypatch.delenv(missing) if how == "unset" else monkeypatch.setenv(missing, "")
    with pytest.raises(SettingsError, match=f"^{there} is set, {missing} is not"):
        read_bytes("s3://bucket/a.png")


@pytest.mark.parametrize("name", [environment.KEY, environment.SECRET, environment.TOKEN])
@pytest.mark.parametrize("value", ["hidden\n", " hidden", "hid den", "hiddén", "\r"])
def test_a_key_that_none_is_is_named_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"^{name} holds blanks, line ends") as failure:
        read_bytes("s3://bucket/a.png")
    assert "hid" not in str(failure.value)


def test_a_key_in_the_settings_is_looked_at_too() -> None:
    storage.configure(StorageSettings(access_key_id="key\n", secret_access_key="secret"))  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=r"^setting `storage\.access_key_id` holds"):
        read_bytes("s3://bucket/a.png")


def test_local_files_need_no_sound_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "localhost:9000")
    assert b"Nonsense" in read_bytes(__file__)


def test_a_panic_of_the_client_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    panic = type("PanicException", (BaseException,), {"__module__": "pyo3_runtime"})

    def get(*_: object, **__: object) -> None:
        raise panic("called `Result::unwrap()`\non an `Err` value")

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(obstore, "get", get)
    with pytest.raises(OSError, match=r"the S3 client failed: called `Result::unwrap\(\)`"):
        read_bytes("s3://bucket/a.png")


@pytest.mark.parametrize("proxy", ["http://", "nonsense", "http://no host:1", "://x", "http://x:99999"])
def test_a_proxy_that_is_none_is_an_error_and_no_panic(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, proxy)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    started = time.monotonic()
    for call in (read_bytes, lambda uri: list(list_objects(uri))):
        with pytest.raises((StorageError, SettingsError)):
            call("s3://bucket/a.png")
    assert time.monotonic() - started < 5
