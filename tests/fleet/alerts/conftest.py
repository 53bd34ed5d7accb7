"""A web server that takes alerts, or does not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from tenacity import wait_none

from raysvq.fleet.alerts import webhook

SECRET = "T0P-S3CRET-T0KEN"


@dataclass
class Receiver:
    """Where it is, what it was sent, and what it answers next; the last answer stays."""

    url: str
    bodies: list[dict[str, Any]] = field(default_factory=list)
    answers: list[int] = field(default_factory=lambda: [200])

    def answer(self) -> int:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A server at a secret path of this machine, which OPS_WEBHOOK names; retries do not pause."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            found.bodies.append(json.loads(content))
            status = found.answer()
            self.send_response(status)
            if status == 302:
                self.send_header("Location", f"{found.url}/elsewhere")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Receiver(f"http://127.0.0.1:{server.server_port}/hooks/{SECRET}")
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    monkeypatch.setenv("OPS_WEBHOOK", found.url)
    monkeypatch.setattr(webhook, "_PAUSE", wait_none())
    yield found
    server.shutdown()
    server.server_close()
    thread.join()
