"""Hand messages to their routes, side by side and within a time."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import Future, wait
from threading import Thread

from raysvq.fleet.alerts.failure import RouteError
from raysvq.fleet.alerts.message import Message
from raysvq.fleet.alerts.services import notify
from raysvq.fleet.alerts.webhook import post
from raysvq.fleet.settings.cameras import Route

DELIVER_S = 60.0  # for all attempts; routes are called at the same time


def deliver(messages: Mapping[str, Message], routes: Mapping[str, Route]) -> dict[str, str]:
    """Send each route its message.

    Returns:
        By route: why it did not take it, without its URL.
    """
    answers: dict[str, Future[str | None]] = {name: Future() for name in messages}
    for name, message in messages.items():
        # A daemon, as a library that hangs must not keep the process from its end.
        Thread(target=_answer, args=(answers[name], routes[name], message), daemon=True).start()
    done, _ = wait(answers.values(), DELIVER_S)
    late = f"no answer within {DELIVER_S:g} s"
    reasons = {name: answer.result() if answer in done else late for name, answer in answers.items()}
    return {name: reason for name, reason in reasons.items() if reason}


def _answer(answer: Future[str | None], route: Route, message: Message) -> None:
    try:
        _send(route, message)
    except RouteError as error:
        answer.set_result(str(error))
    except Exception as error:  # noqa: BLE001 - of a service's own code; its text may hold the URL
        answer.set_result(f"it failed with {type(error).__name__}")
    else:
        answer.set_result(None)


def _send(route: Route, message: Message) -> None:
    url = os.environ.get(route.url_env, "").strip()
    if not url:
        raise RouteError(f"the environment variable {route.url_env} is not set")
    if route.kind == "webhook":
        post(url, message.body)
    else:
        notify(url, message.title, message.text, DELIVER_S)
