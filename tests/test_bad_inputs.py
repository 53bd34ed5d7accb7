"""A fleet where most files are damaged, in every format that is read: one scoring job over all of them."""

from __future__ import annotations

import io
import itertools
import math
import os
import random
import struct
import threading
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
from PIL import Image

from devtools.untrained import untrained_bundle
from raysvq.data.index import build_index
from raysvq.imaging.decode import FORMATS, REASONS, DecodeError
from raysvq.model.bundle import save_bundle
from raysvq.model.scorer import ImageScorer
from raysvq.results import open_results, read_scores
from raysvq.scoring.job import score
from raysvq.scoring.stream import TASK_NAME
from raysvq.settings import parse_settings

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

DAMAGED_COPIES = 20  # of each variant
SETTINGS = parse_settings(
    {
        "tiles": {"size": 32},
        "model": {"hidden": 8, "residual_hidden": 4, "residual_layers": 1}
        | {"codebook_size": 16, "embedding_dim": 4},
        "scoring": {"batch_images": 64, "max_pixels": 10**6},
    }
)
Array = np.ndarray[Any, Any]
Outcome = float | str  # a score, or the reason of a rejection


@dataclass(frozen=True)
class Run:
    """What went into the job, by file name, and what came out of it."""

    good: dict[str, bytes]
    bad: dict[str, bytes]
    listed: list[str]  # image ids of the manifest
    scores: list[dict[str, Any]]
    rejects: list[dict[str, Any]]
    direct: dict[str, Outcome]  # what the library says of the bytes, without a job
    workers: set[int]  # processes that were seen scoring
    workers_at_once: int


@pytest.fixture(scope="module")
def run(small_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("bad")
    good = _variants()
    draw, others = random.Random(11), [*good.values(), b"<html>404</html>", bytes(1000)]
    bad = {
        f"{number}-{name}": _damaged(content, others, draw)
        for name, content in good.items()
        for number in range(DAMAGED_COPIES)
    }
    (folder / "images").mkdir()
    for name, content in (good | bad).items():
        (folder / "images" / name).write_bytes(content)
    manifest, model, out = (str(folder / name) for name in ("manifest.parquet", "model", "scores"))
    build_index(str(folder / "images"), manifest, SETTINGS.split)
    bundle = untrained_bundle(SETTINGS, threshold=1.0)
    save_bundle(bundle, model)
    with _watched_workers() as seen:
        score(manifest, model, out, SETTINGS)
    scorer = ImageScorer(bundle.model, bundle.settings, SETTINGS.scoring)
    return Run(
        good,
        bad,
        pq.read_table(manifest)["image_id"].to_pylist(),
        read_scores(out).to_pylist(),
        open_results(out, "rejects").to_table().to_pylist(),
        {name: _outcome(scorer, content) for name, content in (good | bad).items()},
        set().union(*seen),
        max(map(len, seen)),
    )


def _outcome(scorer: ImageScorer, content: bytes) -> Outcome:
    try:
        return scorer(content).image_score
    except DecodeError as error:
        return error.reason


@contextmanager
def _watched_workers() -> Iterator[list[set[int]]]:
    """Collects, until the block ends, which scoring processes of this cluster are alive."""
    seen: list[set[int]] = [set()]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            alive = psutil.Process(os.getpid()).children(recursive=True)
            seen.append({process.pid for process in alive if TASK_NAME in _title(process)})

    thread = threading.Thread(target=watch)
    thread.start()
    yield seen
    done.set()
    thread.join()


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def test_every_format_is_there_whole_and_damaged(run: Run) -> None:
    assert {Image.open(io.BytesIO(content)).format for content in run.good.values()} >= set(FORMATS)
    assert len(run.bad) > 1000
    assert sum(run.bad[name] != run.good[name.partition("-")[2]] for name in run.bad) > 0.95 * len(run.bad)


def test_every_image_is_scored_or_rejected_once(run: Run) -> None:
    found = [row["image_id"] for row in [*run.scores, *run.rejects]]
    assert len(run.listed) == len(run.good) + len(run.bad)
    assert Counter(found) == Counter(run.listed)


def test_a_reject_has_a_known_reason_and_a_detail(run: Run) -> None:
    assert {"corrupt", "not_an_image", "empty"} <= {row["reason"] for row in run.rejects} <= set(REASONS)
    assert all(row["detail"] for row in run.rejects)
    assert len(run.rejects) > len(run.bad) / 2


def test_the_job_says_of_each_image_what_the_library_says(run: Run) -> None:
    scored = {Path(row["uri"]).name: row["image_score"] for row in run.scores}
    rejected = {Path(row["uri"]).name: row["reason"] for row in run.rejects}
    assert set(run.good) <= set(scored)
    assert rejected == {name: said for name, said in run.direct.items() if isinstance(said, str)}
    assert scored == pytest.approx({name: run.direct[name] for name in scored}, rel=1e-5)
    assert all(map(math.isfinite, scored.values()))


def test_no_worker_ended_over_a_bad_image(run: Run) -> None:
    """One that ends is replaced by a new process."""
    assert run.workers_at_once >= 1
    assert len(run.workers) == run.workers_at_once


def _variants() -> dict[str, bytes]:
    """Name with extension -> an undamaged file, one of each kind that raysvq reads."""
    colour, other = _picture(48, 40), _picture(50, 44)
    deep = colour.astype(np.uint16) * 251 + 7
    image, grey = Image.fromarray(colour), Image.fromarray(colour[..., 1])
    alpha = Image.merge("RGBA", [*image.split(), grey])
    palette, bits = image.quantize(32), grey.convert("1")
    pages: dict[str, Any] = {"save_all": True, "append_images": [Image.fromarray(other).resize(image.size)]}
    tiff = {
        "strips": (image, {"tiffinfo": {278: 8}}),
        "grey": (grey, {}),
        "lzw": (image, {"compression": "tiff_lzw"}),
        "packbits": (image, {"compression": "packbits"}),
        "jpeg": (image, {"compression": "jpeg"}),
        "fax": (bits, {"compression": "group4"}),
        "cmyk": (image.convert("CMYK"), {"compression": "tiff_lzw"}),
        "ycbcr": (image.convert("YCbCr"), {}),
        "palette": (palette, {}),
        "alpha": (alpha, {"compression": "tiff_adobe_deflate"}),
        "grey16": (Image.fromarray(deep[..., 1]), {}),
        "grey16-deflate": (Image.fromarray(deep[..., 1]), {"compression": "tiff_adobe_deflate"}),
        "big": (image, {"big_tiff": True}),
        "pages": (image, {"compression": "tiff_lzw"} | pages),
    }
    jpeg = {
        "baseline": (image, {"quality": 90}),
        "full-colour": (image, {"subsampling": 0, "quality": 90}),
        "progressive": (image, {"progressive": True}),
        "restarts": (image, {"restart_marker_blocks": 2}),
        "grey": (grey, {}),
        "cmyk": (image.convert("CMYK"), {}),
        "cmyk-progressive": (image.convert("CMYK"), {"progressive": True}),
        "turned": (image, {"exif": _turned()}),
    }
    png = {
        "rgb": (image, {}),
        "grey": (grey, {}),
        "bits": (bits, {}),
        "palette": (palette, {"transparency": 3}),
        "alpha": (alpha, {}),
        "grey-alpha": (alpha.convert("LA"), {}),
        "turned": (image, {"exif": _turned()}),
        "animated": (image, pages),
    }
    webp = {
        "lossy": (image, {"quality": 80}),
        "lossless": (image, {"lossless": True}),
        "alpha": (alpha, {"quality": 80}),
        "animated": (image, pages),
    }
    jp2 = {
        "lossless": (image, {}),
        "lossy": (image, {"irreversible": True, "quality_layers": [20]}),
        "grey": (grey, {}),
        "tiles": (image, {"tile_size": (32, 32)}),
        "codestream": (image, {"no_jp2": True}),
    }
    plain: dict[str, dict[str, tuple[Image.Image, dict[str, Any]]]] = {
        "gif": {"single": (palette, {"transparency": 2}), "animated": (palette, pages)},
        "bmp": {"rgb": (image, {}), "palette": (palette, {}), "alpha": (alpha, {}), "bits": (bits, {})},
        "ppm": {"rgb": (image, {})},
        "pgm": {"grey": (grey, {}), "grey16": (Image.fromarray(deep[..., 1].astype(np.int32)), {})},
    }
    kinds = {"jpg": jpeg, "png": png, "tif": tiff, "webp": webp, "jp2": jp2} | plain
    files = {
        f"{name}.{suffix}": _saved(picture, _PLUGINS.get(suffix, suffix.upper()), **options)
        for suffix, named in kinds.items()
        for name, (picture, options) in named.items()
    }
    return files | {
        "rgb16.png": _encoded(deep, ".png"),
        "grey16.png": _encoded(deep[..., 1], ".png"),
        "rgb16.tif": _encoded(deep, ".tif"),
        "rgb16.ppm": b"P6 40 48 65535\n" + deep.astype(">u2").tobytes(),
        "text.pgm": b"P2 40 48 255\n" + " ".join(map(str, colour[..., 1].ravel())).encode() + b"\n",
        "rgb16.jp2": _encoded(deep, ".jp2", (cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000)),
        "grey16.jp2": _encoded(deep[..., 1], ".jp2", (cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000)),
        "interlaced.png": _interlaced_png(colour),
        "tiles.tif": _tiled_tiff(colour),
        "tiles16.tif": _tiled_tiff(deep),
        "camera.jpg": _saved(image, "MPO", **pages),
    }


ADAM7 = [  # first row and column, and the steps between them
    *[(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4)],
    *[(2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)],
]
_PLUGINS = {"jpg": "JPEG", "tif": "TIFF", "jp2": "JPEG2000", "pgm": "PPM"}


def _picture(height: int, width: int) -> Array:
    y, x = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(height).integers(0, 40, (height, width))
    return np.stack([x * 4 + noise, y * 3 + noise, 210 - x * 2 - y + noise], axis=2).astype(np.uint8)


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def _saved(image: Image.Image, plugin: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, plugin, **options)
    return buffer.getvalue()


def _encoded(pixels: Array, suffix: str, options: tuple[int, ...] = ()) -> bytes:
    done, encoded = cv2.imencode(suffix, pixels[..., ::-1] if pixels.ndim == 3 else pixels, options)
    assert done
    return encoded.tobytes()


def _interlaced_png(pixels: Array) -> bytes:
    """Adam7, which no encoder at hand writes."""
    rows = b"".join(
        b"\0" + row.tobytes() for y, x, down, across in ADAM7 for row in pixels[y::down, x::across]
    )
    height, width = pixels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1)
    content = b"\x89PNG\r\n\x1a\n"
    for chunk in (b"IHDR" + header, b"IDAT" + zlib.compress(rows), b"IEND"):
        content += struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return content


def _tiled_tiff(pixels: Array, side: int = 16) -> bytes:
    """RGB in deflated square tiles, with the directory behind them."""
    height, width = pixels.shape[:2]
    padded = np.pad(pixels, [(0, -height % side), (0, -width % side), (0, 0)])
    tiles = [
        zlib.compress(padded[y : y + side, x : x + side].tobytes())
        for y in range(0, height, side)
        for x in range(0, width, side)
    ]
    sizes = [len(tile) for tile in tiles]
    starts = [8, *(8 + end for end in itertools.accumulate(sizes[:-1]))]
    lists = struct.pack(f"<{2 * len(tiles)}I3H", *starts, *sizes, *[pixels.itemsize * 8] * 3)
    at, count, long, short = 8 + sum(sizes), len(tiles), 4, 3
    tags = [(256, short, 1, width), (257, short, 1, height), (258, short, 3, at + 8 * count)]
    tags += [(259, short, 1, 8), (262, short, 1, 2), (277, short, 1, 3), (322, short, 1, side)]
    tags += [(323, short, 1, side), (324, long, count, at), (325, long, count, at + 4 * count)]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    head = b"II*\0" + struct.pack("<I", at + len(lists))
    return head + b"".join(tiles) + lists + struct.pack("<H", len(tags)) + entries


def _damaged(content: bytes, others: list[bytes], draw: random.Random) -> bytes:
    """A file as a bad disk, cable or writer leaves it."""
    for _ in range(draw.choice([1, 1, 1, 2, 4, 16])):
        reach = len(content) if draw.random() < 0.6 else min(len(content), 128)
        place = draw.randrange(max(1, reach))
        before, after = content[:place], content[place:]
        length = min(int(draw.paretovariate(0.6)), len(after))
        match draw.randrange(8):
            case 0:
                flipped = (value ^ 1 << draw.randrange(8) for value in after[:1])
                content = before + bytes(flipped) + after[1:]
            case 1:
                content = before + draw.randbytes(length) + after[length:]
            case 2:
                content = before
            case 3:
                content = before + after[length:]
            case 4:
                content = before + bytes([draw.choice([0, 0, 255])]) * length + after[length:]
            case 5:
                content = before + draw.randbytes(min(length, 64)) + after
            case 6:
                other = draw.choice(others)
                content = before + other[draw.randrange(len(other)) :]
            case _:
                content = before + after[:length] + after
    return content
