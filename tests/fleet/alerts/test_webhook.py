"""A POST that is taken, tried again, or given up; its URL is in no text."""

from __future__ import annotations

import socket
import threading
import traceback

import pytest

from raysvq.fleet.alerts import webhook
from raysvq.fleet.alerts.failure import RouteError
from raysvq.fleet.alerts.webhook import ATTEMPTS, post
from tests.fleet.alerts.conftest import SECRET, Receiver


@pytest.mark.parametrize("first", [[], [500], [503, 429, 502]])
def test_a_server_that_is_busy_is_asked_again(receiver: Receiver, first: list[int]) -> None:
    receiver.answers = [*first, 204]
    post(receiver.url, {"text": "ö"})
    assert receiver.bodies == [{"text": "ö"}] * (len(first) + 1)


@pytest.mark.parametrize(("answer", "asked"), [(503, ATTEMPTS), (400, 1), (401, 1), (404, 1), (302, 1)])
def test_attempts_are_bounded_and_a_refusal_ends_them(receiver: Receiver, answer: int, asked: int) -> None:
    receiver.answers = [answer]
    with pytest.raises(RouteError, match=f"^it answered {answer}, expected 2xx$"):
        post(receiver.url, {})
    assert len(receiver.bodies) == asked


@pytest.mark.parametrize(
    "url",
    [
        f"ftp://host/{SECRET}",
        f"{SECRET}",
        f"https:///{SECRET}",
        f"http://[{SECRET}",
        f"http://host:{SECRET}/",
        f"http://user:{SECRET}@127.0.0.1:1/",
        f"http://127.0.0.1:1/{SECRET}\r\nX: y",
        f"http://127.0.0.1:1/ö/{SECRET}",
        f"http://127.0.0.1:1/{SECRET}",
        f"http://{SECRET.lower()}.invalid/",
    ],
)
@pytest.mark.usefixtures("receiver")
def test_no_error_shows_any_of_the_url(url: str) -> None:
    with pytest.raises(RouteError) as failure:
        post(url, {})
    text = "".join(traceback.format_exception(failure.value)).split("RouteError", 1)[-1]
    shown = str(failure.value) + text + repr(failure.value.args)
    assert SECRET.lower() not in shown.lower()
    assert "127.0.0.1" not in shown
    assert failure.value.__suppress_context__


def test_a_server_that_does_not_answer_is_given_up(
    monkeypatch: pytest.MonkeyPatch, receiver: Receiver
) -> None:
    monkeypatch.setattr(webhook, "ANSWER_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        asked: list[socket.socket] = []
        threading.Thread(
            target=lambda: asked.extend(silent.accept()[0] for _ in range(ATTEMPTS)), daemon=True
        ).start()
        with pytest.raises(RouteError, match=r"^no answer within 0\.05 s$"):
            post(f"http://127.0.0.1:{silent.getsockname()[1]}/{SECRET}", {})
    assert len(asked) == ATTEMPTS
    for one in asked:
        one.close()
