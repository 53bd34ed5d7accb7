"""Routes are called side by side; one that hangs or breaks costs the others nothing."""

from __future__ import annotations

import logging
import sys
import threading
import time

import pytest

from raysvq.fleet.alerts import deliver as module
from raysvq.fleet.alerts.deliver import deliver
from raysvq.fleet.alerts.message import Message
from raysvq.fleet.settings.cameras import Route
from tests.fleet.alerts.conftest import SECRET, Receiver
from tests.fleet.alerts.nights import webhook

MESSAGE = Message("a title", "a title\nand <text>", {"text": "a body"})


def apprise_route() -> Route:
    return Route(kind="apprise", url_env="SERVICE")


def test_a_route_that_hangs_is_left_after_a_while(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    monkeypatch.setattr(module, "DELIVER_S", 0.5)
    monkeypatch.setattr(module, "notify", lambda *_: release.wait(30))
    monkeypatch.setenv("SERVICE", "json://127.0.0.1")
    started = time.monotonic()
    routes = {"ops": webhook(), "mail": apprise_route()}
    failed = deliver(dict.fromkeys(routes, MESSAGE), routes)
    release.set()
    assert time.monotonic() - started < 5
    assert failed == {"mail": "no answer within 0.5 s"}
    assert receiver.bodies == [{"text": "a body"}]


def test_an_error_of_a_services_own_code_is_named_by_its_type(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(url: str, *_: object) -> None:
        raise KeyError(url)

    monkeypatch.setattr(module, "notify", broken)
    monkeypatch.setenv("SERVICE", f"json://{SECRET}")
    assert deliver({"mail": MESSAGE}, {"mail": apprise_route()}) == {"mail": "it failed with KeyError"}


def test_apprise_sends_title_and_text(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE", receiver.url.replace("http://", "json://"))
    assert deliver({"mail": MESSAGE}, {"mail": apprise_route()}) == {}
    (body,) = receiver.bodies
    assert (body["title"], body["message"]) == ("a title", "a title\nand <text>")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        (f"nonsense://{SECRET}", "its environment variable holds no URL that apprise understands"),
        (SECRET, "its environment variable holds no URL that apprise understands"),
        (f"json://127.0.0.1:1/{SECRET}?retry=0", "its service did not take the message"),
    ],
)
def test_apprise_that_fails_shows_no_url(
    url: str,
    why: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.NOTSET)
    monkeypatch.setenv("SERVICE", url)
    assert deliver({"mail": MESSAGE}, {"mail": apprise_route()}) == {"mail": why}
    assert SECRET not in caplog.text + "".join(capfd.readouterr())


def test_without_apprise_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    monkeypatch.setenv("SERVICE", "json://127.0.0.1")
    failed = deliver({"mail": MESSAGE}, {"mail": apprise_route()})
    assert failed == {"mail": "apprise is not installed: pip install 'raysvq[alerts]'"}
