"""Clients of each store, made once per process from the settings, else from the environment."""

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
from obstore.store import AzureStore, GCSStore, S3Store

from raysvq.errors import SettingsError, StorageError
from raysvq.settings import StorageSettings
from raysvq.storage import environment, local
from raysvq.storage.bucket import Bucket
from raysvq.storage.errors import TransientError, bucket_errors, reason
from raysvq.storage.fsspec_store import FsspecStore
from raysvq.storage.objects import Store, split
from raysvq.storage.retry import Contact, Result
from raysvq.storage.s3 import S3Bucket

CONNECT_S, READ_S = 10, 60  # timeouts of one attempt: to connect, and between two pieces of an answer
_CONNECTIONS = 32  # of botocore that stay open; so many folders are listed at once
_S3, _GOOGLE, _AZURE = ("s3",), ("gs", "gcs"), ("az", "abfs", "abfss")
_GENERIC: Any = dict.fromkeys(_GOOGLE, "gs") | dict.fromkeys(_AZURE, "abfs")  # as obstore names them
_RENEWED = timedelta(minutes=10)  # botocore renews keys this long before they expire
_ARROW_PAUSE_S = 20  # longest pause of Arrow's client between attempts; the first are 1, 2, 4, …

_settings = StorageSettings()


def configure(settings: StorageSettings, reached: bool = False) -> None:
    """Use these credentials, endpoint and patience in this process from now on.

    Args:
        reached: whether another process has had an answer, so that this one retries for `retry_s` at once.
    """
    global _settings
    if settings != _settings:
        _settings = settings
        forget_clients()
    _contact().reached |= reached


def forget_clients() -> None:
    """Make new clients from the settings and the environment as they are now."""
    for cached in (_arrow_filesystem, _fsspec_filesystem, _bucket, _boto_client, _boto_session, _contact):
        cached.cache_clear()


def filesystem(uri: str) -> tuple[pafs.FileSystem, str]:
    """The Arrow filesystem behind a URI and the path inside it.

    On a bucket it tries a request again by itself, for at most `storage.retry_s` seconds of pauses.

    Raises:
        SettingsError: the settings or the environment name no usable endpoint, region or keys.
        StorageError: no client is installed for the scheme, or the store has never answered yet.
    """
    scheme, path = split(uri)
    if has_bucket(scheme) and not _contact().reached:
        _reach(uri)
    return _arrow_filesystem(scheme), path


def has_bucket(scheme: str) -> bool:
    """Whether a scheme goes through obstore."""
    return scheme in (*_S3, *_GOOGLE, *_AZURE)


def store_of(uri: str, within_s: float | None = None) -> tuple[Store, str]:
    """The store behind a URI, and the path inside it.

    Args:
        within_s: for what is of no use later: one attempt on a bucket, which ends after so many seconds.

    Raises:
        SettingsError: the settings or the environment name no usable endpoint, region or keys.
        StorageError: no client is installed for the scheme.
    """
    scheme, path = split(uri)
    if scheme == "file":
        return local, path
    if has_bucket(scheme):
        name, _, key = path.partition("/")
        return _bucket(scheme, name, within_s), key
    return FsspecStore(scheme, _fsspec_filesystem(scheme)), path


def patiently(uri: str, call: Callable[[], Result]) -> Result:
    """The result of a call that reads through `filesystem`, made again while a bucket does not answer it.

    Raises:
        FileNotFoundError, PermissionError: as the call does.
        StorageError: the store has not answered for `storage.retry_s` seconds.
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


@lru_cache(maxsize=16)
def _fsspec_filesystem(scheme: str) -> Any:
    """The fsspec filesystem of a scheme; of S3's and Google's and Azure's for Arrow alone."""
    if scheme in (*_GOOGLE, *_AZURE):
        from obstore.fsspec import FsspecStore as ObstoreFilesystem

        options: Any = {"client_options": _client_options(None), "skip_instance_cache": True}
        options["retry_config"] = {"retry_timeout": timedelta(seconds=_settings.retry_s)}
        return ObstoreFilesystem(_GENERIC[scheme], **options)
    options = {"use_listings_cache": False, "skip_instance_cache": True}  # what it read of the environment
    if scheme in _S3:
        verify = environment.ca_bundle(_settings)
        options["client_kwargs"] = _given(endpoint_url=environment.endpoint(_settings), verify=verify)
    try:
        return fsspec.filesystem(scheme, **options)
    except (ImportError, ValueError) as error:
        raise StorageError(f"no storage client for {scheme}://: {error}") from None


def _reach(uri: str) -> None:
    """Raise StorageError where the store does not answer; what the answer is, does not matter here."""
    found, key = store_of(uri)
    try:
        found.kind(key)
    except TransientError as error:
        raise StorageError(f"cannot read {uri}: {error}") from None
    except OSError:
        return


@lru_cache(maxsize=16)
def _arrow_filesystem(scheme: str) -> pafs.FileSystem:
    if scheme == "file":
        return pafs.LocalFileSystem()
    keys = environment.keys(_settings)
    if scheme in _S3 and not environment.profile(_settings):
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
    return pafs.PyFileSystem(pafs.FSSpecHandler(_fsspec_filesystem(scheme)))


@lru_cache(maxsize=64)
def _bucket(scheme: str, name: str, within_s: float | None) -> Bucket:
    uri, retry_s = f"{scheme}://{name}", 0.0 if within_s else _settings.retry_s
    options: Any = {"client_options": _client_options(within_s), "retry_config": {"max_retries": 0}}
    with bucket_errors(uri):
        if scheme in _GOOGLE:
            return Bucket(uri, GCSStore(name, **options), _contact(), retry_s)
        if scheme in _AZURE:
            container, _, host = name.partition("@")  # as abfss:// has it: account.dfs.core.windows.net
            account = host.partition(".")[0] or os.environ.get("AZURE_STORAGE_ACCOUNT_NAME")
            config = _given(account_name=account)  # a store that reads it by itself cannot be printed
            return Bucket(uri, AzureStore(container, config=config, **options), _contact(), retry_s)
        endpoint, region = environment.endpoint(_settings), environment.region(_settings)
        keys, provider = environment.keys(_settings), None
        if keys:
            provider = _fixed(keys)
        elif environment.profile(_settings):
            meta = _boto_client().meta  # a profile may name an endpoint and a region
            endpoint, region, provider = meta.endpoint_url, meta.region_name, _of_profile
        config = _given(endpoint=endpoint, region=region)
        client = S3Store(name, config=config, credential_provider=provider, **options)
    return S3Bucket(uri, client, _contact(), retry_s, _boto_client)


def _client_options(within_s: float | None) -> Any:
    authorities = environment.ca_bundle(_settings)
    return _given(root_certificate=authorities and Path(authorities).read_text()) | {
        "allow_http": True,  # where the endpoint says http://
        "connect_timeout": timedelta(seconds=CONNECT_S),
        "read_timeout": timedelta(seconds=READ_S),
        "timeout": timedelta(seconds=within_s) if within_s else timedelta(days=1),
    }


@lru_cache(maxsize=1)
def _boto_session() -> Any:
    """A botocore session with the same keys as obstore, or with those of a profile.

    Raises:
        SettingsError: there is no such profile.
    """
    import botocore.session  # takes 0.1 s and 20 MiB, and most workers do not need it
    from botocore.exceptions import ProfileNotFound

    wanted = environment.profile(_settings)
    session = botocore.session.Session(session_vars={} if wanted else {"profile": (None, None, None, None)})
    if not wanted:
        for files in ("credentials_file", "config_file"):
            session.set_config_variable(files, os.devnull)
    try:
        session.get_scoped_config()
    except ProfileNotFound:
        raise SettingsError(f"AWS_PROFILE is {wanted!r}, which stands in no file of ~/.aws here") from None
    # Its own, of dateutil, takes three quarters of a listing.
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_moment)
    return session


@lru_cache(maxsize=1)
def _boto_client() -> Any:
    """A botocore client without retries, as obstore's."""
    session = _boto_session()
    from botocore import UNSIGNED
    from botocore.config import Config

    wanted, keys = environment.profile(_settings), environment.keys(_settings)
    return session.create_client(
        "s3",
        region_name=environment.region(_settings) or (None if wanted else "us-east-1"),
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
            max_pool_connections=_CONNECTIONS,
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",  # what not every store knows
            response_checksum_validation="when_required",
        ),
    )


def _of_profile() -> Any:
    """Keys of AWS_PROFILE, for obstore: botocore signs on and assumes roles, and renews what expires."""
    found = _boto_session().get_credentials()
    if found is None:
        raise PermissionError(f"no credentials in the profile {environment.profile(_settings)!r}")
    keys = environment.Keys(*found.get_frozen_credentials()[:3])
    return _fixed(keys)() | {"expires_at": datetime.now(UTC) + _RENEWED}


@lru_cache(maxsize=1)
def _contact() -> Contact:
    return Contact()


def _given(**config: str | None) -> Any:
    return {name: value for name, value in config.items() if value}


def _fixed(keys: environment.Keys) -> Any:
    found = {"access_key_id": keys.access_key_id, "secret_access_key": keys.secret_access_key}
    return lambda: found | {"token": keys.session_token, "expires_at": None}


def _moment(text: str) -> datetime:
    """Parse a time of S3: ISO 8601 in listings, HTTP format in headers."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = parsedate_to_datetime(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _arrow_attempts() -> int:
    """Number of attempts that fit `storage.retry_s` with the longest pauses."""
    attempts, longest = 1, 0.0
    while longest + min(2.0 ** (attempts - 1), _ARROW_PAUSE_S) <= _settings.retry_s:
        longest += min(2.0 ** (attempts - 1), _ARROW_PAUSE_S)
        attempts += 1
    return attempts
