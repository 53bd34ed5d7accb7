"""POST a JSON object to a URL that nobody may see."""

from __future__ import annotations

import json
import socket
import ssl
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException, InvalidURL
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from raysvq.fleet.alerts.failure import RouteError

ATTEMPTS = 4
ANSWER_S = 10.0  # for a connection, and for its answer

_PAUSE = wait_random_exponential(multiplier=1, max=10)  # seconds
_EXPECTED = "no URL such as https://host/path, without a user name"
_LATER = (408, 425, 429)  # and 5xx: the same request may be taken later


class _LaterError(RouteError):
    """It may be taken when it is tried again."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would become a GET, and go where nobody said."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def post(url: str, body: Mapping[str, Any]) -> None:
    """Send it, through the proxy that the environment names, if any; up to ATTEMPTS times.

    Raises:
        RouteError: it was not taken. Its text has no part of the URL.
    """
    request = _request(url, body)
    retrying = Retrying(
        retry=retry_if_exception_type(_LaterError),
        wait=_PAUSE,
        stop=stop_after_attempt(ATTEMPTS),
        reraise=True,
    )
    retrying(_post, request)


def _request(url: str, body: Mapping[str, Any]) -> urllib.request.Request:
    content = json.dumps(body).encode()
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.port == 0:
            raise ValueError
        headers = {"Content-Type": "application/json", "User-Agent": "raysvq"}
        return urllib.request.Request(url, content, headers, method="POST")
    except ValueError:
        raise RouteError(f"its environment variable holds {_EXPECTED}") from None


def _post(request: urllib.request.Request) -> None:
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=ANSWER_S):
            return
    except HTTPError as error:
        error.close()
        kind = _LaterError if error.code in _LATER or error.code >= 500 else RouteError
        raise kind(f"it answered {error.code}, expected 2xx") from None
    except (InvalidURL, ValueError):
        raise RouteError(f"its environment variable holds {_EXPECTED}") from None
    except (OSError, HTTPException) as error:
        raise _LaterError(_reason(error)) from None


def _reason(error: BaseException) -> str:
    """Why, in words of our own: an exception's text may hold the host or the path."""
    if isinstance(error, URLError) and isinstance(error.reason, BaseException):
        error = error.reason
    if isinstance(error, TimeoutError):
        return f"no answer within {ANSWER_S:g} s"
    if isinstance(error, socket.gaierror):
        return "its host is not known"
    if isinstance(error, ssl.SSLError):
        return f"no TLS connection: {error.reason or type(error).__name__}"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return f"no answer: {type(error).__name__}"
