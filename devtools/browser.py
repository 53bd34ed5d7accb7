"""A headless Chromium, driven through the DevTools protocol over a pipe."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_WAIT_S = 60
_QUIET = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
_QUIET += ["--disable-sync", "--disable-background-networking", "--disable-component-update"]
_QUIET += ["--disable-quic", "--hide-scrollbars"]
_CODES = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Escape": 27, "Enter": 13}
_CODES |= {"Home": 36, "End": 35, "+": 187, "-": 189, "/": 191, "Tab": 9}


class Page:
    """An open page: what it asks for and complains of is kept."""

    def __init__(self, process: subprocess.Popen[bytes], reader: int, writer: int) -> None:
        """Attach to the one page of a browser that has just started."""
        self.process, self._reader, self._writer = process, reader, writer
        self._buffer, self._last = b"", 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.call("Page.setLifecycleEventsEnabled", enabled=True)

    def call(self, method: str, **params: Any) -> Any:
        """The result of a command. Events that come before it are kept."""
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._writer, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._last:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self.events.append(answer)

    def open(self, path: Path) -> None:
        """Load a file, until it is complete; earlier events are forgotten."""
        self.events.clear()
        answer = self.call("Page.navigate", url=path.as_uri())
        assert "errorText" not in answer, (path, answer["errorText"])
        self._loaded(answer["loaderId"])

    def follow(self, script: str) -> None:
        """Run what leads to another page, until that is complete; earlier events are forgotten."""
        self.events.clear()
        self.run(f"void setTimeout(() => {{ {script} }})")
        found = self._event(lambda event: event["method"] == "Page.frameNavigated")
        if found["type"] != "BackForwardCacheRestore":
            self._loaded(found["frame"]["loaderId"])

    def set_clock(self, when: datetime) -> None:
        """Make it always this time on the pages that are opened from now on."""
        source = f"Date.now = () => {round(when.timestamp() * 1000)}"
        self.call("Page.addScriptToEvaluateOnNewDocument", source=source)

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        """Press and release a key, as a person would, and let the page draw."""
        code = _CODES.get(key, ord(key[0].upper()))
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        common = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)
        self.drawn()

    def look(self, width: int, height: int, *, dark: bool = False) -> None:
        """Give the window a size in CSS pixels, and a colour scheme."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.drawn()

    def drawn(self) -> None:
        """Wait until the page has drawn what it was told last."""
        self.run("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")

    def screenshot(self) -> bytes:
        """The window as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot")["data"])

    def pdf(self) -> bytes:
        """The page as it is printed."""
        return base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"])

    @property
    def complaints(self) -> list[Any]:
        """What the page wrote to the console, exceptions, and what the browser logged about it."""
        kinds = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [event["params"] for event in self.events if event["method"] in kinds]

    @property
    def requests(self) -> list[str]:
        """The addresses that were asked for, but those inside the file."""
        asked = [
            e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"
        ]
        return [url for url in asked if not url.startswith("data:")]

    def _loaded(self, loader: str) -> None:
        ended = {"name": "load", "loaderId": loader}
        self._event(
            lambda event: (
                event["method"] == "Page.lifecycleEvent" and ended.items() <= event["params"].items()
            )
        )

    def _event(self, wanted: Callable[[dict[str, Any]], bool]) -> Any:
        """What the first event that is wanted says, of those that came and those to come."""
        while not (found := next(filter(wanted, self.events), None)):
            self.events.append(self._next())
        return found["params"]

    def _next(self) -> dict[str, Any]:
        deadline = time.monotonic() + _WAIT_S
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._reader], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"Chromium did not answer within {_WAIT_S} s"
            part = os.read(self._reader, 1 << 20)
            assert part, "Chromium has ended"
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found


@contextmanager
def open_browser(profile: Path) -> Iterator[Page]:
    """A browser with one empty page. It ends with the block, and so do its child processes."""
    there, back = os.pipe(), os.pipe()
    # Chromium reads commands from descriptor 3 and answers on 4: lifted first, not to overwrite each other.
    ours = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10) for descriptor in (*there, *back)]
    for descriptor in (*there, *back):
        os.close(descriptor)
    read_commands, write_commands, read_answers, write_answers = ours

    def arrange() -> None:
        os.dup2(read_commands, 3)
        os.dup2(write_answers, 4)

    process = subprocess.Popen(
        [str(CHROMIUM), *_QUIET, "--remote-debugging-pipe", f"--user-data-dir={profile}"],
        close_fds=False,
        preexec_fn=arrange,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(read_commands)
    os.close(write_answers)
    try:
        yield Page(process, read_answers, write_commands)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(_WAIT_S)
        os.close(read_answers)
        os.close(write_commands)
