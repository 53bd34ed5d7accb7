"""Decoding in a process that may crash, for images that could be what killed a worker."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import TracebackType

from raysvq.imaging.decode import DecodeError
from raysvq.imaging.pixels import open_tiles
from raysvq.settings import ScoringSettings, TileSettings

HANGS_S = 120.0  # a decoder that takes longer is taken to hang

Decode = Callable[[bytes], object]  # may be sent to another process


def decode(content: bytes, tiles: TileSettings, scoring: ScoringSettings) -> None:
    """All that scoring does with a file before the network sees it. Raises DecodeError."""
    for _ in open_tiles(content, tiles, scoring).parts:
        pass


class Trial:
    """Decodes images in a child process; a context manager, which ends the child."""

    def __init__(self, decode: Decode, limit_s: float = HANGS_S) -> None:
        self.decode = decode
        self.limit_s = limit_s
        self._child: tuple[BaseProcess, Connection] | None = None

    def __enter__(self) -> Trial:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def require_survival(self, content: bytes) -> None:
        """Decode once for trial.

        Raises:
            DecodeError: the image cannot be used; "crashed" where the child died of it or hung.
        """
        fresh = self._child is None
        connection = self._connection()
        try:
            connection.send_bytes(content)
            if not connection.poll(self.limit_s):
                self._end()
                raise DecodeError("crashed", f"decoding took more than {self.limit_s:.0f} s")
            problem: DecodeError | None = connection.recv()
        except (EOFError, OSError):
            self._end()
            if not fresh:  # perhaps of an image before this one
                return self.require_survival(content)
            raise DecodeError("crashed", "the process that decoded it died") from None
        if problem:
            raise problem

    def _connection(self) -> Connection:
        if self._child is None:
            spawn = multiprocessing.get_context("spawn")
            ours, theirs = spawn.Pipe()
            child = spawn.Process(target=_serve, args=(theirs, self.decode), daemon=True)
            child.start()
            theirs.close()
            self._child = child, ours
        return self._child[1]

    def _end(self) -> None:
        if self._child is not None:
            process, connection = self._child
            process.kill()
            process.join()
            connection.close()
            self._child = None


def _serve(connection: Connection, decode: Decode) -> None:
    while True:
        try:
            content = connection.recv_bytes()
        except EOFError:  # whoever asked is gone
            return
        try:
            decode(content)
        except DecodeError as error:
            connection.send(error)
        else:
            connection.send(None)
