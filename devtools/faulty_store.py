"""An S3 server that misbehaves to order: a proxy in front of a real one.

Requests pass unchanged, Host header included, so their signatures stay valid. A fault waits for the next
requests, `times` of them, and the requests after those pass. A rule, where there is one, decides first.
"""

from __future__ import annotations

import http.client
import io
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from devtools.s3_server import free_ports

Fault = Callable[["_Handler"], None]
Rule = Callable[[str, str], Fault | None]  # of method and target
PIECE = 2**18  # bytes in memory, of a body that passes


class FaultyStore:
    """The proxy's switchboard. `requests` holds the method of each request that came in."""

    def __init__(self, upstream: str, port: int) -> None:
        self.upstream = urlsplit(upstream).netloc
        self.port = port
        self.endpoint = f"http://127.0.0.1:{port}"
        self.requests: list[str] = []
        self.rule: Rule | None = None
        self._faults: deque[Fault] = deque()
        self._server: ThreadingHTTPServer | None = None

    def answer(self, status: int, code: str, times: int = 1) -> None:
        """Answer with an S3 error and leave the server behind alone."""
        self._faults.extend([lambda handler: handler.answer(status, code)] * times)

    def reset(self, times: int = 1) -> None:
        """Reset the connection before anything is done."""
        self._faults.extend([lambda handler: handler.reset()] * times)

    def lose_answer(self, times: int = 1) -> None:
        """Do what is asked, then reset the connection instead of saying so."""
        self._faults.extend([lambda handler: handler.lose_answer()] * times)

    def cut(self, times: int = 1) -> None:
        """Send half of the body, and close."""
        self._faults.extend([lambda handler: handler.forward(share=0.5)] * times)

    def reset_after(self, size: int, times: int = 1) -> None:
        """Send so many bytes of the body, then reset the connection."""
        self._faults.extend([lambda handler: handler.break_off(size)] * times)

    def delay(self, seconds: float, times: int = 1) -> None:
        """Answer late."""
        self._faults.extend([lambda handler: handler.late(seconds)] * times)

    def refuse(self, seconds: float) -> None:
        """Close the port now, open it again after so long."""
        self.close()
        threading.Timer(seconds, self.open).start()

    def forget(self) -> None:
        """No faults any more, no requests counted."""
        self._faults.clear()
        self.requests.clear()
        self.rule = None

    def open(self) -> None:
        """Take requests."""
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), _handler(self))
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        """Refuse connections."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()

    def next_fault(self, method: str, target: str) -> Fault | None:
        """What to do to this request; None lets it pass."""
        if self.rule and (fault := self.rule(method, target)):
            return fault
        try:
            return self._faults.popleft()
        except IndexError:
            return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # clients that ask whether to continue are told so
    store: FaultyStore

    def handle_one(self) -> None:
        self.close_connection = True
        self.body = self._chunks() if "Transfer-Encoding" in self.headers else self._whole()
        self.store.requests.append(self.command)
        (self.store.next_fault(self.command, self.path) or _Handler.forward)(self)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = handle_one

    def forward(self, share: float = 1.0) -> None:
        with self._upstream() as response:
            length = self._head(response)
            left = 0 if self.command == "HEAD" else int(length * share)
            with suppress(OSError):  # the client did not wait
                self._copy(response, left)

    def break_off(self, size: int) -> None:
        with self._upstream() as response:
            self._head(response)
            self._copy(response, size)
        self.wfile.flush()
        time.sleep(0.05)  # a reset takes along what is still under way
        self.reset()

    def _head(self, response: http.client.HTTPResponse) -> int:
        length = int(response.getheader("Content-Length") or 0)
        self.send_response_only(response.status)
        for name, value in response.getheaders():
            if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                self.send_header(name, value)
        if response.chunked:
            self._rest = response.read()
            length = len(self._rest)
        self.send_header("Content-Length", str(length))
        self.send_header("Connection", "close")
        self.end_headers()
        return length

    def _copy(self, response: http.client.HTTPResponse, left: int) -> None:
        source = io.BytesIO(self._rest) if response.chunked else response
        while left and (piece := source.read(min(PIECE, left))):
            self.wfile.write(piece)
            left -= len(piece)

    def answer(self, status: int, code: str) -> None:
        text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>to order</Message></Error>"
        content = b"" if self.command == "HEAD" else text.encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def lose_answer(self) -> None:
        with self._upstream() as response:
            response.read()
        self.reset()

    def late(self, seconds: float) -> None:
        time.sleep(seconds)
        with suppress(OSError):  # the server behind may be gone by now
            self.forward()

    def finish(self) -> None:
        with suppress(OSError):  # reset by order
            super().finish()

    def log_message(self, *_: object) -> None:
        return

    def _whole(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _chunks(self) -> bytes:
        """A chunked body, as it came."""
        body = b""
        while True:
            line = self.rfile.readline()
            size = int(line.split(b";")[0], 16)
            body += line + self.rfile.read(size + 2)
            if not size:
                return body

    @contextmanager
    def _upstream(self) -> Iterator[http.client.HTTPResponse]:
        connection = http.client.HTTPConnection(self.store.upstream, timeout=30)
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in ("connection", "expect"):
                connection.putheader(name, value)
        connection.endheaders(self.body)
        try:
            yield connection.getresponse()
        finally:
            connection.close()


def _handler(store: FaultyStore) -> type[_Handler]:
    return type("Handler", (_Handler,), {"store": store})


@contextmanager
def faulty_store(upstream: str) -> Iterator[FaultyStore]:
    """A proxy in front of the S3 server at the URL `upstream`."""
    store = FaultyStore(upstream, free_ports(1)[0])
    store.open()
    try:
        yield store
    finally:
        store.close()
