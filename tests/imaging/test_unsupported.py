"""Kinds of files that are not read say so, and are not called damaged; kinds that are read, by extension."""

from __future__ import annotations

import numpy as np
import pytest
import pyvips
from PIL import Image

from raysvq.imaging.decode import DecodeError, decode_image, image_size
from tests.imaging.files import LONG, SHORT, bmp, directory, jpeg2000, png, saved, tiff
from tests.imaging.files import chunk as png_chunk

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

LIMIT = 10**6
RGB = np.random.default_rng(5).integers(0, 256, (40, 56, 3), np.uint8)
GREY, DEEP = RGB[..., 0], RGB.astype(np.uint16) * 257
IMAGE = Image.fromarray(RGB)
JPEG, PNG = saved(IMAGE, "JPEG", quality=95), saved(IMAGE, "PNG")
_FRAME = JPEG.index(b"\xff\xc0")


def _framed(marker: int = 0xC0, bits: int = 8, height: bytes = b"\0\x28", components: int = 3) -> bytes:
    """The JPEG with another start of frame."""
    frame = bytes([0xFF, marker]) + JPEG[_FRAME + 2 : _FRAME + 4] + bytes([bits]) + height
    return JPEG[:_FRAME] + frame + JPEG[_FRAME + 7 : _FRAME + 9] + bytes([components]) + JPEG[_FRAME + 10 :]


def _mixed_jpeg2000() -> bytes:
    content = bytearray(jpeg2000(DEEP >> 4, 12))
    content[content.index(b"\xff\x4f\xff\x51") + 45] = 9
    return bytes(content)


def _tiled_planes(pixels: np.ndarray) -> bytes:
    """A TIFF of separate planes of 40 x 56 pixels, a tile each."""
    planes = b"".join(np.pad(plane, ((0, 8), (0, 8))).tobytes() for plane in np.moveaxis(pixels, 2, 0))
    size, bits = len(planes) // 3, 8 * pixels.itemsize
    tags = {256: (LONG, [56]), 257: (LONG, [40]), 258: (SHORT, [bits] * 3), 259: (SHORT, [1])}
    tags |= {262: (SHORT, [2]), 277: (SHORT, [3]), 284: (SHORT, [2]), 322: (LONG, [64]), 323: (LONG, [48])}
    tags |= {324: (LONG, [0] * 3), 325: (LONG, [size] * 3)}
    start = len(directory("<", tags, False))
    return directory("<", tags | {324: (LONG, [start + size * plane for plane in range(3)])}, False) + planes


UNSUPPORTED = {
    "TIFF of floats": (saved(Image.fromarray(GREY.astype(np.float32)), "TIFF"), "samples of format 3"),
    "TIFF of half floats": (tiff(DEEP, 16, tags={339: (SHORT, [3] * 3)}), "samples of format 3"),
    "TIFF of 32 bits": (tiff(GREY, 32), "samples of 32 bits"),
    "TIFF of signed samples": (tiff(DEEP[..., 0], 16, tags={339: (SHORT, [2])}), "samples of format 2"),
    "TIFF of complex numbers": (tiff(GREY, 32, tags={339: (SHORT, [6])}), "samples of format 6"),
    "TIFF of 6 bits": (tiff(GREY >> 2, 6), "samples of 6 bits"),
    "TIFF of unlike channels": (tiff(RGB, 8, tags={258: (SHORT, [8, 8, 16])}), "samples of 8 and 16 bits"),
    "TIFF in Lab": (tiff(RGB, 8, 8), "photometric interpretation 8"),
    "TIFF of a colour filter array": (tiff(GREY, 8, 32803), "photometric interpretation 32803"),
    "TIFF in deep CMYK": (tiff(np.dstack([DEEP, DEEP[..., 0]]), 16, 5), "4 inks of 16 bits"),
    "TIFF of old-style JPEG": (tiff(RGB, 8, tags={259: (SHORT, [6])}), "old-style JPEG"),
    "TIFF of LERC": (tiff(RGB, 8, tags={259: (SHORT, [34887])}), "compression 34887"),
    "TIFF of JPEG 2000": (tiff(RGB, 8, tags={259: (SHORT, [34712])}), "compression 34712"),
    "TIFF of packed planes": (tiff(DEEP >> 4, 12, tags={284: (SHORT, [2])}), "separate planes of 12 bits"),
    "TIFF of packed, predicted samples": (tiff(DEEP >> 4, 12, tags={317: (SHORT, [2])}), "a predictor"),
    "TIFF of deep JPEG": (tiff(DEEP >> 4, 12, tags={259: (SHORT, [7])}), "JPEG of 12 bits"),
    "JPEG of 12 bits": (_framed(0xC1, bits=12), "JPEG of 12 bits"),
    "lossless JPEG": (_framed(0xC3), "process SOF3"),
    "hierarchical JPEG": (_framed(0xC5), "process SOF5"),
    "JPEG-LS": (_framed(0xF7), "process SOF7"),
    "JPEG of a height told later": (_framed(height=b"\0\0"), "a size of 56 x 0"),
    "JPEG of two channels": (_framed(components=2), "2 components"),
    "JPEG 2000 of signed samples": (jpeg2000(GREY >> 1, 8, signed=True), "signed samples"),
    "JPEG 2000 of unlike channels": (_mixed_jpeg2000(), "samples of 10 and 12 bits"),
    "TIFF of 16 bits in tiles of separate planes": (_tiled_planes(DEEP), "separate planes, of 16 bits"),
    "big-endian BigTIFF in LZMA": (
        tiff(RGB, 8, order=">", big=True, tags={259: (SHORT, [34925])}),
        "LZMA: not known to the decoder",
    ),
    "PNG of Apple's, as Xcode writes it": (PNG[:8] + png_chunk(b"CgBI", bytes(4)) + PNG[8:], "chunk CgBI"),
    "PNG of Apple's": (png(RGB, 8, 2, before=png_chunk(b"CgBI", bytes(4))), "critical chunk CgBI"),
    "BMP of ten bits": (
        bmp(GREY.astype(np.uint32) << 22, 32, (0x3FF00000, 0xFFC00, 0x3FF)),
        "Unsupported BMP bitfields",
    ),
    "PFM": (b"Pf\n2 2\n-1.0\n" + bytes(16), "holds floats"),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_a_kind_that_is_not_read_says_which(name: str) -> None:
    content, says = UNSUPPORTED[name]
    with pytest.raises(DecodeError, match=f"^unsupported: .*{says}"):
        decode_image(content, LIMIT)


_NETPBM = saved(IMAGE, "PPM")
_PAM = b"P7\nWIDTH 56\nHEIGHT 40\nDEPTH 3\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\n" + RGB.tobytes()
_CODESTREAM = saved(IMAGE, "JPEG2000", no_jp2=True)
_BITS = Image.fromarray(GREY > 127)
EXTENSIONS = {
    "apng": (saved(IMAGE, "PNG", save_all=True, append_images=[IMAGE.rotate(180)]), RGB),
    "dib": (saved(IMAGE, "BMP"), RGB),
    "j2c": (_CODESTREAM, RGB),
    "j2k": (_CODESTREAM, RGB),
    "jpx": (saved(IMAGE, "JPEG2000"), RGB),
    "pam": (_PAM, RGB),
    "pbm": (saved(_BITS, "PPM"), (GREY > 127) * np.uint8(255)),
    "pnm": (_NETPBM, RGB),
    "btf": (tiff(RGB, 8, big=True), RGB),
    **{suffix: (JPEG, decode_image(JPEG, LIMIT)) for suffix in ("jfif", "jpe")},
    "mpo": (
        saved(IMAGE, "MPO", quality=95, save_all=True, append_images=[IMAGE]),
        decode_image(JPEG, LIMIT),
    ),
    **{
        f"tif, {name}": (saved(IMAGE, "TIFF", compression=name), RGB)
        for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "lzma", "zstd")
    },
    "tif, tiles of separate planes": (_tiled_planes(RGB), RGB),
    "tif, 16 bits, zstd": (saved(Image.fromarray(DEEP[..., 0]), "TIFF", compression="zstd"), DEEP[..., 0]),
    "tif, webp": (
        bytes(pyvips.Image.new_from_array(RGB).tiffsave_buffer(compression="webp", lossless=True)),
        RGB,
    ),
    "tif, group4": (saved(_BITS, "TIFF", compression="group4"), (GREY > 127) * np.uint8(255)),
}


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_what_else_is_read(extension: str) -> None:
    content, expected = EXTENSIONS[extension]
    np.testing.assert_array_equal(decode_image(content, LIMIT), expected)
    assert image_size(content) == (40, 56)


@pytest.mark.parametrize("start", [b"RIFF\x10\0\0\0WAVEfmt ", b"P9 1 1", b"Pages of text", b"II and more"])
def test_what_only_starts_alike_is_no_image(start: bytes) -> None:
    with pytest.raises(DecodeError, match="not_an_image"):
        decode_image(start + bytes(99), LIMIT)
