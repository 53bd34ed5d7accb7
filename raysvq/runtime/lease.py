"""One run at a time on a folder.

A lease is a numbered file that only one process can create. Its holder renews it. A lease that is no longer
renewed belongs to a dead run; the next run creates the next number, which of two runs only one can. A holder
that finds its lease gone or replaced has lost it for good.

Clocks of machines are never compared: a waiting run watches the file change by its own clock. Each request of
a renewal ends after ANSWER_S, so a holder with a slow store still renews in time. Before it commits, a holder
renews and then checks for a successor; a successor creates its lease and then checks whether the old one was
renewed. So one of the two sees the other.
"""

from __future__ import annotations

import json
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raysvq import log
from raysvq.errors import DataError
from raysvq.storage import create_file, join, list_objects, read_bytes, remove_file, write_bytes

LEASES = "_leases"
RENEW_S = 5.0
ANSWER_S = 10.0  # timeout of each request of a renewal
DEAD_S = 60.0  # a lease not renewed for so long is dead; more than RENEW_S and all requests of a renewal
MAX_TRIES = 5  # attempts to take a folder that other runs take and release meanwhile


@contextmanager
def lease(out: str, run_id: str) -> Iterator[Callable[[], None]]:
    """Hold the folder `out` for one run.

    Yields:
        A check to make before committing results: it raises DataError if another run has taken over,
        or if the lease cannot be renewed, so that another one may.

    Raises:
        DataError: another run holds it.
        StorageError: the place may not be written.
    """
    mine = _acquire(out, run_id)
    done = threading.Event()
    thread = threading.Thread(target=_renew_often, args=(mine, done), daemon=True)
    thread.start()
    try:
        yield lambda: _require_held(out, mine)
    finally:
        done.set()
        thread.join(2 * ANSWER_S + 1)
        _release(mine)


@dataclass(frozen=True)
class _Lease:
    """A lease that this process holds."""

    uri: str
    run_id: str
    token: str = field(default_factory=lambda: uuid.uuid4().hex)  # runs started twice share their id

    def content(self) -> bytes:
        """The content of the file, with the current time."""
        place: dict[str, Any] = {"host": socket.gethostname(), "machine": _machine(), "pid": os.getpid()}
        mine = {"run_id": self.run_id, "token": self.token, "renewed": time.time()}
        return json.dumps(place | mine).encode()

    def is_held(self) -> bool:
        """Whether the file exists and is this process's."""
        holder = _holder(_read(self.uri, ANSWER_S))
        return holder is not None and holder.get("token") == self.token

    def renew(self) -> bool:
        """Renew the lease; False if it is no longer held.

        A process halted between two of these steps may write a file again that a successor had removed. It
        removes that file.
        """
        started = time.monotonic()
        if not self.is_held():
            return False
        write_bytes(self.uri, self.content(), ANSWER_S)
        halted = time.monotonic() - started > DEAD_S / 2
        if halted or _read(_next(self.uri), ANSWER_S) is not None:
            remove_file(self.uri)
            return False
        return True


def _acquire(out: str, run_id: str) -> _Lease:
    for _ in range(MAX_TRIES):
        held = _newest(out)
        left = None if held is None else _require_dead(out, held)
        if held is not None and left is None:  # released meanwhile
            continue
        mine = _Lease(_next(held) if held else join(out, LEASES, f"{0:08d}.json"), run_id)
        if not create_file(mine.uri, mine.content()):
            continue
        if held is not None:
            now = _read(held)
            if now is not None and now != left:
                _release(mine)
                raise _taken(out, now)
            remove_file(held)
        return mine
    raise DataError(
        f"{out}: {MAX_TRIES} times another run was quicker to take the folder; start one at a time"
    )


def _require_held(out: str, mine: _Lease) -> None:
    deadline = time.monotonic() + DEAD_S
    while True:
        try:
            if mine.renew() and _newest(out) == mine.uri:
                return
            break
        except OSError as error:  # one failed request need not end a long run
            if time.monotonic() >= deadline:
                lost = "may be taken over by another run, as this one cannot renew its lease"
                raise DataError(f"{out} {lost}: {error}") from None
        time.sleep(RENEW_S / 5)
    raise DataError(f"{out} was taken over by another run while this one did not answer; nothing committed")


def _require_dead(out: str, held: str) -> bytes | None:
    """Wait until a lease is known to be dead; returns its content, None if it was released.

    A damaged one may be half written: it gets the same time.

    Raises:
        DataError: as soon as it is renewed.
    """
    first = _read(held)
    if first is None or _holder_ended(_holder(first)):
        return first
    deadline = time.monotonic() + DEAD_S
    while True:
        last_read = time.monotonic() >= deadline
        now = _read(held)
        if now is None:
            return None
        if now != first:
            raise _taken(out, now)
        if last_read:
            return now
        time.sleep(RENEW_S / 5)


def _taken(out: str, content: bytes) -> DataError:
    holder = _holder(content)
    who = f"run {holder['run_id']} on {holder['host']} (process {holder['pid']})" if holder else "another run"
    return DataError(f"{out} is being written by {who}; wait for it to end, or choose another folder")


def _holder_ended(holder: dict[str, Any] | None) -> bool:
    """Whether the holder was a process of this machine that has ended."""
    if holder is None or holder["machine"] != _machine():
        return False
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _machine() -> str:
    """Identifies a boot of a machine and a container: within it a process number is unique."""
    marks = [socket.gethostname()]
    with suppress(OSError):  # only on Linux; elsewhere the host name must do
        marks += [
            Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            os.readlink("/proc/self/ns/pid"),
        ]
    return " ".join(marks)


def _newest(out: str) -> str | None:
    """The latest lease. Network file systems add files of their own, such as .nfs0001 and ._00000000.json."""
    files = [info.uri for info in list_objects(join(out, LEASES), must_exist=False)]
    leases = [uri for uri in files if re.fullmatch(r"\d+\.json", uri.rpartition("/")[2])]
    return max(leases, key=_number, default=None)


def _number(uri: str) -> int:
    return int(uri.rpartition("/")[2].removesuffix(".json"))


def _next(uri: str) -> str:
    return f"{uri.rpartition('/')[0]}/{_number(uri) + 1:08d}.json"


def _read(uri: str, within_s: float | None = None) -> bytes | None:
    try:
        return read_bytes(uri, within_s)
    except FileNotFoundError:
        return None


def _holder(content: bytes | None) -> dict[str, Any] | None:
    """Who holds a lease; None where its content is cut off or damaged."""
    try:
        holder = json.loads(content or b"")
    except ValueError:
        return None
    if not isinstance(holder, dict) or not {"run_id", "host", "machine", "pid"} <= holder.keys():
        return None
    pid = holder["pid"]
    return holder if isinstance(pid, int) and 0 < pid < 2**31 else None


def _renew_often(mine: _Lease, done: threading.Event) -> None:
    while not done.wait(RENEW_S):
        with suppress(OSError):  # the store may answer the next time
            if not mine.renew():
                return


def _release(mine: _Lease) -> None:
    """Remove the lease; warn if that fails, as an exception might hide another."""
    try:
        if mine.is_held():
            remove_file(mine.uri)
    except OSError as error:
        after = f"other runs wait {DEAD_S:.0f} s for it"
        log.warning(f"the lease {mine.uri} is left behind, {after}: {error}")
