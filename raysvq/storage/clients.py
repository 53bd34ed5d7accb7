"""Clients of each store, made once a process from the settings, else from the environment."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import fsspec
import pyarrow.fs as pafs
from obstore.store import S3Store

from raysvq.errors import StorageError
from raysvq.settings import StorageSettings
from raysvq.storage import environment
from raysvq.storage.failures import reason
from raysvq.storage.names import split
from raysvq.storage.retry import Contact, Result, TransientError
from raysvq.storage.s3 import Bucket
from raysvq.storage.s3_errors import s3_errors

CONNECT_S, READ_S = 10, 60  # one attempt: until it is connected, and between two pieces of an answer
_ARROW_PAUSE_S = 20  # longest that Arrow's client makes between attempts; the first are 1, 2, 4, …

_settings = StorageSettings()


def configure(settings: StorageSettings, reached: bool = False) -> None:
    """Use these credentials, endpoint and patience in this process from now on.

    Args:
        reached: another process has had an answer from the store, so this one is patient from the start.
    """
    global _settings
    if settings != _settings:
        _settings = settings
        forget_clients()
    _contact().reached |= reached


def forget_clients() -> None:
    """Make new clients from the settings and the environment as they are now."""
    for cached in (_arrow_filesystem, fsspec_filesystem, _bucket, _boto_client, _contact):
        cached.cache_clear()


def filesystem(uri: str) -> tuple[pafs.FileSystem, str]:
    """The Arrow filesystem behind a URI and the path inside it.

    On S3 it tries a request again by itself, for at most `storage.retry_s` seconds of pauses.

    Raises:
        SettingsError: the settings or the environment name no usable endpoint, region or keys.
        StorageError: no client is installed for the scheme, or the store has never answered yet.
    """
    scheme, path = split(uri)
    if has_bucket(scheme) and not _contact().reached:
        _reach(uri, path)
    return _arrow_filesystem(scheme), path


def has_bucket(scheme: str) -> bool:
    """Whether a scheme goes through obstore: s3 does, unless a profile of ~/.aws is asked for.

    Profiles, with single sign-on and assumed roles, are botocore's, which s3fs stands on.
    """
    return scheme == "s3" and ("AWS_PROFILE" not in os.environ or environment.keys(_settings) is not None)


def patiently(uri: str, call: Callable[[], Result]) -> Result:
    """The result of a call that reads through `filesystem`, made again while S3 does not answer it.

    Raises:
        FileNotFoundError, PermissionError: as the call does.
        StorageError: S3 has not answered for `storage.retry_s` seconds.
    """
    if not has_bucket(split(uri)[0]):
        return call()

    def once() -> Result:
        try:
            return call()
        except (FileNotFoundError, PermissionError, TransientError):
            raise
        except OSError as error:
            raise TransientError(reason(error)) from None

    try:
        return _contact().persist(uri, once, _settings.retry_s)
    except TransientError as error:
        raise StorageError(f"cannot read {uri}: {error}") from None


def bucket(path: str, within_s: float | None = None) -> tuple[Bucket, str]:
    """The bucket of `bucket/key`, and the key.

    Args:
        within_s: for what is of no use later: one attempt, which ends after so many seconds.
    """
    name, _, key = path.partition("/")
    return _bucket(name, within_s), key


@lru_cache(maxsize=16)
def fsspec_filesystem(scheme: str) -> Any:
    """The fsspec filesystem of a scheme without a bucket."""
    options: dict[str, Any] = {}
    if scheme == "s3":
        verify = environment.ca_bundle(_settings)
        options["client_kwargs"] = _given(endpoint_url=environment.endpoint(_settings), verify=verify)
    try:
        return fsspec.filesystem(scheme, use_listings_cache=False, **options)
    except (ImportError, ValueError) as error:
        raise StorageError(f"no storage client for {scheme}://: {error}") from None


def _reach(uri: str, path: str) -> None:
    """Raise StorageError where the store does not answer; what the answer is, does not matter here."""
    found, key = bucket(path)
    try:
        found.is_folder(key)
    except TransientError as error:
        raise StorageError(f"cannot read {uri}: {error}") from None
    except OSError:
        return


@lru_cache(maxsize=16)
def _arrow_filesystem(scheme: str) -> pafs.FileSystem:
    if scheme == "file":
        return pafs.LocalFileSystem()
    if scheme == "s3":
        keys = environment.keys(_settings)
        return pafs.S3FileSystem(
            access_key=keys and keys.access_key_id,
            secret_key=keys and keys.secret_access_key,
            session_token=keys and keys.session_token,
            tls_ca_file_path=environment.ca_bundle(_settings),
            endpoint_override=environment.endpoint(_settings),
            region=environment.region(_settings),
            connect_timeout=CONNECT_S,
            request_timeout=READ_S,
            retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=_arrow_attempts()),
        )
    return pafs.PyFileSystem(pafs.FSSpecHandler(fsspec_filesystem(scheme)))


@lru_cache(maxsize=64)
def _bucket(name: str, within_s: float | None) -> Bucket:
    keys, endpoint = environment.keys(_settings), environment.endpoint(_settings)
    authorities = environment.ca_bundle(_settings)
    with s3_errors(f"s3://{name}"):
        client = S3Store(
            name,
            config=_given(endpoint=endpoint, region=environment.region(_settings)),
            credential_provider=_fixed(keys) if keys else None,
            client_options=_given(root_certificate=authorities and Path(authorities).read_text())
            | {
                "allow_http": (endpoint or "").startswith("http://"),
                "connect_timeout": timedelta(seconds=CONNECT_S),
                "read_timeout": timedelta(seconds=READ_S),
                "timeout": timedelta(seconds=within_s) if within_s else timedelta(days=1),
            },
            retry_config={"max_retries": 0},
        )
    return Bucket(name, client, _boto_client, _contact(), 0.0 if within_s else _settings.retry_s)


@lru_cache(maxsize=1)
def _boto_client() -> Any:
    """With the same keys as obstore, which knows no files of ~/.aws, and as few retries: none."""
    import botocore.session  # a tenth of a second and 20 MiB that most workers can do without
    from botocore import UNSIGNED
    from botocore.config import Config

    session = botocore.session.Session(session_vars={"profile": (None, None, None, None)})
    for files in ("credentials_file", "config_file"):
        session.set_config_variable(files, os.devnull)
    # Its own, of dateutil, takes three quarters of a listing.
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_moment)
    keys = environment.keys(_settings)
    return session.create_client(
        "s3",
        region_name=environment.region(_settings) or "us-east-1",
        endpoint_url=environment.endpoint(_settings),
        aws_access_key_id=keys and keys.access_key_id,
        aws_secret_access_key=keys and keys.secret_access_key,
        aws_session_token=keys and keys.session_token,
        verify=environment.ca_bundle(_settings) or ssl.get_default_verify_paths().cafile,
        config=Config(
            signature_version=UNSIGNED if environment.is_public() else None,
            connect_timeout=CONNECT_S,
            read_timeout=READ_S,
            retries={"total_max_attempts": 1},
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",  # what not every store knows
            response_checksum_validation="when_required",
        ),
    )


@lru_cache(maxsize=1)
def _contact() -> Contact:
    return Contact()


def _given(**config: str | None) -> Any:
    return {name: value for name, value in config.items() if value}


def _fixed(keys: environment.Keys) -> Any:
    found = {"access_key_id": keys.access_key_id, "secret_access_key": keys.secret_access_key}
    return lambda: found | {"token": keys.session_token, "expires_at": None}


def _moment(text: str) -> datetime:
    """A time as S3 writes it: ISO 8601 in listings, as HTTP does in headers."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = parsedate_to_datetime(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _arrow_attempts() -> int:
    """As many as fit `storage.retry_s` if every pause is as long as it can be."""
    attempts, longest = 1, 0.0
    while longest + min(2.0 ** (attempts - 1), _ARROW_PAUSE_S) <= _settings.retry_s:
        longest += min(2.0 ** (attempts - 1), _ARROW_PAUSE_S)
        attempts += 1
    return attempts
