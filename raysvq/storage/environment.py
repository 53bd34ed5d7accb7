"""S3 options of the settings and the environment, checked: clients fail obscurely on invalid ones."""

from __future__ import annotations

import os
import re
import ssl
from typing import NamedTuple
from urllib.parse import urlsplit

from raysvq.errors import SettingsError
from raysvq.settings import StorageSettings

ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
KEY, SECRET, TOKEN = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"

CA_BUNDLE = "AWS_CA_BUNDLE"

_HOST = re.compile(r"[\w.-]+|[0-9A-Fa-f:.]+")  # a name, or an address as IPv6 writes it


class Keys(NamedTuple):
    """Keys that sign requests to S3."""

    access_key_id: str
    secret_access_key: str
    session_token: str | None = None  # of temporary keys


def endpoint(settings: StorageSettings) -> str | None:
    """The URL of the S3 store; None for AWS.

    Raises:
        SettingsError: it is no URL.
    """
    name, value = _first("storage.endpoint_url", settings.endpoint_url, ENDPOINTS)
    if value is None:
        return None
    problem = _url_problem(value)
    if problem:
        raise SettingsError(
            f"{name} {problem}; expected http:// or https:// and a host, such as http://minio:9000"
        )
    return value.rstrip("/")


def region(settings: StorageSettings) -> str | None:
    """The region of the buckets; None where nothing names one.

    Raises:
        SettingsError: no region has such a name.
    """
    name, value = _first("storage.region", settings.region, REGIONS)
    if value is not None and not re.fullmatch(r"[\w.-]+", value):
        raise SettingsError(f"{name} is {value!r}; expected the name of a region, such as eu-west-1")
    return value


def ca_bundle(settings: StorageSettings) -> str | None:
    """Path of the authorities that the store's certificate is checked against; None for the system's.

    Raises:
        SettingsError: there is no such file on this machine, or it holds no certificate.
    """
    name, value = _first("storage.ca_bundle", settings.ca_bundle, (CA_BUNDLE,))
    if value is None:
        return None
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=value)
    except ssl.SSLError:
        raise SettingsError(f"{name} is {value!r}, which holds no PEM certificates") from None
    except OSError as error:
        raise SettingsError(
            f"{name} is {value!r}: {error.strerror or error}; expected a PEM file on every node"
        ) from None
    return value


def keys(settings: StorageSettings) -> Keys | None:
    """The keys of the settings; None where the clients look elsewhere.

    Raises:
        SettingsError: one is without the other, here or in the environment, or cannot be a key. It does
            not say what was found.
    """
    if settings.access_key_id is not None and settings.secret_access_key is not None:
        token = settings.session_token.get_secret_value() if settings.session_token else None
        pair = settings.access_key_id.get_secret_value(), settings.secret_access_key.get_secret_value()
        found = Keys(*pair, token)
        for name, value in found._asdict().items():
            if value is not None:
                _require_key(f"setting `storage.{name}`", value)
        return found
    given = {name: os.environ[name] for name in (KEY, SECRET, TOKEN) if os.environ.get(name)}
    for name, value in given.items():
        _require_key(name, value)
    if (KEY in given) != (SECRET in given):
        there, missing = (KEY, SECRET) if KEY in given else (SECRET, KEY)
        raise SettingsError(
            f"{there} is set, {missing} is not; set both, or neither to use the machine's role"
        )
    return None


def profile(settings: StorageSettings) -> str | None:
    """The profile of ~/.aws that opens S3; None where the settings hold keys or nothing names one."""
    return None if settings.access_key_id is not None else os.environ.get("AWS_PROFILE")


def is_public() -> bool:
    """Whether requests go unsigned, as obstore takes it from the environment: for public buckets."""
    return os.environ.get("AWS_SKIP_SIGNATURE", "").lower() in ("1", "true", "on", "yes", "y")


def _first(setting: str, value: str | None, variables: tuple[str, ...]) -> tuple[str, str | None]:
    """The value that applies, and its name."""
    if value:
        return f"setting `{setting}`", value
    return next(((name, os.environ[name]) for name in variables if os.environ.get(name)), ("", None))


def _url_problem(value: str) -> str | None:
    """What is wrong with a URL, without a password in it."""
    if "@" in value:
        return "holds a user name or `@`"
    try:
        parts = urlsplit(value)
        usable = parts.port != 0 and _HOST.fullmatch(parts.hostname or "")
    except ValueError:  # a port that is no number, brackets that do not close
        usable = None
    wanted = usable and parts.scheme in ("http", "https") and not parts.query and not parts.fragment
    return None if wanted and not re.search(r"[\s'\"<>{}\\^`|\x00-\x1f]", value) else f"is {value!r}"


def _require_key(name: str, value: str) -> None:
    if not re.fullmatch(r"[\x21-\x7e]+", value):
        raise SettingsError(f"{name} holds blanks, line ends or other characters that no key has")
