"""One run at a time on a folder.

A lease is a file that only one process can create. Its holder renews it; one that is no longer
renewed was left by a run that died, and the next run takes over under the next number, which of two
only one can create. A holder that finds its lease gone, or another's in its place, has lost it for good.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from raysvq.errors import DataError
from raysvq.storage import create_file, join, list_objects, read_bytes, remove_file, write_bytes

LEASES = "_leases"
RENEW_S = 5.0
DEAD_S = 20.0  # not renewed for so long: its holder is gone


@contextmanager
def lease(out: str, run_id: str) -> Iterator[Callable[[], None]]:
    """Hold the folder `out` for one run.

    Yields:
        A check to make before committing results: it raises DataError if another run has taken over.

    Raises:
        DataError: another run holds it.
        StorageError: the place may not be written.
    """
    mine = _acquire(out, run_id)
    done = threading.Event()
    thread = threading.Thread(target=_renew, args=(mine, run_id, done), daemon=True)
    thread.start()
    try:
        yield lambda: _require_held(out, mine, run_id)
    finally:
        done.set()
        thread.join()
        if _is_held(mine, run_id):
            remove_file(mine)


def _acquire(out: str, run_id: str) -> str:
    while True:
        held = _newest(out)
        if held is not None:
            _require_dead(out, held)
        number = 0 if held is None else _number(held) + 1
        mine = join(out, LEASES, f"{number:08d}.json")
        if create_file(mine, _content(run_id)):
            if held is not None:
                remove_file(held)
            return mine


def _is_held(mine: str, run_id: str) -> bool:
    content = _read(mine)
    return content is not None and content["run_id"] == run_id


def _require_held(out: str, mine: str, run_id: str) -> None:
    if _newest(out) != mine or not _is_held(mine, run_id):
        raise DataError(
            f"{out} was taken over by another run while this one did not answer; nothing committed"
        )


def _require_dead(out: str, held: str) -> None:
    """Wait until a lease has shown to be abandoned. Raises DataError as soon as it is renewed."""
    first = _read(held)
    if first is None or _holder_ended(first):
        return
    deadline = time.monotonic() + DEAD_S
    while time.monotonic() < deadline:
        time.sleep(RENEW_S / 5)
        now = _read(held)
        if now is None:
            return
        if now != first:
            raise DataError(
                f"{out} is being written by run {now['run_id']} on {now['host']} (process {now['pid']});"
                " wait for it to end, or choose another folder"
            )


def _holder_ended(content: dict[str, Any]) -> bool:
    """Whether the holder was a process of this machine that is no more."""
    if content["machine"] != _machine():
        return False
    try:
        os.kill(content["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _machine() -> str:
    """Where process numbers mean the same: one start of one system, one container."""
    marks = [socket.gethostname()]
    with suppress(OSError):  # elsewhere than on Linux the name must do
        marks += [
            Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            os.readlink("/proc/self/ns/pid"),
        ]
    return " ".join(marks)


def _newest(out: str) -> str | None:
    files = [info.uri for info in list_objects(join(out, LEASES), must_exist=False)]
    return max((uri for uri in files if uri.endswith(".json")), key=_number, default=None)


def _number(uri: str) -> int:
    return int(uri.rpartition("/")[2].removesuffix(".json"))


def _read(uri: str) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(read_bytes(uri))
    except FileNotFoundError:
        return None
    return content


def _content(run_id: str) -> bytes:
    holder = {"run_id": run_id, "host": socket.gethostname(), "machine": _machine(), "pid": os.getpid()}
    return json.dumps(holder | {"renewed": time.time()}).encode()


def _renew(mine: str, run_id: str, done: threading.Event) -> None:
    while not done.wait(RENEW_S):
        with suppress(OSError):  # a store that does not answer now may do so the next time
            if not _is_held(mine, run_id):
                return
            write_bytes(mine, _content(run_id))
