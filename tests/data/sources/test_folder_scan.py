"""What counts as an image, and what counting the rest costs."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from raysvq.data.sources import folder_scan
from raysvq.data.sources.folder_scan import (
    MAX_CAUSES,
    MAX_ENDINGS,
    OTHER_CAUSES,
    OTHER_ENDINGS,
    Skips,
    images,
)
from raysvq.data.sources.names import EXTENSIONS, OTHER_FORMATS, RESULTS
from raysvq.imaging.decode import FIRST_BYTES, decode_image, looks_like_an_image
from raysvq.results import COMMITS
from raysvq.storage import join

COLOUR = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 14, 3), np.uint8))


def _saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("endings", "content"),
    [
        (".png", _saved(COLOUR, "PNG")),
        (".apng", _saved(COLOUR, "PNG", save_all=True, append_images=[COLOUR])),
        (".jpg .jpeg .jpe .jif .jfi .jfif .pjpeg .pjp", _saved(COLOUR, "JPEG")),
        (".mpo", _saved(COLOUR, "MPO", save_all=True, append_images=[COLOUR])),
        (".tif .tiff", _saved(COLOUR, "TIFF")),
        (".btf .tf8", _saved(COLOUR, "TIFF", big_tiff=True)),
        (".bmp .dib", _saved(COLOUR, "BMP")),
        (".webp", _saved(COLOUR, "WEBP")),
        (".gif", _saved(COLOUR.quantize(16), "GIF")),
        (".jp2 .jpf .jpx", _saved(COLOUR, "JPEG2000")),
        (".j2k .j2c .jpc", _saved(COLOUR, "JPEG2000", no_jp2=True)),
        (".ppm .pnm", _saved(COLOUR, "PPM")),
        (".pgm", _saved(COLOUR.convert("L"), "PPM")),
        (".pbm", _saved(COLOUR.convert("1"), "PPM")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_counts_as_an_image_is_decoded(endings: str, content: bytes) -> None:
    assert set(endings.split()) <= EXTENSIONS
    assert decode_image(content, 1000).shape[:2] == (12, 14)
    assert looks_like_an_image(content[:FIRST_BYTES])
    assert not looks_like_an_image(b"BMW and other names, as text")


def test_no_ending_is_both_read_and_not() -> None:
    assert not EXTENSIONS & OTHER_FORMATS


def test_folders_that_are_left_out_need_not_be_readable(disk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    disk.image("a.png")
    for name in ("lost+found", ".Trashes", "System Volume Information"):
        disk.image(f"{name}/b.png")
    scan = os.scandir

    def guarded(path: str) -> Any:
        if Path(path).name != "disk":
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr("raysvq.storage.walk.os.scandir", guarded)
    assert [info.uri for info in images(disk.uri, Skips())] == [join(disk.uri, "a.png")]


def test_counting_stays_small_and_looks_into_few_files(disk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    monkeypatch.setattr(folder_scan, "_first_bytes", lambda uri: looked.append(uri) or b"")
    skips = Skips()
    for number in range(1000):
        skips.add_file(f"/set/{number:04}.{number:04}")
        skips.add_file(f"/set/{number:04}")
        skips.add(f"/set/{number:04}", f"cause {number}")
    assert len(looked) == MAX_ENDINGS
    assert len(skips.counts) <= MAX_CAUSES + 2
    assert skips.counts["files without an extension"] == (1000, "/set/0000")
    assert skips.counts[OTHER_ENDINGS][0] == 1000 - (MAX_ENDINGS - 1)
    assert sum(count for count, _ in skips.counts.values()) == 3000
    assert OTHER_CAUSES in skips.counts


def test_names_that_cannot_be_printed_are_escaped(disk: Any) -> None:
    skips = Skips()
    skips.add("/set/line\nbreak\udcff.png", "odd")
    assert skips.lines() == [r"skipped 1: odd, such as /set/line\nbreak\udcff.png"]


def test_a_mark_tells_of_the_folder_that_it_is_in(disk: Any) -> None:
    for name in ("day/heatmaps/a.png", "day/scores/b.png", "out/heatmaps/c.png", f"out/{COMMITS}/run.json"):
        disk.image(name)
    skips = Skips()
    found = [info.uri.removeprefix(f"{disk.uri}/") for info in images(disk.uri, skips)]
    assert found == ["day/heatmaps/a.png", "day/scores/b.png"]
    assert skips.counts == {RESULTS: (2, f"{disk.uri}/out/{COMMITS}/")}
