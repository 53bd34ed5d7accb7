"""Images, listings and trees to index, on whichever store a test asks for."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysvq.storage import join, write_bytes


@dataclass(frozen=True)
class Folder:
    """A folder to fill; names are relative to it."""

    uri: str

    def image(self, name: str, size: tuple[int, int] = (8, 9), value: int = 50) -> str:
        """Write a grey image of (height, width), or a mask; return its URI."""
        done, encoded = cv2.imencode(".png", np.full(size, value, np.uint8))
        assert done
        return self.file(name, encoded.tobytes())

    def file(self, name: str, content: bytes) -> str:
        write_bytes(join(self.uri, name), content)
        return join(self.uri, name)

    def csv(self, rows: Iterable[Mapping[str, Any]], name: str = "listing.csv") -> str:
        rows = list(rows)
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        return self.file(name, text.getvalue().encode())

    def parquet(self, rows: list[dict[str, Any]], name: str = "listing.parquet") -> str:
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows), sink)
        return self.file(name, sink.getvalue())

    def tree(self, good: int = 6, bad: int = 4) -> str:
        """An MVTec-style tree with scratches that have masks."""
        for number in range(good):
            self.image(f"tree/train/good/{number:03}.png")
        self.image("tree/test/good/000.png")
        for number in range(bad):
            self.image(f"tree/test/scratch/{number:03}.png")
            self.image(f"tree/ground_truth/scratch/{number:03}_mask.png")
        return join(self.uri, "tree")


@pytest.fixture
def folder(place: str) -> Folder:
    """On local disk, then in a bucket."""
    return Folder(place)


@pytest.fixture
def disk(tmp_path: Path) -> Folder:
    """On local disk only."""
    return Folder(str(tmp_path / "disk"))
