"""Odd images and odd names through a scoring job, on disk and on S3: the outcomes of docs/own-data.md."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from devtools.untrained import untrained_bundle
from raysvq.data.index import build_index
from raysvq.data.manifest import open_manifest
from raysvq.imaging.decode import decode_image
from raysvq.model.bundle import save_bundle
from raysvq.results import open_results, read_scores
from raysvq.scoring.job import score
from raysvq.settings import parse_settings
from raysvq.storage import remove_file, write_bytes
from tests.imaging.files import BYTE, chunk, exif, jpeg2000, png, saved, segment, tiff

TILE = 32
SETTINGS = parse_settings(
    {
        "tiles": {"size": TILE},
        "model": {"hidden": 8, "residual_hidden": 4, "residual_layers": 1}
        | {"codebook_size": 16, "embedding_dim": 4},
    }
)
Array = np.ndarray[Any, Any]


def _noise(height: int, width: int, channels: int = 3) -> Array:
    return np.random.default_rng(height).integers(0, 256, (height, width, channels), np.uint8)


def _png(pixels: Array) -> bytes:
    return saved(Image.fromarray(pixels), "PNG")


def _bomb(width: int, height: int) -> bytes:
    """A PNG of some thousand bytes that claims to be huge."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6  # its top is at the right
    return exif


COLOUR = _noise(40, 56)
GREY = _noise(40, 56, 1)[..., 0]
IMAGE, OTHER, SHADES = Image.fromarray(COLOUR), Image.fromarray(COLOUR[::-1].copy()), Image.fromarray(GREY)
PALETTE = IMAGE.quantize(64)
CMYK = IMAGE.convert("CMYK")
PAGES: dict[str, Any] = {"save_all": True, "append_images": [OTHER]}
CMYK_JPEG = saved(CMYK, "JPEG")
PLAIN, JPEG, TIFF = _png(COLOUR), saved(IMAGE, "JPEG"), saved(IMAGE, "TIFF", compression="tiff_lzw")

# The first of each group is the plain file that all others must score like.
ALIKE = {
    "the same colours in every lossless container": {
        "plain.png": PLAIN,
        "strips.tif": saved(IMAGE, "TIFF"),
        "lzw.tif": TIFF,
        "deflate.tiff": saved(IMAGE, "TIFF", compression="tiff_adobe_deflate"),
        "bitmap.bmp": saved(IMAGE, "BMP"),
        "lossless.webp": saved(IMAGE, "WEBP", lossless=True),
        "lossless.jp2": saved(IMAGE, "JPEG2000"),
        "pixmap.ppm": saved(IMAGE, "PPM"),
        "16-bit.png": bytes(cv2.imencode(".png", COLOUR[..., ::-1].astype(np.uint16) * 257)[1]),
        "16-bit.tif": bytes(cv2.imencode(".tif", COLOUR[..., ::-1].astype(np.uint16) * 257)[1]),
    },
    "alpha is dropped": {
        "opaque.png": PLAIN,
        "alpha.png": saved(Image.merge("RGBA", [*IMAGE.split(), SHADES]), "PNG"),
        "alpha.tif": saved(Image.merge("RGBA", [*IMAGE.split(), SHADES]), "TIFF"),
    },
    "the first page or frame counts": {
        "single.png": PLAIN,
        "pages.tif": saved(IMAGE, "TIFF", **PAGES),
        "animated.webp": saved(IMAGE, "WEBP", lossless=True, **PAGES),
        "animated.png": saved(IMAGE, "PNG", **PAGES),
    },
    "the first frame of a GIF": {
        "still.png": _png(np.asarray(PALETTE.convert("RGB"))),
        "animated.gif": saved(PALETTE, "GIF", save_all=True, append_images=[PALETTE.rotate(180)]),
    },
    "palettes are expanded, transparent or not": {
        "expanded.png": _png(np.asarray(PALETTE.convert("RGB"))),
        "palette.png": saved(PALETTE, "PNG", transparency=3),
        "palette.gif": saved(PALETTE, "GIF", transparency=3),
    },
    "grey is replicated": {
        "three.png": _png(GREY[..., None].repeat(3, axis=2)),
        "grey.png": _png(GREY),
        "grey.pgm": saved(SHADES, "PPM"),
        "grey-16-bit.png": _png(GREY.astype(np.uint16) * 257),
        "grey-16-bit.tif": saved(Image.fromarray(GREY.astype(np.uint16) * 257), "TIFF"),
    },
    "any full scale is filled": {
        "eight-bits.png": _png(GREY // 17 * 17),
        "four-bits.pgm": b"P5 56 40 15\n" + (GREY // 17).tobytes(),
        "twelve-bits.pgm": b"P5 56 40 4095\n" + (GREY // 17 * np.uint16(273)).astype(">u2").tobytes(),
        "four-bits.tif": tiff(GREY // 17, 4),
        "twelve-bits.tif": tiff(GREY // 17 * np.uint16(273), 12),
        "white-is-zero.tif": tiff(65535 - GREY // 17 * np.uint16(4369), 16, 0),
        "twelve-bits.jp2": jpeg2000(GREY // 17 * np.uint16(273), 12),
    },
    "a harmless defect is none": {
        "sound-photo.jpg": JPEG,
        "stray-bytes.jpg": JPEG[:-2] + bytes(8) + JPEG[-2:],
        "bytes-before-a-segment.jpg": JPEG[:20] + b"\0\0" + JPEG[20:],
        "orientation-in-a-byte.jpg": JPEG[:2] + segment(0xE1, exif(BYTE, [1])) + JPEG[2:],
        "video-behind.jpg": JPEG + bytes(5000),
    },
    "what is not needed for pixels may be large or damaged": {
        "sound.png": PLAIN,
        "large-text.png": png(
            COLOUR, 8, 2, before=chunk(b"zTXt", b"log\0\0" + zlib.compress(bytes(2 * 10**6)))
        ),
        "damaged-profile.png": png(COLOUR, 8, 2, before=chunk(b"iCCP", b"p\0\0x", sound=False)),
        "odd-orientation.tif": tiff(COLOUR, 8, tags={274: (BYTE, [0])}),
    },
    "EXIF rotation is applied": {
        "upright.png": _png(np.rot90(COLOUR, -1)),
        "turned.png": saved(IMAGE, "PNG", exif=_turned()),
        "turned.tif": saved(IMAGE, "TIFF", exif=_turned()),
        "turned.webp": saved(IMAGE, "WEBP", lossless=True, exif=_turned()),
    },
    "EXIF rotation of a JPEG": {
        "upright-photo.png": _png(np.rot90(decode_image(JPEG, COLOUR.size), -1)),
        "turned.jpg": saved(IMAGE, "JPEG", exif=_turned()),
    },
    "CMYK becomes RGB": {
        "converted.png": _png(np.asarray(CMYK.convert("RGB"))),
        "cmyk.tif": saved(CMYK, "TIFF"),
    },
    "a JPEG in CMYK": {
        "converted-photo.png": _png(np.asarray(Image.open(io.BytesIO(CMYK_JPEG)).convert("RGB"))),
        "cmyk.jpg": CMYK_JPEG,
    },
    "what a file holds counts, not what it is called": {
        "photo.jpg": JPEG,
        "wrong-extension.png": JPEG,
        "wrong-extension.tif": JPEG,
        "UPPER.JPG": JPEG,
    },
    "no name is too odd": {
        "name.png": PLAIN,
        "two  spaces .png": PLAIN,
        "ünï-画像-🛠.png": PLAIN,
        "e\u0301 decomposed.png": PLAIN,
        "part#3.png": PLAIN,
        "a?b=c&d.png": PLAIN,
        "%41 %2F 100%.png": PLAIN,
        "A %2F 100%.png": PLAIN,
        "1+1.png": PLAIN,
        'it\'s "quoted".png': PLAIN,
        "[a-z]*{x}.png": PLAIN,
        "back\\slash.png": PLAIN,
        "new\nline.png": PLAIN,
        "-rf.png": PLAIN,
        "n" * 251 + ".png": PLAIN,
    },
}
SIZES = {
    "one-pixel.png": (1, 1),
    "one-row.png": (1, 77),
    "one-column.png": (77, 1),
    "smaller-than-a-tile.png": (20, 24),
    "exactly-a-tile.png": (TILE, TILE),
    "a-pixel-more.png": (TILE + 1, TILE),
}
REJECTED = {
    "zero-bytes.png": (b"", "empty"),
    "text.jpg": (b"this is a text\n", "not_an_image"),
    "page.png": (b"<html>404</html>", "not_an_image"),
    "zeros.tif": (bytes(5000), "not_an_image"),
    "cut.png": (PLAIN[: len(PLAIN) // 2], "corrupt"),
    "cut.jpg": (JPEG[: len(JPEG) // 2], "corrupt"),
    "cut.tif": (TIFF[: len(TIFF) // 2], "corrupt"),
    "float.tif": (saved(Image.fromarray(GREY.astype(np.float32)), "TIFF"), "unsupported"),
    "int32.tif": (saved(Image.fromarray(GREY.astype(np.int32)), "TIFF"), "unsupported"),
    "lerc.tif": (tiff(COLOUR, 8, tags={259: (3, [34887])}), "unsupported"),
    "bomb.png": (_bomb(60_000, 60_000), "too_large"),
}
GONE = "gone.png"  # removed between index and scoring
FILES = {
    **{name: content for group in ALIKE.values() for name, content in group.items()},
    **{name: _png(_noise(*size)) for name, size in SIZES.items()},
    **{name: content for name, (content, _) in REJECTED.items()},
    GONE: PLAIN,
}


@dataclass(frozen=True)
class Run:
    """What went into a job, and its rows by file name."""

    images: str
    names: list[str]
    manifest: dict[str, str]  # image id -> URI
    scores: dict[str, dict[str, Any]]
    rejects: dict[str, dict[str, Any]]


@pytest.fixture(scope="module", params=["disk", "s3"])
def run(request: pytest.FixtureRequest, small_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = str(tmp_path_factory.mktemp("odd"))
    if request.param == "s3":
        folder = f"{request.getfixturevalue('s3')}/odd"
    images, manifest, model, out = (f"{folder}/{name}" for name in ("images", "all.parquet", "model", "out"))
    # The S3 server of the tests takes a backslash for a slash; the S3 client takes no control characters.
    names = [name for name in FILES if request.param == "disk" or not {"\\", "\n"} & set(name)]
    for name in names:
        write_bytes(f"{images}/{name}", FILES[name])
    build_index(images, manifest, SETTINGS.split)
    remove_file(f"{images}/{GONE}")
    save_bundle(untrained_bundle(SETTINGS, threshold=1.0), model)
    score(manifest, model, out, SETTINGS)
    listed = open_manifest(manifest).to_table(columns=["image_id", "uri"]).to_pylist()
    scores, rejects = read_scores(out).to_pylist(), open_results(out, "rejects").to_table().to_pylist()
    return Run(
        images,
        names,
        {row["image_id"]: row["uri"] for row in listed},
        {row["uri"].removeprefix(f"{images}/"): row for row in scores},
        {row["uri"].removeprefix(f"{images}/"): row for row in rejects},
    )


def test_rows_carry_the_uris_of_the_manifest_and_those_the_names_of_the_files(run: Run) -> None:
    rows = [*run.scores.values(), *run.rejects.values()]
    assert {row["image_id"]: row["uri"] for row in rows} == run.manifest
    assert sorted(run.manifest.values()) == sorted(f"{run.images}/{name}" for name in run.names)


@pytest.mark.parametrize("what", ALIKE)
def test_like_images_score_alike(run: Run, what: str) -> None:
    scores = {name: run.scores[name]["image_score"] for name in ALIKE[what] if name in run.names}
    assert scores == dict.fromkeys(scores, next(iter(scores.values())))


def test_unlike_images_do_not(run: Run) -> None:
    assert len({run.scores[next(iter(group))]["image_score"] for group in ALIKE.values()}) >= 7


@pytest.mark.parametrize("name", SIZES)
def test_every_size_is_scored(run: Run, name: str) -> None:
    height, width = SIZES[name]
    row = run.scores[name]
    assert (row["height"], row["width"]) == (height, width)
    assert len(row["tiles"]) == -(-height // TILE) * -(-width // TILE)
    assert {(tile["w"], tile["h"]) for tile in row["tiles"]} == {(min(width, TILE), min(height, TILE))}


def test_what_cannot_be_scored_is_rejected_with_its_reason(run: Run) -> None:
    found = {name: row["reason"] for name, row in run.rejects.items()}
    assert found == {name: reason for name, (_, reason) in REJECTED.items()} | {GONE: "not_found"}
    assert all(row["detail"] for row in run.rejects.values())
