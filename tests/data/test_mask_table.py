"""docs/own-data.md, "What becomes of each mask", row by row."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from PIL import Image

from raysvq.data.index import build_index
from raysvq.data.manifest import open_manifest
from raysvq.data.mask_check import MaskSummary
from raysvq.data.mask_pairing import SUFFIXES
from raysvq.errors import DataError
from raysvq.evaluation.masks import MaskReader
from raysvq.settings import SplitSettings
from tests.mask_files import (
    DEFECT,
    SIZE,
    WHITE,
    coloured,
    heat_map,
    indexed,
    labels,
    photograph,
    reopened,
    saved,
    soft_edges,
)
from tests.tables import outcomes

TABLE = outcomes("What becomes of each mask")
ONE = DEFECT.astype(np.uint8)
BLACK, WHITES = (0, 0, 0), (255, 255, 255)
ALL, NOTHING = np.full_like(WHITE, 255), np.zeros_like(WHITE)
PHOTO = saved(photograph(3))
SQUARE = photograph(3)[:96, :96].copy()


@dataclass(frozen=True)
class Layout:
    """Files by name; the images are `test/dent/000.png` and so on, in a tree."""

    files: dict[str, bytes]
    says: str = ""  # of the error, or in the summary


def _mask(content: bytes, says: str = "", kind: str = "dent", image: bytes = PHOTO) -> Layout:
    return Layout({f"test/{kind}/000.png": image, f"ground_truth/{kind}/000_mask.png": content}, says)


def _masks(*contents: bytes, says: str = "") -> list[Layout]:
    return [_mask(content, says) for content in contents]


def _named(name: str, says: str = "") -> Layout:
    return Layout({"test/dent/000.jpg": PHOTO, f"ground_truth/dent/{name}": saved(WHITE)}, says)


def _turned(pixels: np.ndarray) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(pixels, exif=exif)


def _pages(second: np.ndarray) -> bytes:
    return saved(WHITE, "TIFF", save_all=True, append_images=[Image.fromarray(second)])


JPEG = saved(WHITE, "JPEG")
IN_A_TREE = f"in a tree: its image's name, or that with `{' '.join(SUFFIXES)}` behind it, in capitals too"

LAYOUTS: dict[str, list[Layout]] = {
    "0 and one other value: 1, 8, 16 or 32 bits, signed or not, or floats": _masks(
        saved(Image.fromarray(DEFECT)),
        saved(ONE, "BMP"),
        saved(DEFECT.astype(np.uint16)),
        *(saved(DEFECT.astype(kind), "TIFF") for kind in (np.int32, np.float32)),
    ),
    "class or instance numbers in flat patches, 0 the background": _masks(
        saved(labels()), saved(labels().astype(np.uint16) * np.uint16(300)), saved(labels() * np.uint8(127))
    ),
    "smooth edges, from drawing or resizing": _masks(saved(soft_edges()[0]), saved(soft_edges(180)[0])),
    "JPEG, lossy WEBP or JPEG 2000, or once saved as such": _masks(JPEG, saved(reopened(JPEG))),
    "white or colours on black": _masks(
        *(saved(coloured(DEFECT, colour, BLACK)) for colour in (WHITES, (200, 0, 0)))
    ),
    "the same alpha everywhere": _masks(
        *(saved(np.dstack([coloured(DEFECT, WHITES, BLACK), alpha])) for alpha in (ALL, NOTHING))
    ),
    "paint on a transparent ground": _masks(
        *(saved(np.dstack([coloured(DEFECT, paint, paint), WHITE])) for paint in (BLACK, WHITES, (9, 8, 7)))
    ),
    "black and white, with transparent parts": _masks(
        saved(np.dstack([coloured(DEFECT, WHITES, BLACK), np.where(np.arange(128) < 5, NOTHING, ALL)]))
    ),
    "a palette with black as number 0 alone": _masks(indexed(labels(), [BLACK, (0, 128, 0), (9, 0, 0)])),
    "a palette of which no colour is black, or number 0 and others": _masks(
        indexed(ONE, [BLACK] * 2), indexed(labels(), [WHITES, (255, 0, 0), (0, 0, 255)])
    ),
    "a palette with black as another number, and not as 0": _masks(
        indexed(ONE, [WHITES, BLACK]), says="number 1 as black"
    ),
    "mostly black, with another colour as the transparent one": _masks(
        saved(WHITE, transparency=255), says="most of it is black, and another colour is transparent"
    ),
    "a photograph, a heat map or probabilities, fractions of more than two values": _masks(
        saved(photograph()),
        saved((heat_map() * 255).astype(np.uint8)),
        saved(heat_map(), "TIFF"),
        says="no mask: ",
    ),
    "colours, none of them black": _masks(
        saved(coloured(DEFECT, (255, 0, 0), WHITES)), says="none of its pixels is black"
    ),
    "several values, none of them 0, such as classes counted from 1": _masks(
        saved(labels() + np.uint8(1)), saved(ONE + np.uint8(1)), says="between black and white"
    ),
    "several pages or frames that are alike": _masks(_pages(WHITE)),
    "several pages or frames that differ": _masks(_pages(WHITE[::-1].copy()), says="2 pages or frames"),
    "missing, unreadable, cut off": _masks(b"", b"text", saved(WHITE)[:-40], says="mask .* cannot be read"),
    "another size than its image's, after EXIF rotation of both": [
        _mask(saved(WHITE[:-1]), "128 x 95 pixels, its image .* 128 x 96"),
        _mask(saved(WHITE), "was the image turned by its EXIF orientation", image=_turned(photograph(3))),
        _mask(_turned(WHITE), "was the image turned by its EXIF orientation"),
    ],
    "the image itself, or a copy of it": [
        _mask(saved(WHITE), "is a copy of its image", image=saved(WHITE)),
        Layout(
            {"000.png": PHOTO, "listing.csv": b"uri,label,mask_uri\n000.png,anomalous,000.png\n"}, "own mask"
        ),
    ],
    "all black, of an anomalous image": _masks(
        saved(NOTHING), saved(ONE, "JPEG"), says="000_mask.png of .*000.png marks nothing"
    ),
    "all black, of a normal image": [
        Layout(
            {f"{part}/good/000.png": PHOTO for part in ("train", "test")}
            | {"ground_truth/good/000_mask.png": saved(NOTHING)},
            "masks of normal images, which mark nothing, left aside: 2",
        )
    ],
    "a mark, on a normal image": [_mask(saved(WHITE), "is labelled normal, but has the mask", "good")],
    "marks more than half of its image: inverted?": _masks(
        saved(~WHITE), says="warning: 1 of 1 masks mark more than half of their image .are they inverted"
    ),
    "marks all of its image": _masks(saved(ALL), says="warning: 1 of 1 masks mark all of their image"),
    "the same marks as another image's mask, or the same file": [
        Layout(
            {f"test/dent/{number}.png": PHOTO for number in range(3)}
            | {f"ground_truth/dent/{number}_mask.png": saved(WHITE) for number in range(3)},
            "warning: 2 of 3 masks have the same marks",
        )
    ],
    "another EXIF orientation than its image's, where the size fits either way": [
        _mask(saved(WHITE[:, :96].copy()), "warning: 1 of 1 masks are not turned", image=_turned(SQUARE))
    ],
    IN_A_TREE: [
        _named(f"000{suffix}.{kind}")
        for kind in ("png", "bmp")
        for suffix in ["", *SUFFIXES, *map(str.upper, SUFFIXES), "_Mask"]
    ],
    "in a tree: another name": [
        _named("mask_000.png", "mask without image: .*; a mask has its image's name, or one of _mask"),
        _named("000_mask_0.png", "mask without image"),
        _named("000/000.png", "masks of one image, .*/test/dent/000.*, are to be one file"),
    ],
    "two masks of one image, such as `000_mask.png` beside `000_mask.jpg`": [
        Layout(
            {"test/dent/000.png": PHOTO} | {f"ground_truth/dent/{name}": saved(WHITE) for name in names},
            f"two masks for .*test/dent/000.png: .*{names[0]} and .*{names[1]}",
        )
        for names in (
            ("000_mask.jpg", "000_mask.png"),
            ("000.png", "000_mask.png"),
            ("000_GT.bmp", "000_gt.png"),
        )
    ],
    "one mask of two anomalous images in a tree, such as `000.png` beside `000.jpg`": [
        Layout(
            {f"test/dent/000.{kind}": PHOTO for kind in ("jpg", "png")}
            | {"ground_truth/dent/000_mask.png": saved(WHITE)},
            "one mask for two images: .*000.jpg and .*000.png",
        )
    ],
    "beside its image, such as `000_mask.png` or `000.bmp` beside `000.png`, where images have labels": [
        Layout(
            {
                "test/dent/000.png": PHOTO,
                f"test/dent/000{suffix}.bmp": saved(WHITE),
                "train/good/1.png": PHOTO,
            },
            f"000{suffix}.bmp is a mask beside its image .*000.png.*expected masks in ground_truth",
        )
        for suffix in ("_mask", "_GT", "_label", "")
    ]
    + [
        Layout(
            {"a.png": PHOTO, "a_mask.png": saved(WHITE), "listing.csv": b"uri\na.png\na_mask.png\n"},
            "a_mask.png is a mask beside its image .*a.png",
        )
    ],
    "beside its image with such an ending, or in a folder named like one of masks, in a plain folder": [
        Layout({"night/a.png": PHOTO, f"night/{name}": saved(WHITE)}, "masks among the images, left out: 1")
        for name in (
            "a_mask.png",
            "a.mask.bmp",
            "a_GT.png",
            "masks/a.png",
            "gt/b.png",
            "Label/0.png",
        )
    ],
}


def _index(disk: Any, layout: Layout) -> tuple[MaskSummary, list[dict[str, Any]]]:
    for name, content in layout.files.items():
        disk.file(f"set/{name}", content)
    listing = next((name for name in layout.files if name.endswith(".csv")), None)
    source = f"{disk.uri}/set/{listing}" if listing else f"{disk.uri}/set"
    summary = build_index(source, f"{disk.uri}/manifest.parquet", SplitSettings())
    return summary.masks, open_manifest(summary.manifest).to_table().to_pylist()


def _require_defect(summary: MaskSummary, rows: list[dict[str, Any]]) -> None:
    masks = [row["mask_uri"] for row in rows if row["mask_uri"]]
    assert masks
    for uri in masks:
        found = MaskReader().read(uri, *SIZE)
        assert found is not None
        assert (found & DEFECT).sum() / (found | DEFECT).sum() > 0.99
    assert len(summary.shares) == len(masks)
    assert max(summary.shares) == pytest.approx(DEFECT.mean(), rel=0.01)
    assert summary.implausible == {}


def _require_words(summary: MaskSummary, says: str) -> None:
    assert re.search(says, "\n".join(summary.lines()))


def test_every_row_of_the_table_is_tried() -> None:
    assert list(TABLE) == list(LAYOUTS)


@pytest.mark.parametrize(
    ("row", "layout"),
    [
        pytest.param(row, layout, id=f"{row[:40]}-{number}")
        for row, layouts in LAYOUTS.items()
        for number, layout in enumerate(layouts)
    ],
)
def test_the_table_says_what_becomes_of_a_mask(disk: Any, row: str, layout: Layout) -> None:
    outcome = TABLE[row]
    if outcome == "refused":
        with pytest.raises(DataError, match=layout.says):
            _index(disk, layout)
        return
    summary, rows = _index(disk, layout)
    if outcome.startswith("read: "):
        _require_defect(summary, rows)
    elif outcome == "read, with a warning":
        _require_words(summary, layout.says)
        assert all(row["mask_uri"] for row in rows)
    elif outcome == "left aside, and counted":
        _require_words(summary, layout.says)
        assert [row["mask_uri"] for row in rows] == [None, None]
    else:
        assert outcome == "left out, and counted"
        _require_words(summary, layout.says)
        assert [row["uri"].rpartition("/")[2] for row in rows] == ["a.png"]


def test_a_folder_of_masks_alone_holds_no_images(disk: Any) -> None:
    with pytest.raises(DataError, match=r"all 2 images of \S+ are masks, such as \S+/masks/0\.png"):
        _index(disk, Layout({f"masks/{number}.png": saved(WHITE) for number in range(2)}))


def test_photographs_named_like_masks_are_images(disk: Any) -> None:
    """Such as the photograph of a bottle, and that of its label; and a drawing in two formats."""
    files = dict.fromkeys(("bottle.png", "bottle_label.png", "gt/car.png"), PHOTO)
    files |= {"bottle.bmp": PHOTO, "dark.png": saved(NOTHING), "dark.bmp": saved(NOTHING)}
    files |= {"drawing.png": saved(WHITE), "drawing.bmp": saved(WHITE)}
    summary, rows = _index(disk, Layout(files))
    assert len(rows) == len(files)
    assert summary.lines() == []


def test_the_summary_says_how_much_is_marked(disk: Any) -> None:
    shares = [0.25, 0.5, 0.01, 0.75, 0.75]
    files = {}
    for number, share in enumerate(shares):
        mask = np.zeros((100, 100), np.uint8)
        mask[: round(100 * share)] = 255
        files |= {f"test/dent/{number}.png": saved(photograph()[:50, :100].repeat(2, axis=0))}
        files |= {f"ground_truth/dent/{number}_mask.png": saved(mask)}
    summary, _ = _index(disk, Layout(files))
    lines = summary.lines()
    assert lines[0] == "masks: 5, marking 1 % to 75 % of their images, median 50 %"
    assert lines[1].startswith("warning: 2 of 5 masks mark more than half of their image (are they inverted?")
    assert lines[1].endswith("ground_truth/dent/3_mask.png")
    assert lines[2].startswith("warning: 1 of 5 masks have the same marks as the mask of another image")


def test_anomalous_images_without_a_mask_are_counted(disk: Any) -> None:
    summary, _ = _index(
        disk, Layout({"train/good/0.png": PHOTO, "train/good/1.png": PHOTO, "test/dent/2.png": PHOTO})
    )
    assert summary.lines() == ["anomalous images without a mask: 1; they count as whole images"]
