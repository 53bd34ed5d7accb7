"""Defects that no pixel suffers from: the image is scored, whole and in bands."""

from __future__ import annotations

import re
import struct
import zlib

import cv2
import numpy as np
import pytest
import simplejpeg
from PIL import Image

from raysvq.imaging.decode import DecodeError, Pixels, decode_image, image_size, open_bands, open_header
from tests.imaging.files import BYTE, LONG, SHORT, UNDEFINED, Array, chunk, exif, png, saved, segment, tiff

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

LIMIT = 10**6
_noise = cv2.GaussianBlur(np.random.default_rng(3).normal(size=(192, 256, 3)), (0, 0), 1.5)
RGB = np.clip(_noise / _noise.std() * 40 + 128, 0, 255).astype(np.uint8)
IMAGE = Image.fromarray(RGB)

JPEGS = {
    "baseline": saved(IMAGE, "JPEG", quality=90),
    "grey": saved(IMAGE.convert("L"), "JPEG"),
    "progressive": saved(IMAGE, "JPEG", progressive=True),
    "cmyk": saved(IMAGE.convert("CMYK"), "JPEG"),
    "restarts": saved(IMAGE, "JPEG", restart_marker_blocks=4),
}
BASELINE = JPEGS["baseline"]
STRAY = {
    "two zeros": bytes(2),
    "eight zeros": bytes(8),
    "a sector of zeros": bytes(4096),
    "fill bytes": b"\xff" * 300,
    "a stuffed byte": b"\xff\0",
    "two bytes": b"\xab\xcd",
    "ten bytes": bytes(range(1, 11)),
    "a line's end": b"\r\n",
    "spaces": b" " * 40,
}
SEGMENTS = {
    "JFIF cut short": segment(0xE0, b"JFIF\0\1"),
    "a JFIF revision that does not exist": segment(0xE0, b"JFIF\0\5\5\0\0\1\0\1\0\0"),
    "Adobe cut short": segment(0xEE, b"Adobe\0"),
    "a profile's part 0 of 5": segment(0xE2, b"ICC_PROFILE\0\0\5garbage"),
    "a profile cut short": segment(0xE2, b"ICC_PROFILE\0"),
    "a profile twice": segment(0xE2, b"ICC_PROFILE\0\1\1garbage") * 2,
    "pictures that are not there": segment(0xE2, b"MPF\0II*\0\x08\0\0\0\0\0\0\0\0\0"),
    "EXIF of garbage": segment(0xE1, b"Exif\0\0garbage"),
    "EXIF of nothing": segment(0xE1, b"Exif\0\0"),
    "EXIF in a loop": segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0\1\0\x69\x87\4\0\1\0\0\0\x08\0\0\0\x08\0\0\0"),
    "XMP of garbage": segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x"),
    "Photoshop's, cut short": segment(0xED, b"Photoshop 3.0\0" + b"8BIM\x03\xed\0\0\xff\xff\xff\xff"),
    "a length of zero": b"\xff\xe5\0\0",
    "a large comment": segment(0xFE, b"x" * 65_000),
    "a marker without data": b"\xff\x01",
    "a restart before any scan": b"\xff\xd3",
    "an extension": segment(0xF0, b"abc"),
    "a second start": b"\xff\xd8",
}


def _read(content: bytes) -> Pixels:
    """Whole, and in bands where there are any: the same."""
    whole = decode_image(content, LIMIT)
    header = open_header(content, LIMIT)
    assert image_size(content) == whole.shape[:2]
    if header.whole is None:
        np.testing.assert_array_equal(open_bands(content, header).read(header.height), whole)
    return whole


def _same(content: bytes, plain: bytes | Array) -> None:
    expected = decode_image(plain, LIMIT) if isinstance(plain, bytes) else plain
    np.testing.assert_array_equal(_read(content), expected)


@pytest.mark.parametrize("stray", STRAY)
@pytest.mark.parametrize("name", JPEGS)
def test_stray_bytes_in_a_jpeg(name: str, stray: str) -> None:
    plain, bytes_ = JPEGS[name], STRAY[stray]
    places = [plain.index(b"\xff\xdb"), plain.index(b"\xff\xda"), len(plain) - 2, len(plain)]
    for at in places:
        _same(plain[:at] + bytes_ + plain[at:], plain)


def test_zeros_before_each_restart_of_a_jpeg() -> None:
    plain = JPEGS["restarts"]
    scan = plain.index(b"\xff\xda")
    padded = re.sub(rb"(\xff[\xd0-\xd7])", rb"\0\1", plain[scan:])
    _same(plain[:scan] + padded, plain)


def test_stray_bytes_between_the_scans_of_a_jpeg() -> None:
    plain = JPEGS["progressive"]
    second = plain.index(b"\xff\xc4", plain.index(b"\xff\xda"))
    for stray in (bytes(3), b"\xab\xcd\xef"):
        _same(plain[:second] + stray + plain[second:], plain)


def test_what_follows_the_end_of_a_jpeg() -> None:
    for more in (JPEGS["grey"], b"\0" * 4096, b"\xff\xd9", b"ftypmp42" * 99):
        _same(BASELINE + more, BASELINE)


@pytest.mark.parametrize("name", SEGMENTS)
def test_odd_segments_of_a_jpeg(name: str) -> None:
    for plain in (BASELINE, JPEGS["cmyk"]):
        if name == "Adobe cut short" and plain is not BASELINE:
            continue
        _same(plain[:2] + SEGMENTS[name] + plain[2:], plain)


def test_a_jpeg_of_unusual_sampling() -> None:
    """Its one unit has 4, 2 and 2 blocks, all of middle grey in the standard codes."""
    plain = saved(Image.new("RGB", (16, 16)), "JPEG", subsampling=0)
    frame, scan = plain.index(b"\xff\xc0"), plain.index(b"\xff\xda") + 14
    content = bytearray(plain[:scan] + bytes.fromhex("28a28a0000") + b"\xff\xd9")
    content[frame + 11 : frame + 19 : 3] = bytes([0x22, 0x21, 0x12])
    _same(bytes(content), np.full((16, 16, 3), 128, np.uint8))
    with pytest.raises(DecodeError, match="corrupt: JPEG"):
        decode_image(bytes(content[:-4]) + b"\xff\xd9", LIMIT)


def test_a_jpeg_of_rgb_needs_no_conversion() -> None:
    content = saved(IMAGE, "JPEG", quality=100, subsampling=0, keep_rgb=True)
    assert np.abs(_read(content).astype(int) - RGB).max() <= 3


def test_a_jpeg_of_several_pictures_is_its_first() -> None:
    _same(saved(IMAGE, "MPO", save_all=True, append_images=[IMAGE.rotate(180)], quality=90), BASELINE)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    ("kind", "values", "turned"),
    [
        (BYTE, [1], 1),
        (UNDEFINED, [1], 1),
        (LONG, [1], 1),
        *[(kind, [6], 6) for kind in (BYTE, UNDEFINED, SHORT, LONG, 8)],
        (SHORT, [6, 0], 6),
        (SHORT, [8, 1], 8),
        (SHORT, [0], 1),
        (SHORT, [9], 1),
        (SHORT, [65535], 1),
        (LONG, [2**31], 1),
        (8, [-1], 1),
    ],
)
@pytest.mark.parametrize("place", ["JPEG", "PNG", "TIFF"])
def test_orientation_of_any_type(place: str, kind: int, values: list[int], turned: int, order: str) -> None:
    """A valid one counts whatever its type; what is none is upright."""
    data = exif(kind, values, order)
    if place == "JPEG":
        content, plain = BASELINE[:2] + segment(0xE1, data) + BASELINE[2:], decode_image(BASELINE, LIMIT)
    elif place == "PNG":
        content, plain = png(RGB, 8, 2, after=chunk(b"eXIf", data[6:])), RGB
    else:
        content, plain = tiff(RGB, 8, order=order, tags={274: (kind, values)}), RGB
    _same(content, np.rot90(plain, {1: 0, 6: -1, 8: 1}[turned]))


_LOG = zlib.compress(bytes(2 * 10**6))
CHUNKS = {
    "a large compressed text": chunk(b"zTXt", b"log\0\0" + _LOG),
    "a large international text": chunk(b"iTXt", b"log\0\1\0\0\0" + _LOG),
    "a large text": chunk(b"tEXt", b"log\0" + b"a" * 3 * 10**6),
    "many texts": chunk(b"zTXt", b"log\0\0" + zlib.compress(bytes(900_000))) * 80,
    "a text of garbage": chunk(b"zTXt", b"log\0\0garbage"),
    "a text of an unknown method": chunk(b"zTXt", b"log\0\7garbage"),
    "a text that holds an image": chunk(b"tEXt", b"a\0" + png(RGB[:9, :9], 8, 2)[:90] + b"IEND"),
    "a profile of garbage": chunk(b"iCCP", b"p\0\0garbage"),
    "a profile of an unknown method": chunk(b"iCCP", b"p\0\5garbage"),
    "an empty sRGB": chunk(b"sRGB", b""),
    "gamma cut short": chunk(b"gAMA", b"\0"),
    "chromaticities cut short": chunk(b"cHRM", b"\0\0"),
    "resolution cut short": chunk(b"pHYs", b"\0\0"),
    "an unknown chunk": chunk(b"abCd", b"zzz"),
    "EXIF of garbage": chunk(b"eXIf", b"garbage"),
    "an animation of garbage": chunk(b"acTL", b"\0"),
    **{
        f"a wrong checksum of {kind.decode()}": chunk(kind, data, sound=False)
        for kind, data in [
            (b"tEXt", b"log\0hello"),
            (b"iCCP", b"p\0\0" + zlib.compress(b"x" * 200)),
            (b"eXIf", exif(SHORT, [6])[6:]),
            (b"gAMA", struct.pack(">I", 45455)),
            (b"tIME", b"\x07\xe4\1\1\1\1\1"),
        ]
    },
}


@pytest.mark.parametrize("name", CHUNKS)
def test_odd_chunks_of_a_png(name: str) -> None:
    _same(png(RGB, 8, 2, before=CHUNKS[name]), RGB)
    _same(png(RGB, 8, 2, after=CHUNKS[name]), RGB)


def test_what_follows_the_end_of_a_png() -> None:
    for more in (b"junk" * 100, bytes(4096), b"IEND"):
        _same(png(RGB, 8, 2) + more, RGB)


def _entry(content: bytes, tag: int, changed: bytes) -> bytes:
    at = next(at for at in range(10, 200, 12) if content[at : at + 2] == struct.pack("<H", tag))
    return content[:at] + changed + content[at + 12 :]


_PLAIN = tiff(RGB, 8)
_NEXT = 10 + 12 * struct.unpack_from("<H", _PLAIN, 8)[0]
TIFFS = {
    "an unknown tag": tiff(RGB, 8, tags={65000: (LONG, [1, 2, 3])}),
    "a date of numbers": tiff(RGB, 8, tags={306: (SHORT, [1, 2, 3])}),
    "a resolution of the wrong type": tiff(RGB, 8, tags={282: (SHORT, [1])}),
    "EXIF that is not there": tiff(RGB, 8, tags={34665: (LONG, [99_999_999])}),
    "sub-images that are not there": tiff(RGB, 8, tags={330: (LONG, [1, 2, 3])}),
    "a profile of garbage": tiff(RGB, 8, tags={34675: (UNDEFINED, [1, 2, 3, 4, 5, 6])}),
    "sizes in bytes": tiff(RGB, 8, tags={257: (BYTE, [192])}),
    "BigTIFF of an odd orientation": tiff(RGB, 8, big=True, tags={274: (SHORT, [0])}),
    "no byte counts": _entry(_PLAIN, 279, struct.pack("<HHII", 280, SHORT, 1, 0)),
    "no rows per strip": _entry(_PLAIN, 278, struct.pack("<HHII", 278, 2, 1, 0)),
    "a next page that is not there": _PLAIN[:_NEXT] + struct.pack("<I", 10**9) + _PLAIN[_NEXT + 4 :],
    "a next page that is itself": _PLAIN[:_NEXT] + struct.pack("<I", 8) + _PLAIN[_NEXT + 4 :],
    "bytes behind it": _PLAIN + b"junk" * 100,
    "a fourth, fifth channel": tiff(np.dstack([RGB, RGB[..., :2]]), 8, tags={338: (SHORT, [0, 0])}),
}


@pytest.mark.parametrize("name", TIFFS)
def test_odd_tags_of_a_tiff(name: str) -> None:
    _same(TIFFS[name], RGB)


def test_grey_with_more_channels_stays_grey() -> None:
    _same(tiff(RGB, 8, 1, tags={338: (SHORT, [0, 0])}), RGB[..., 0])


_BMP, _WEBP, _JP2 = saved(IMAGE, "BMP"), saved(IMAGE, "WEBP", lossless=True), saved(IMAGE, "JPEG2000")
_BOX = struct.pack(">I4s", 16, b"uuid") + b"x" * 8
_AT = _JP2.index(b"jp2c") - 4
OTHERS = {
    "BMP of size 0": _BMP[:2] + bytes(4) + _BMP[6:],
    "BMP with a picture of size 0": _BMP[:34] + bytes(4) + _BMP[38:],
    "BMP with bytes behind it": _BMP + b"x" * 99,
    "WEBP with bytes behind it": _WEBP + b"junk",
    **{
        f"WEBP of size {wrong:+}": _WEBP[:4] + struct.pack("<I", len(_WEBP) - 8 + wrong) + _WEBP[8:]
        for wrong in (-2, 4)
    },
    "WEBP of size 0": _WEBP[:4] + bytes(4) + _WEBP[8:],
    "WEBP with EXIF of garbage": saved(IMAGE, "WEBP", lossless=True, exif=b"Exif\0\0garbage"),
    "JPEG 2000 with a box more": _JP2[:_AT] + _BOX + _JP2[_AT:],
    "JPEG 2000 with bytes behind it": _JP2 + bytes(20),
    "JPEG 2000 to the file's end": _JP2[:_AT] + bytes(4) + _JP2[_AT + 4 :],
    "PPM with bytes behind it": saved(IMAGE, "PPM") * 2,
    "PPM of comments": b"P6\n# a\n256 # b\n192\n#c\n255\n" + RGB.tobytes(),
    "PPM from Windows": b"P6\r\n256 192\r\n255\r\n" + RGB.tobytes(),
}


@pytest.mark.parametrize("name", OTHERS)
def test_odd_files_of_other_formats(name: str) -> None:
    _same(OTHERS[name], RGB)


def test_a_gif_without_its_trailer() -> None:
    palette = IMAGE.quantize(16)
    _same(saved(palette, "GIF")[:-1], np.asarray(palette.convert("RGB")))
    _same(saved(palette, "GIF") + b"junk", np.asarray(palette.convert("RGB")))


_SCAN = BASELINE.index(b"\xff\xda")
_RST, _LATER = (JPEGS["restarts"].index(mark, _SCAN) for mark in (b"\xff\xd3", b"\xff\xd4"))
DAMAGED = {
    "a JPEG cut in its scan": BASELINE[: _SCAN + 3000],
    "a JPEG cut in its scan, and ended": BASELINE[: _SCAN + 3000] + b"\xff\xd9",
    "a JPEG without its end": BASELINE[:-2],
    "a JPEG of zeros in its second half": BASELINE[: _SCAN + 3000].ljust(len(BASELINE), b"\0"),
    "a JPEG that lost a part": JPEGS["restarts"][:_RST] + JPEGS["restarts"][_LATER:],
    "a JPEG that lost a restart": JPEGS["restarts"][:_RST] + JPEGS["restarts"][_RST + 2 :],
    "a JPEG with 60 other bytes at its end": BASELINE[:-2] + bytes(range(60)) + b"\xff\xd9",
    "a CMYK JPEG cut in its scan, and ended": JPEGS["cmyk"][:3000] + b"\xff\xd9",
    "a PNG without its end": png(RGB, 8, 2)[:-12],
    "a TIFF cut in its strip": _PLAIN[:-40],
    "a packed TIFF cut in its strip": tiff(RGB, 12)[:-40],
    "a deflated TIFF cut in its strip": tiff(RGB, 8, deflated=True)[:-600],
    "a TIFF that lost its palette": tiff(RGB[..., 0], 8, 3),
    "a PPM cut off": saved(IMAGE, "PPM")[:-1],
    "a text PPM cut off": b"P2 3 2 255 1 2 3 4 5",
}


@pytest.mark.parametrize("name", DAMAGED)
def test_what_lost_pixels_stays_rejected(name: str) -> None:
    content = DAMAGED[name]
    with pytest.raises(DecodeError, match="corrupt"):
        decode_image(content, LIMIT)
    with pytest.raises(DecodeError, match="corrupt"):
        _in_bands(content)


def _in_bands(content: bytes) -> None:
    header = open_header(content, LIMIT)
    if header.whole:
        raise DecodeError("corrupt", "has no bands")
    open_bands(content, header).read(header.height)


@pytest.mark.parametrize("kind", [b"IHDR", b"IDAT"])
def test_a_wrong_checksum_of_pixels_is_damage(kind: bytes) -> None:
    content = bytearray(png(RGB, 8, 2))
    at = content.index(kind)
    (length,) = struct.unpack_from(">I", content, at - 4)
    content[at + 4 + length] ^= 1
    with pytest.raises(DecodeError, match="corrupt: PNG"):
        decode_image(bytes(content), LIMIT)


def test_bits_that_flip_in_a_jpeg_are_found_as_before() -> None:
    """Of what a decoder complains of, hardly any passes for stray bytes."""
    draw = np.random.default_rng(1)
    noticed = passed = 0
    for at in draw.integers(_SCAN + 14, len(BASELINE) - 2, 300):
        content = bytearray(BASELINE)
        content[at] ^= 1 << int(draw.integers(8))
        try:
            simplejpeg.decode_jpeg(bytes(content))
        except ValueError:
            noticed += 1
            try:
                decode_image(bytes(content), LIMIT)
                passed += 1
            except DecodeError:
                pass
    assert noticed > 30
    assert passed <= 0.05 * noticed
