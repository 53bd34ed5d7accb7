"""Protection from decoders that hang or crash: a deadline in this process, or a child process."""

from __future__ import annotations

import faulthandler
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, Pipe

from raysvq.errors import ScoringError
from raysvq.imaging.decode import DecodeError
from raysvq.imaging.pixels import open_tiles
from raysvq.settings import ScoringSettings, TileSettings

START_TIMEOUT_S = 120.0  # start-up of the child on a busy machine

Decode = Callable[[bytes], Iterable[object]]  # yields after every piece; picklable
_READY, _PIECE_DONE, _DONE = "ready", "piece done", "done"
# multiprocessing would import the main module first; a Ray worker's is all of Ray.
_CHILD = "import sys; from raysvq.imaging.sandbox import serve; serve(int(sys.argv[1]))"


def decode(content: bytes, tiles: TileSettings, scoring: ScoringSettings) -> Iterator[None]:
    """Decode and cut a file, as before it is encoded. Raises DecodeError."""
    for _ in open_tiles(content, tiles, scoring).parts:
        yield


class Deadline:
    """Context manager, entered for every piece, that ends this process if decoding takes too long.

    Nothing less ends a decoder that hangs in C code, which may hold the GIL. The kernel's timer needs neither
    thread nor lock, and costs a microsecond. With several decoding threads the process ends when none of them
    has begun or ended a piece for `limit_s`. The stack traces go to stderr.
    """

    def __init__(self, limit_s: float) -> None:
        """`limit_s` is the limit for one piece: an image, or a band of a large one."""
        self._limit_s = limit_s
        self._inside = 0
        self._lock = threading.Lock()
        faulthandler.register(signal.SIGALRM, file=2, all_threads=True, chain=True)

    def __enter__(self) -> None:
        self._count(1)

    def __exit__(self, *error: object) -> None:
        self._count(-1)

    def _count(self, change: int) -> None:
        with self._lock:
            self._inside += change
            signal.setitimer(signal.ITIMER_REAL, self._limit_s if self._inside else 0.0)


class Sandbox:
    """Decodes images in a child process; a context manager, which ends the child."""

    def __init__(self, decode: Decode, timeout_s: float) -> None:
        """A decoder that finishes no piece for `timeout_s` seconds is taken to hang."""
        self.decode = decode
        self.timeout_s = timeout_s
        self._child: tuple[subprocess.Popen[bytes], Connection] | None = None

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *error: object) -> None:
        self._end()

    def require_decodable(self, content: bytes) -> None:
        """Decode the image in the child, and drop the pixels.

        Raises:
            DecodeError: the image cannot be used; "crashed" where the child died of it or hung.
            ScoringError: no child can be started.
        """
        fresh = self._child is None
        connection = self._connection()
        try:
            connection.send_bytes(content)
            problem = self._answer(connection)
        except (EOFError, OSError):
            self._end()
            if not fresh:  # an earlier image may have broken the child
                return self.require_decodable(content)
            raise DecodeError("crashed", "the process that decoded it died") from None
        if problem:
            raise problem

    def _answer(self, connection: Connection) -> DecodeError | None:
        while connection.poll(self.timeout_s):
            match connection.recv():
                case DecodeError() as problem:
                    return problem
                case str(word) if word == _DONE:
                    return None
        self._end()
        return DecodeError("crashed", f"decoding took more than {self.timeout_s:g} s")

    def _connection(self) -> Connection:
        if self._child is None:
            ours, theirs = Pipe()
            with theirs:
                end = theirs.fileno()
                child = subprocess.Popen(
                    [sys.executable, "-c", _CHILD, str(end)],
                    pass_fds=[end],
                    stdin=subprocess.DEVNULL,
                    env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
                )
            self._child = child, ours
            self._require_started(ours)
        return self._child[1]

    def _require_started(self, connection: Connection) -> None:
        """Wait for the child to start, outside of an image's time limit."""
        try:
            connection.send(self.decode)
            started = connection.poll(START_TIMEOUT_S) and connection.recv() == _READY
        except (EOFError, OSError):
            started = False
        if not started:
            self._end()
            raise ScoringError(
                f"a process to decode images in did not start within {START_TIMEOUT_S:.0f} s; see Ray's logs"
                " for why (memory?), and start the run again"
            )

    def _end(self) -> None:
        if self._child is not None:
            process, connection = self._child
            process.kill()
            process.wait()
            connection.close()
            self._child = None


def serve(descriptor: int) -> None:
    """Decode what comes through the socket until it is closed. This is what the child runs."""
    connection = Connection(descriptor)
    decode: Decode = connection.recv()
    connection.send(_READY)
    while True:
        try:
            content = connection.recv_bytes()
        except EOFError:  # the worker is gone
            return
        try:
            for _ in decode(content):
                connection.send(_PIECE_DONE)
        except DecodeError as error:
            connection.send(error)
        else:
            connection.send(_DONE)
