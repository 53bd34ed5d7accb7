"""What a mask file marks, whichever tool wrote it."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from raysvq.imaging.decode import DecodeError
from raysvq.imaging.masks import decode_mask
from tests.mask_files import (
    DEFECT,
    DISC,
    SIZE,
    WHITE,
    by_opencv,
    coloured,
    heat_map,
    indexed,
    labels,
    photograph,
    reopened,
    saved,
    soft_edges,
)

ONE = DEFECT.astype(np.uint8)
BLACK, VOC = (0, 0, 0), [(0, 0, 0), (128, 0, 0), (0, 128, 0)]
VIRIDIS = [(68, 1, 84), (253, 231, 37), (33, 145, 140)]
SOFT = soft_edges()[0]


def _rgba(colour: tuple[int, int, int], ground: tuple[int, int, int], alpha: Any = WHITE) -> np.ndarray:
    return np.dstack([coloured(DEFECT, colour, ground), alpha])


def _inverted_bilevel_tiff() -> bytes:
    """0 is white in it: libtiff stores every bit the other way round, so that it looks the same."""
    return saved(Image.fromarray(DEFECT), "TIFF", tiffinfo={262: 0})


EXACT = {
    "grey png": saved(WHITE),
    "grey bmp": saved(WHITE, "BMP"),
    "grey gif": saved(WHITE, "GIF"),
    "grey tiff": saved(WHITE, "TIFF", compression="tiff_lzw"),
    "grey pgm": saved(WHITE, "PPM"),
    "lossless webp": saved(Image.fromarray(WHITE).convert("RGB"), "WEBP", lossless=True),
    "lossless jpeg 2000": saved(WHITE, "JPEG2000"),
    "a single class": saved(ONE),
    "an odd grey": saved(ONE * np.uint8(77)),
    "class numbers": saved(labels()),
    "class numbers and an ignored class": saved(np.where(DISC, np.uint8(255), ONE)),
    "class greys as in MVTec LOCO": saved(np.where(DISC, np.uint8(231), WHITE)),
    "many instances": saved((DEFECT * (1 + np.arange(SIZE[0])[:, None] // 8 * 20)).astype(np.uint16)),
    "single pixels of two classes": saved(np.where(DEFECT, labels(), 0).astype(np.uint8)),
    "1 bit png": saved(Image.fromarray(DEFECT)),
    "1 bit bmp": saved(Image.fromarray(DEFECT), "BMP"),
    "1 bit tiff": saved(Image.fromarray(DEFECT), "TIFF", compression="group4"),
    "1 bit tiff, white is zero": _inverted_bilevel_tiff(),
    "16 bit png, 1": saved(DEFECT.astype(np.uint16)),
    "16 bit png, 65535": saved(DEFECT.astype(np.uint16) * np.uint16(65535)),
    "16 bit tiff": saved(DEFECT.astype(np.uint16), "TIFF"),
    "16 bit rgb": by_opencv(np.dstack([ONE.astype(np.uint16)] * 3), ".png"),
    "int16": by_opencv(DEFECT.astype(np.int16)),
    "int32": saved(DEFECT.astype(np.int32), "TIFF"),
    "uint32": by_opencv(DEFECT.astype(np.uint32)),
    "int32 class numbers": saved(labels().astype(np.int32), "TIFF"),
    "float 1.0": saved(DEFECT.astype(np.float32), "TIFF"),
    "float 0.5": saved(DEFECT.astype(np.float32) / 2, "TIFF"),
    "float64": by_opencv(DEFECT.astype(np.float64)),
    "int8": by_opencv(DEFECT.astype(np.int8)),
    "float class numbers": saved(labels().astype(np.float32), "TIFF"),
    "white on black": saved(coloured(DEFECT, (255, 255, 255), BLACK)),
    "red on black": saved(coloured(DEFECT, (255, 0, 0), BLACK)),
    "dark blue on black": saved(coloured(DEFECT, (0, 0, 40), BLACK)),
    "classes in colour": saved(np.array(VOC, np.uint8)[labels()]),
    "rgba, alpha alike": saved(_rgba((255, 255, 255), BLACK, np.full_like(WHITE, 255))),
    "rgba, alpha 0 everywhere": saved(_rgba((255, 255, 255), BLACK, np.zeros_like(WHITE))),
    "white paint on transparent": saved(_rgba((255, 255, 255), (255, 255, 255))),
    "black paint on transparent": saved(_rgba(BLACK, BLACK)),
    "black paint on transparent white": saved(_rgba(BLACK, (255, 255, 255))),
    "red paint on transparent": saved(_rgba((255, 0, 0), BLACK)),
    "half transparent paint": saved(_rgba((255, 0, 0), BLACK, WHITE // 2)),
    "paint with soft edges": saved(_rgba((9, 9, 9), (9, 9, 9), SOFT)),
    "alpha of 1": saved(_rgba((9, 9, 9), (9, 9, 9), ONE)),
    "grey with alpha": saved(np.dstack([np.zeros_like(WHITE), WHITE])),
    "alpha in tiff": saved(_rgba((255, 255, 255), (255, 255, 255)), "TIFF"),
    "alpha in webp": saved(_rgba((255, 255, 255), (255, 255, 255)), "WEBP", lossless=True, exact=True),
    "black and white, corners transparent": saved(
        _rgba((255, 255, 255), BLACK, np.where(np.indices(SIZE).sum(0) < 9, 0, 255).astype(np.uint8))
    ),
    "palette of VOC": indexed(labels(), VOC),
    "palette all black": indexed(ONE, [BLACK] * 2),
    "palette all black, classes": indexed(labels(), [BLACK] * 3),
    "palette shorter than its numbers": indexed(labels() * np.uint8(7), VOC[:2]),
    "palette without black": indexed(ONE, VIRIDIS),
    "palette without black, classes": indexed(labels(), VIRIDIS),
    "palette white and red": indexed(ONE, [(255, 255, 255), (255, 0, 0)]),
    "palette of greys": indexed(ONE, [(200, 200, 200), (90, 90, 90)]),
    "palette black and white": indexed(ONE, [BLACK, (255, 255, 255)]),
    "palette in bmp": indexed(ONE, VOC, "BMP"),
    "palette in gif": indexed(labels(), VOC, "GIF"),
    "palette in tiff": indexed(labels(), VOC, "TIFF"),
    "palette with a transparent ground": indexed(ONE, [(9, 9, 9)] * 2, transparency=0),
    "palette with steps of transparency": indexed(labels(), [BLACK] * 3, transparency=b"\x00\x80\xff"),
    "black as the transparent colour": saved(Image.fromarray(WHITE).convert("RGB"), transparency=BLACK),
    "0 as the transparent grey": saved(WHITE, transparency=0),
    "alpha in jpeg 2000": saved(_rgba((9, 9, 9), (9, 9, 9)), "JPEG2000"),
    "cmyk": saved(Image.fromarray(WHITE).convert("RGB").convert("CMYK"), "TIFF"),
    "pgm of full scale 1": b"P5\n128 96\n1\n" + ONE.tobytes(),
    "pgm of full scale 3, classes": b"P5\n128 96\n3\n" + labels().tobytes(),
    "pbm, in which 1 is black": b"P4\n128 96\n" + np.packbits(~DEFECT, axis=1).tobytes(),
    "a picture of two frames alike": saved(
        Image.fromarray(WHITE), save_all=True, append_images=[Image.fromarray(WHITE)]
    ),
    "soft edges": saved(SOFT),
    "soft edges of another grey": saved(soft_edges(200)[0]),
    "soft edges in colour": saved(np.dstack([SOFT, SOFT * 0, SOFT * 0])),
    "two pages alike": saved(WHITE, "TIFF", save_all=True, append_images=[Image.fromarray(WHITE)]),
    "video levels": saved(np.where(DEFECT, np.uint8(235), np.uint8(16))),
    "jpeg of best quality, saved as png": saved(reopened(saved(WHITE, "JPEG", quality=98))),
}


@pytest.mark.parametrize("kind", EXACT)
def test_the_defect_is_marked_to_the_pixel(kind: str) -> None:
    np.testing.assert_array_equal(decode_mask(EXACT[kind]), DEFECT)


@pytest.mark.parametrize("quality", [30, 60, 75, 90, 95])
@pytest.mark.parametrize("again", ["", "PNG", "BMP"], ids=["jpeg", "png of it", "bmp of it"])
@pytest.mark.parametrize("marks", [WHITE, coloured(DEFECT, (255, 255, 255), BLACK)], ids=["grey", "rgb"])
def test_what_jpeg_leaves_of_a_mask_is_cut_at_half(marks: np.ndarray, again: str, quality: int) -> None:
    content = saved(marks, "JPEG", quality=quality)
    found = decode_mask(saved(reopened(content), again) if again else content)
    assert (found & DEFECT).sum() / (found | DEFECT).sum() > 0.97


@pytest.mark.parametrize("kind", ["WEBP", "JPEG2000", "TIFF"])
def test_other_lossy_files_are_cut_at_half(kind: str) -> None:
    options: dict[str, Any] = {
        "WEBP": {"quality": 75},
        "JPEG2000": {"irreversible": True, "quality_layers": [20]},
        "TIFF": {"compression": "jpeg"},
    }
    found = decode_mask(saved(coloured(DEFECT, (255, 255, 255), BLACK), kind, **options[kind]))
    assert (found & DEFECT).sum() / (found | DEFECT).sum() > 0.95


def test_thin_smooth_lines_are_kept() -> None:
    drawn = np.zeros(SIZE, np.uint8)
    cv2.line(drawn, (5, 5), (120, 70), 255, 1, cv2.LINE_AA)
    assert np.array_equal(decode_mask(saved(drawn)), drawn > 127)


@pytest.mark.parametrize("value", [0, 1, 50, 255])
def test_one_value_marks_nothing_or_everything(value: int) -> None:
    assert (decode_mask(saved(np.full(SIZE, value, np.uint8))) == (value > 0)).all()


@pytest.mark.parametrize(("value", "marks"), [(0, False), (2, False), (255, True)])
def test_one_value_in_jpeg_is_black_or_white(value: int, marks: bool) -> None:
    assert (decode_mask(saved(np.full(SIZE, value, np.uint8), "JPEG")) == marks).all()


def test_a_mask_is_turned_as_its_exif_says() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # its top is at the right
    for content in (saved(WHITE, exif=exif), indexed(ONE, [BLACK] * 2, exif=exif)):
        np.testing.assert_array_equal(decode_mask(content), np.rot90(DEFECT, -1))


REFUSED = {
    "a photograph": (saved(photograph()), "% of its pixels between black and white"),
    "a photograph in colour": (saved(photograph(3)), "between black and white|none of its pixels is black"),
    "a photograph as jpeg": (saved(photograph(), "JPEG"), "% of its pixels between black and white"),
    "a heat map": (saved((255 * heat_map()).astype(np.uint8)), "% of its pixels between black and white"),
    "a heat map of floats": (saved(heat_map(), "TIFF"), "fractions from .* to 1"),
    "floats that are not finite": (saved(np.where(DEFECT, np.nan, 0).astype(np.float32), "TIFF"), "finite"),
    "negative numbers": (saved(DEFECT.astype(np.int32) - 1, "TIFF"), "levels from -1 to 0"),
    "grey in jpeg": (saved(ONE * np.uint8(90), "JPEG", quality=95), "% of its pixels between"),
    "numbers without 0": (saved(labels() + np.uint8(1)), "% of its pixels between"),
    "red on white": (saved(coloured(DEFECT, (255, 0, 0), (255, 255, 255))), "none of its pixels is black"),
    "viridis": (saved(coloured(DEFECT, VIRIDIS[1], VIRIDIS[0])), "none of its pixels is black"),
    "red paint on a photograph": (
        saved(np.where(DEFECT[..., None], np.array([255, 0, 0], np.uint8), photograph(3))),
        "between black and white|none of its pixels is black",
    ),
    "a cut-out of a photograph": (
        saved(np.dstack([photograph(3), WHITE])),
        r"it shows \d+ colours on a transparent ground",
    ),
    "white as the transparent colour": (saved(WHITE, transparency=255), "most of it is black, and another"),
    "palette white and black": (
        indexed(ONE, [(255, 255, 255), BLACK]),
        r"number 0 as \(255, 255, 255\) and number 1 as black",
    ),
    "pages of two defects": (
        saved(WHITE, "TIFF", save_all=True, append_images=[Image.fromarray(WHITE[::-1].copy())]),
        "2 pages or frames, and they differ",
    ),
    "frames of two defects": (
        saved(WHITE, "GIF", save_all=True, append_images=[Image.fromarray(WHITE[::-1].copy())]),
        "2 pages or frames, and they differ",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_marks_nothing_clearly_is_refused(kind: str) -> None:
    content, says = REFUSED[kind]
    with pytest.raises(DecodeError, match=f"unsupported: no mask: .*({says})"):
        decode_mask(content)


def test_a_mask_cut_short_or_of_no_image_is_refused() -> None:
    with pytest.raises(DecodeError, match="empty"):
        decode_mask(b"")
    for kind in ("grey png", "palette of VOC", "red paint on transparent", "int32"):
        with pytest.raises(DecodeError, match="corrupt"):
            decode_mask(EXACT[kind][: len(EXACT[kind]) // 2])


def test_a_kind_of_file_that_no_mask_has_is_refused_in_words() -> None:
    pam = b"P7\nWIDTH 2\nHEIGHT 1\nDEPTH 2\nMAXVAL 255\nTUPLTYPE GRAYSCALE_ALPHA\nENDHDR\n" + bytes(4)
    with pytest.raises(DecodeError, match="not read as a mask: of a kind that masks may not have"):
        decode_mask(pam)
