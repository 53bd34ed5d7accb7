"""Decoding in a process that may crash, for images that could be what killed a worker."""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import TracebackType

from raysvq.imaging.decode import DecodeError
from raysvq.imaging.pixels import open_tiles
from raysvq.settings import ScoringSettings, TileSettings

HANGS_S = 120.0  # a decoder that takes longer is taken to hang


class Trial:
    """Decodes images in a child process; a context manager, which ends the child."""

    def __init__(self, tiles: TileSettings, scoring: ScoringSettings) -> None:
        self.tiles = tiles
        self.scoring = scoring
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
        connection = self._connection()
        connection.send_bytes(content)
        try:
            if not connection.poll(HANGS_S):
                self._end()
                raise DecodeError("crashed", f"decoding took more than {HANGS_S:.0f} s")
            problem: DecodeError | None = connection.recv()
        except EOFError:
            self._end()
            raise DecodeError("crashed", "the process that decoded it died") from None
        if problem:
            raise problem

    def _connection(self) -> Connection:
        if self._child is None:
            spawn = multiprocessing.get_context("spawn")
            ours, theirs = spawn.Pipe()
            child = spawn.Process(target=_serve, args=(theirs, self.tiles, self.scoring), daemon=True)
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


def _serve(connection: Connection, tiles: TileSettings, scoring: ScoringSettings) -> None:
    while True:
        try:
            content = connection.recv_bytes()
        except EOFError:  # whoever asked is gone
            return
        try:
            for _ in open_tiles(content, tiles, scoring).parts:
                pass
        except DecodeError as error:
            connection.send(error)
        else:
            connection.send(None)
