"""Mail, chat and paging services through apprise, which the extra `alerts` brings."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from raysvq.fleet.alerts.failure import RouteError

RETRIES = 2
PAUSE_S = 2.0


def notify(url: str, title: str, text: str, timeout_s: float) -> None:
    """Send a text to the service that an apprise URL names.

    Raises:
        RouteError: apprise is missing, does not understand the URL, or the service did not take it. Its text
            has no part of the URL.
    """
    try:
        import apprise
    except ImportError:
        raise RouteError("apprise is not installed: pip install 'raysvq[alerts]'") from None
    asset = apprise.AppriseAsset(
        app_id="raysvq",
        default_service_retry=RETRIES,
        default_service_wait=PAUSE_S,
        http_redirects=False,
    )
    with _quiet("apprise", "urllib3", "requests"):
        services = apprise.Apprise(asset=asset)
        if not services.add(url):
            raise RouteError("its environment variable holds no URL that apprise understands")
        if not services.notify(text, title, body_format=apprise.NotifyFormat.TEXT, timeout=timeout_s):
            raise RouteError("its service did not take the message")


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Keep libraries from logging addresses."""
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 10)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
