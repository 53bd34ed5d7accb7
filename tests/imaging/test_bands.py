"""Files read in bands give the pixels that `decode_image` gives, or say why they cannot be."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
import pytest
import pyvips
from PIL import Image

from raysvq.imaging.decode import DecodeError, decode_image, open_bands, open_header

_rng = np.random.default_rng(5)
_noise = cv2.GaussianBlur(_rng.normal(size=(201, 303, 3)), (0, 0), 2)
RGB8 = np.clip(_noise / _noise.std() * 40 + 128, 0, 255).astype(np.uint8)
RGB16 = np.clip(_noise / _noise.std() * 8000 + 32_000, 0, 65_535).astype(np.uint16)
PICTURE = Image.fromarray(RGB8)
PALETTE = PICTURE.quantize(64)
RGBA = Image.fromarray(np.dstack([RGB8, RGB8[..., 0]]))


def _pillow(image: Image.Image, name: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


def _opencv(suffix: str, pixels: np.ndarray, *options: int) -> bytes:
    return cv2.imencode(suffix, pixels, options)[1].tobytes()


def _vips_tiff(pixels: np.ndarray, **options: Any) -> bytes:
    return bytes(pyvips.Image.new_from_array(pixels).tiffsave_buffer(**options))


FILES = {
    "JPEG 4:2:0": _pillow(PICTURE, "JPEG"),
    "JPEG 4:4:4": _pillow(PICTURE, "JPEG", subsampling=0),
    "JPEG 4:2:2": _pillow(PICTURE, "JPEG", subsampling=1),
    "JPEG 4:4:0": _opencv(".jpg", RGB8, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x121111),
    "JPEG grey": _pillow(PICTURE.convert("L"), "JPEG"),
    "PNG": _pillow(PICTURE, "PNG"),
    "PNG grey": _pillow(PICTURE.convert("L"), "PNG"),
    "PNG of one bit": _pillow(PICTURE.convert("1"), "PNG"),
    "PNG of two bits": _pillow(PICTURE.quantize(4), "PNG", bits=2),
    "PNG palette": _pillow(PALETTE, "PNG"),
    "PNG palette, one transparent": _pillow(PALETTE, "PNG", transparency=3),
    "PNG, one colour transparent": _pillow(PICTURE, "PNG", transparency=(128, 128, 128)),
    "PNG RGBA": _pillow(RGBA, "PNG"),
    "PNG grey, alpha": _pillow(RGBA.convert("LA"), "PNG"),
    "PNG 16-bit": _opencv(".png", RGB16),
    "PNG 16-bit grey": _opencv(".png", RGB16[..., 0]),
    "PNG 16-bit RGBA": _opencv(".png", np.dstack([RGB16, RGB16[..., 0]])),
    "TIFF": _pillow(PICTURE, "TIFF"),
    "TIFF LZW": _pillow(PICTURE, "TIFF", compression="tiff_lzw"),
    "TIFF JPEG": _pillow(PICTURE, "TIFF", compression="jpeg"),
    "TIFF grey": _pillow(PICTURE.convert("L"), "TIFF"),
    "TIFF of one bit": _pillow(PICTURE.convert("1"), "TIFF", compression="group4"),
    "TIFF palette": _pillow(PALETTE, "TIFF"),
    "TIFF RGBA": _pillow(RGBA, "TIFF"),
    "TIFF white is zero": _vips_tiff(RGB8[..., 0], miniswhite=True),
    "TIFF tiled": _vips_tiff(RGB8, tile=True, compression="deflate", predictor="horizontal"),
    "TIFF tiled JPEG": _vips_tiff(RGB8, tile=True, compression="jpeg"),
    "TIFF tiled 16-bit": _vips_tiff(RGB16, tile=True, compression="lzw", bigtiff=True),
    "TIFF tiled 16-bit grey": _vips_tiff(RGB16[..., 0], tile=True, compression="lzw"),
    "TIFF striped 16-bit": _vips_tiff(RGB16, compression="deflate"),
    "TIFF striped 16-bit grey": _vips_tiff(RGB16[..., 0]),
}
_turned = Image.Exif()
_turned[0x0112] = 6
WHOLE = {
    "progressive JPEG": _pillow(PICTURE, "JPEG", progressive=True),
    "interlaced PNG": bytes(pyvips.Image.new_from_array(RGB8).pngsave_buffer(interlace=True)),
    "JPEG of EXIF orientation 6": _pillow(PICTURE, "JPEG", exif=_turned),
    "PNG of EXIF orientation 6": _pillow(PICTURE, "PNG", exif=_turned),
    "TIFF of EXIF orientation 6": _pillow(PICTURE, "TIFF", tiffinfo={274: 6}),
    "TIFF in blocks of 1500 rows": _pillow(
        PICTURE.resize((8, 1500)), "TIFF", compression="tiff_lzw", strip_size=8 * 1500 * 3
    ),
    "TIFF in blocks of 2048 rows": _vips_tiff(RGB8, tile=True, tile_height=2048),
    "JPEG in CMYK": _pillow(PICTURE.convert("CMYK"), "JPEG"),
    "BMP of mode RGB": _pillow(PICTURE, "BMP"),
    "WEBP of mode RGB": _pillow(PICTURE, "WEBP"),
}


def _read(content: bytes, counts: tuple[int, ...]) -> np.ndarray:
    header = open_header(content, 10**9)
    assert header.whole is None
    bands = open_bands(content, header)
    return np.concatenate([bands.read(count) for count in counts])


@pytest.mark.parametrize("name", FILES)
def test_bands_are_the_pixels_of_the_whole_image(name: str) -> None:
    read, whole = _read(FILES[name], (1, 99, 64, 37)), decode_image(FILES[name], 10**9)
    assert read.dtype == whole.dtype
    np.testing.assert_array_equal(read, whole)


@pytest.mark.parametrize("name", ["JPEG 4:2:0", "JPEG grey", "PNG", "PNG 16-bit", "TIFF", "TIFF grey"])
@pytest.mark.parametrize("share", [0.5, 0.97])
def test_a_file_cut_off_is_corrupt(name: str, share: float) -> None:
    content = FILES[name][: int(share * len(FILES[name]))]
    with pytest.raises(DecodeError, match=f"corrupt: {name.split()[0]}: "):
        _read(content, (201,))


def test_a_png_without_its_end_is_corrupt() -> None:
    with pytest.raises(DecodeError, match="cut off in its last chunk"):
        _read(FILES["PNG"][:-6], (201,))


def test_a_damaged_png_is_corrupt() -> None:
    content = bytearray(FILES["PNG"])
    content[len(content) // 2] ^= 0xFF
    with pytest.raises(DecodeError, match="corrupt"):
        _read(bytes(content), (201,))


@pytest.mark.parametrize("reason", WHOLE)
def test_what_has_no_bands_says_why(reason: str) -> None:
    assert open_header(WHOLE[reason], 10**9).whole == reason
