"""A TIFF of 600 MB, put and read over a link that is reset twice on the way."""

from __future__ import annotations

import hashlib
import os
import struct
import time
from pathlib import Path

import numpy as np

from benchmarks.night.outcome import Outcome
from benchmarks.process_memory import peak_bytes
from devtools.faulty_store import faulty_store
from devtools.s3_server import BUCKET, s3_server
from raysvq import storage
from raysvq.imaging.decode import image_size
from raysvq.settings import StorageSettings

SIDE = 24_500  # pixels, grey: 600 MB
RETRY_S = 5.0


def read_over_resets(folder: Path, side: int = SIDE) -> Outcome:
    """The bytes that come are those that were put, in the memory that they take."""
    outcome = Outcome("large-file")
    file = folder / "large.tif"
    expected = write_tiff(file, side)
    size = file.stat().st_size
    with s3_server(folder / "s3") as server, faulty_store(server.environment["AWS_ENDPOINT_URL"]) as link:
        os.environ |= server.environment
        storage.configure(StorageSettings(endpoint_url=link.endpoint, retry_s=RETRY_S))
        uri = f"s3://{BUCKET}/large.tif"
        started = time.monotonic()
        storage.put_file(file, uri)
        outcome.figures |= {"MB": size // 10**6, "s to put it": round(time.monotonic() - started, 1)}
        [info] = storage.list_objects(uri)
        link.forget()
        link.reset_after(size // 3)
        link.reset_after(size // 3)
        before = peak_bytes()
        started = time.monotonic()
        content = storage.read_version(uri, info.size_bytes, info.etag, info.mtime)
        outcome.seconds = time.monotonic() - started
        memory = (peak_bytes() - before) / size
    outcome.figures |= {"requests": len(link.requests), "memory of its size": round(memory, 2)}
    outcome.require(hashlib.sha256(content).hexdigest() == expected, "other bytes than were put")
    outcome.require(image_size(content) == (side, side), "no TIFF of its size")
    outcome.require(len(link.requests) == 3, "not taken up where the link broke")
    outcome.require(memory < 1.5, "too much memory")
    return outcome


def write_tiff(file: Path, side: int) -> str:
    """A grey, uncompressed TIFF of noise, each row a strip of its own; returns its SHA-256."""
    tags = [(256, 4, side), (257, 4, side), (258, 3, 8), (259, 3, 1), (262, 3, 1), (277, 3, 1)]
    tags += [(278, 4, side), (279, 4, side * side)]
    length = 8 + 2 + 12 * (len(tags) + 1) + 4
    entries = sorted([*tags, (273, 4, length)])
    header = struct.pack("<2sHIH", b"II", 42, 8, len(entries))
    header += b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    digest, rng = hashlib.sha256(), np.random.default_rng(0)
    with file.open("wb") as target:
        for piece in (header + bytes(4), *(None,) * side):
            data = rng.bytes(side) if piece is None else piece
            digest.update(data)
            target.write(data)
    return digest.hexdigest()
