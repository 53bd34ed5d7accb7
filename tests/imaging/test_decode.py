from __future__ import annotations

import io
import pickle
import random
import struct
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from raysvq.imaging.decode import (
    REASONS,
    DecodeError,
    Pixels,
    decode_image,
    image_size,
)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

LIMIT = 10**6
_rng = np.random.default_rng(5)
GREY8 = _rng.integers(0, 256, (20, 24), np.uint8)
RGB8 = _rng.integers(0, 256, (20, 24, 3), np.uint8)
GREY16 = _rng.integers(0, 2**16, (20, 24), np.uint16)
RGB16 = _rng.integers(0, 2**16, (20, 24, 3), np.uint16)
ALL = {"grey8": GREY8, "rgb8": RGB8, "grey16": GREY16, "rgb16": RGB16}


def _pillow(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _opencv(pixels: np.ndarray, suffix: str, options: tuple[int, ...] = ()) -> bytes:
    done, encoded = cv2.imencode(suffix, pixels[..., ::-1] if pixels.ndim == 3 else pixels, options)
    assert done
    return encoded.tobytes()


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def _deep_tiff(pixels: Pixels, orientation: int = 1) -> bytes:
    """A 16-bit RGB TIFF with its directory in front."""
    height, width = pixels.shape[:2]
    tags = [(256, width), (257, height), (258, 0), (259, 1), (262, 2), (273, 0), (274, orientation)]
    tags += [(277, 3), (278, height), (279, pixels.nbytes)]
    depths = 8 + 2 + 12 * len(tags) + 4
    known = {258: (3, 3, depths), 273: (4, 1, depths + 6), 279: (4, 1, pixels.nbytes)}
    entries = [struct.pack("<HHII", tag, *known.get(tag, (3, 1, value))) for tag, value in tags]
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(entries) + bytes(4)
    return head + struct.pack("<3H", 16, 16, 16) + pixels.astype("<u2").tobytes()


def _png_header(width: int, height: int) -> bytes:
    """A PNG that ends where its pixels would begin."""
    chunks = [b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT"]
    body = (
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def _close(found: Pixels, expected: np.ndarray, most: int) -> bool:
    return found.shape == expected.shape and int(np.abs(found.astype(int) - expected).max()) <= most


def _smooth() -> np.ndarray:
    y, x = np.mgrid[0:40, 0:56]
    return np.stack([x * 4, y * 6, 255 - x * 2 - y], axis=2).astype(np.uint8)


FILES = {
    "png8": _pillow(Image.fromarray(RGB8), "PNG", exif=_exif(6)),
    "png16": _opencv(RGB16, ".png"),
    "png-palette": _pillow(Image.fromarray(RGB8).quantize(16), "PNG", transparency=3),
    "jpeg": _pillow(Image.fromarray(RGB8), "JPEG", exif=_exif(8)),
    "jpeg-grey": _pillow(Image.fromarray(GREY8), "JPEG", progressive=True),
    "jpeg-cmyk": _pillow(Image.fromarray(RGB8).convert("CMYK"), "JPEG"),
    "tiff8": _pillow(Image.fromarray(RGB8), "TIFF", compression="tiff_lzw"),
    "tiff16": _pillow(Image.fromarray(GREY16), "TIFF", compression="tiff_adobe_deflate"),
    "tiff16-rgb": _deep_tiff(RGB16),
    "gif": _pillow(Image.fromarray(RGB8).quantize(16), "GIF"),
    "bmp": _pillow(Image.fromarray(RGB8), "BMP"),
    "webp": _pillow(Image.fromarray(RGB8), "WEBP", lossless=True),
    "avif": _pillow(Image.fromarray(RGB8), "AVIF"),
    "jpeg2000": _pillow(Image.fromarray(GREY8), "JPEG2000"),
    "pgm": _pillow(Image.fromarray(GREY8), "PPM"),
    "dds": _pillow(Image.fromarray(RGB8), "DDS"),
}


@pytest.mark.parametrize("name", ALL)
def test_png_keeps_every_value_and_its_depth(name: str) -> None:
    found = decode_image(_opencv(ALL[name], ".png"), LIMIT)
    assert found.dtype == ALL[name].dtype
    assert np.array_equal(found, ALL[name])


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("suffix", [".tif", ".tiff"])
def test_tiff_keeps_every_value_and_its_depth(name: str, suffix: str) -> None:
    found = decode_image(_opencv(ALL[name], suffix), LIMIT)
    assert found.dtype == ALL[name].dtype
    assert np.array_equal(found, ALL[name])


def test_big_endian_tiff_has_the_same_values() -> None:
    content = _pillow(Image.frombytes("I;16B", (24, 20), GREY16.astype(">u2").tobytes()), "TIFF")
    assert content.startswith(b"MM")
    assert np.array_equal(decode_image(content, LIMIT), GREY16)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_alpha_is_dropped_and_colours_stay(kind: str) -> None:
    alpha = np.full((20, 24, 1), 200, np.uint8)
    content = _pillow(
        Image.fromarray(np.concatenate([RGB8, alpha], axis=2)),
        kind,
        **({"lossless": True} if kind == "WEBP" else {}),
    )
    assert np.array_equal(decode_image(content, LIMIT), RGB8)


def test_grey_with_alpha_keeps_its_values() -> None:
    image = Image.merge("LA", [Image.fromarray(GREY8), Image.new("L", (24, 20), 130)])
    found = decode_image(_pillow(image, "PNG"), LIMIT)
    assert np.array_equal(found if found.ndim == 2 else found[..., 0], GREY8)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "GIF", "BMP"])
def test_palettes_are_expanded_to_their_colours(kind: str) -> None:
    image = Image.fromarray(RGB8).quantize(16)
    assert np.array_equal(decode_image(_pillow(image, kind), LIMIT), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_one_bit_becomes_black_and_white(kind: str) -> None:
    found = decode_image(_pillow(Image.fromarray(GREY8 > 127), kind), LIMIT)
    assert np.array_equal(found if found.ndim == 2 else found[..., 0], (GREY8 > 127) * 255)


@pytest.mark.parametrize("kind", ["GIF", "BMP"])
def test_grey_is_exact_in_plain_formats(kind: str) -> None:
    found = decode_image(_pillow(Image.fromarray(GREY8), kind), LIMIT)
    assert np.array_equal(found if found.ndim == 2 else found[..., 0], GREY8)


@pytest.mark.parametrize("kind", ["BMP", "WEBP"])
def test_colour_is_exact_in_plain_formats(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    assert np.array_equal(decode_image(_pillow(Image.fromarray(RGB8), kind, **options), LIMIT), RGB8)


def test_of_an_animation_the_first_frame_counts() -> None:
    frames = [Image.new("L", (9, 7), value) for value in (10, 90, 170)]
    found = decode_image(_pillow(frames[0], "GIF", save_all=True, append_images=frames[1:]), LIMIT)
    assert found.shape[:2] == (7, 9)
    assert np.all(found == 10)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_is_close_to_what_went_in(mode: str, progressive: bool) -> None:
    image = Image.fromarray(_smooth())
    content = _pillow(image.convert(mode), "JPEG", quality=98, subsampling=0, progressive=progressive)
    expected = np.asarray(image.convert("L") if mode == "L" else image)
    assert _close(decode_image(content, LIMIT), expected, 6)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "CMYK", "PNG", "WEBP", "TIFF", "TIFF16"])
def test_exif_rotation_is_applied_as_pillow_does(kind: str, orientation: int) -> None:
    image = Image.fromarray(GREY16) if kind == "TIFF16" else Image.fromarray(_smooth())
    options: dict[str, Any] = {"JPEG": {"quality": 98, "subsampling": 0}, "WEBP": {"lossless": True}}.get(
        kind, {}
    )
    saved = "JPEG" if kind == "CMYK" else kind.removesuffix("16")
    content = _pillow(
        image.convert("CMYK") if kind == "CMYK" else image, saved, exif=_exif(orientation), **options
    )
    plain = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    expected = np.asarray(plain if kind == "TIFF16" else plain.convert("RGB"))
    found = decode_image(content, LIMIT)
    assert _close(found, expected, 4 if kind in ("JPEG", "CMYK") else 0)
    assert image_size(content) == expected.shape[:2]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_rotated_deep_colour_tiff_is_upright(orientation: int) -> None:
    """Against an 8-bit file of the same orientation, which Pillow turns."""
    content = _deep_tiff(RGB8.astype(np.uint16) * 257, orientation)
    shallow = _pillow(Image.fromarray(RGB8), "PNG", exif=_exif(orientation))
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(shallow))))
    assert np.array_equal(decode_image(content, LIMIT), expected.astype(np.uint16) * 257)
    assert image_size(content) == expected.shape[:2]


@pytest.mark.parametrize("name", ["png8", "png16", "jpeg", "jpeg-grey", "jpeg-cmyk"])
def test_a_file_cut_short_is_rejected_wherever_it_ends(name: str) -> None:
    content = FILES[name]
    reasons = set()
    for length in [*range(0, 60), *range(60, len(content), 7), len(content) - 2, len(content) - 1]:
        with pytest.raises(DecodeError) as failure:
            decode_image(content[:length], LIMIT)
        reasons.add(failure.value.reason)
    assert reasons == {"empty", "not_an_image", "corrupt"}


@pytest.mark.parametrize("name", ["tiff8", "tiff16", "tiff16-rgb", "gif", "bmp", "webp", "pgm"])
def test_a_file_cut_short_never_yields_other_pixels(name: str) -> None:
    content = FILES[name]
    whole = decode_image(content, LIMIT)
    kept, rejected = [], 0
    for length in range(0, len(content), 5):
        try:
            kept.append(decode_image(content[:length], LIMIT))
        except DecodeError:
            rejected += 1
    assert rejected > len(content) // 10
    assert all(np.array_equal(pixels, whole) for pixels in kept)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"this is a text that someone named image.png", "not_an_image"),
        (b"<html>404</html>", "not_an_image"),
        (bytes(5000), "not_an_image"),
        (b"\x89PNG\r\n\x1a\n", "corrupt"),
        (_png_header(3, 2), "corrupt"),
        (_pillow(Image.fromarray(GREY8.astype(np.float32)), "TIFF"), "unsupported"),
        (_pillow(Image.fromarray(GREY8.astype(np.int32)), "TIFF"), "unsupported"),
    ],
    ids=["empty", "text", "html", "zeros", "png-signature", "png-without-pixels", "float-tiff", "int32-tiff"],
)
def test_what_is_no_readable_image_is_rejected_with_its_reason(content: bytes, reason: str) -> None:
    with pytest.raises(DecodeError) as failure:
        decode_image(content, LIMIT)
    assert failure.value.reason == reason
    assert failure.value.detail


def test_too_many_pixels_are_refused_from_the_header_alone() -> None:
    with pytest.raises(DecodeError) as failure:
        decode_image(_png_header(200_000, 100_000), 400_000_000)
    assert failure.value.reason == "too_large"
    assert failure.value.detail == "200000 x 100000 pixels, scoring.max_pixels allows 400000000"


def test_the_limit_itself_is_allowed() -> None:
    content = _opencv(GREY8, ".png")
    assert decode_image(content, GREY8.size).shape == GREY8.shape
    with pytest.raises(DecodeError, match="too_large"):
        decode_image(content, GREY8.size - 1)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "GIF", "BMP", "WEBP"])
def test_one_pixel_is_an_image(kind: str) -> None:
    content = _pillow(Image.new("RGB", (1, 1), (200, 200, 200)), kind)
    found = decode_image(content, 1)
    assert found.shape[:2] == (1, 1)
    assert abs(int(found.ravel()[0]) - 200) <= 2
    assert image_size(content) == (1, 1)


def test_decode_error_survives_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(DecodeError("corrupt", "PNG: cut short")))
    assert isinstance(error, DecodeError)
    assert (error.reason, error.detail, str(error)) == (
        "corrupt",
        "PNG: cut short",
        "corrupt: PNG: cut short",
    )


@pytest.mark.parametrize("name", FILES)
def test_damage_ends_in_pixels_or_a_decode_error(name: str) -> None:
    draw = random.Random(name)
    outcomes: dict[str, int] = {}
    for _ in range(300):
        content = _damaged(FILES[name], draw)
        try:
            pixels = decode_image(content, LIMIT)
            assert pixels.dtype in (np.uint8, np.uint16)
            assert image_size(content) == pixels.shape[:2]
            outcome = "pixels"
        except DecodeError as error:
            outcome = error.reason
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    assert set(outcomes) <= {*REASONS, "pixels"}
    assert len(outcomes) > 1


def _damaged(content: bytes, draw: random.Random) -> bytes:
    damaged = bytearray(content)
    for _ in range(draw.choice([1, 1, 2, 5, 20])):
        place = draw.randrange(max(1, len(damaged) if draw.random() < 0.5 else min(len(damaged), 120)))
        match draw.randrange(8):
            case 0 | 1 | 2:
                damaged[place : place + 1] = draw.randbytes(1)
            case 3 | 4:
                damaged[place : place + 1] = bytes(
                    value ^ 1 << draw.randrange(8) for value in damaged[place : place + 1]
                )
            case 5:
                del damaged[place : place + draw.randrange(1, 9)]
            case 6:
                damaged[place:place] = draw.randbytes(draw.randrange(1, 9))
            case _:
                del damaged[place + 1 :]
    return bytes(damaged)


@pytest.mark.parametrize("depth", [65535, 4095])
@pytest.mark.parametrize("channels", [1, 3])
def test_deep_netpbm_fills_16_bits(depth: int, channels: int) -> None:
    pixels = (RGB16 if channels == 3 else GREY16) & depth
    header = f"P{6 if channels == 3 else 5}\n24 20\n{depth}\n".encode()
    content = header + pixels.astype(">u2").tobytes()
    decoded = decode_image(content, LIMIT)
    assert decoded.dtype == np.uint16
    np.testing.assert_array_equal(decoded, np.rint(pixels * (65535 / depth)))
    with pytest.raises(DecodeError, match="corrupt"):
        decode_image(content[:-40], LIMIT)


@pytest.mark.parametrize("pixels", [GREY16, RGB16], ids=["grey", "colour"])
def test_deep_jpeg2000_keeps_its_depth(pixels: np.ndarray) -> None:
    pixels = np.concatenate([pixels, pixels[::-1]])  # the encoder wants 32 rows
    pixels = np.concatenate([pixels, pixels], axis=1)
    content = _opencv(pixels, ".jp2", (cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000))
    decoded = decode_image(content, LIMIT)
    assert decoded.dtype == np.uint16
    np.testing.assert_array_equal(decoded, pixels)
    with pytest.raises(DecodeError, match="corrupt"):
        decode_image(content[: len(content) // 2], LIMIT)
