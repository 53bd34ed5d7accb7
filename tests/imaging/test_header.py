"""One picture at every depth and polarity that a file can state, whole and in bands: the same tiles."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from raysvq.imaging.decode import DecodeError, decode_image, open_header
from raysvq.imaging.header import from_significant_bits, to_full_scale
from raysvq.imaging.pixels import load_tiles
from raysvq.settings import ScoringSettings, TileSettings
from tests.imaging.files import LONG, SHORT, Array, bmp, chunk, directory, jpeg2000, packed, png, saved, tiff

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

SHAPE = (400, 296)
_shades = np.random.default_rng(4).random((*SHAPE, 3))
GREY, COLOUR = _shades[..., 0], _shades
TILES = TileSettings(size=32)
WHITE_IS_ZERO, PALETTE = 0, 3


def _samples(shares: Array, full: int) -> Array:
    return np.rint(shares * full).astype(np.uint32)


def _netpbm(shares: Array, full: int, text: bool = False) -> bytes:
    samples = _samples(shares, full)
    kind = (2 if text else 5) + (shares.ndim == 3)
    head = f"P{kind}\n# a camera\n{SHAPE[1]} {SHAPE[0]}\n{full}\n".encode()
    if text:
        return head + " ".join(map(str, samples.ravel())).encode()
    return head + samples.astype(np.uint8 if full < 256 else ">u2").tobytes()


def _pam(shares: Array, full: int) -> bytes:
    depth = 1 if shares.ndim == 2 else 3
    head = f"P7\nWIDTH {SHAPE[1]}\nHEIGHT {SHAPE[0]}\nDEPTH {depth}\nMAXVAL {full}\nENDHDR\n"
    return head.encode() + _samples(shares, full).astype(np.uint8 if full < 256 else ">u2").tobytes()


def _palette_tiff(bits: int, top: int) -> bytes:
    """Grey shades, the lightest first."""
    shades = np.linspace(top, 0, 2**bits).astype(int).tolist()
    return tiff(2**bits - 1 - _samples(GREY, 2**bits - 1), bits, PALETTE, tags={320: (SHORT, shades * 3)})


def _inverted_bmp() -> bytes:
    shades = b"".join(bytes([255 - index] * 3 + [0]) for index in range(256))
    return bmp(255 - _samples(GREY, 255), 8, palette=shades)


FULL = [1, 15, 100, 127, 255, 256, 1023, 4095, 16383, 65535]
# Name -> (file, full scale, colour)
FILES: dict[str, tuple[bytes, int, bool]] = {
    **{f"PGM {full}": (_netpbm(GREY, full), full, False) for full in FULL},
    **{f"PPM {full}": (_netpbm(COLOUR, full), full, True) for full in FULL},
    **{f"PGM text {full}": (_netpbm(GREY, full, text=True), full, False) for full in (100, 4095)},
    **{f"PPM text {full}": (_netpbm(COLOUR, full, text=True), full, True) for full in (100, 4095)},
    **{f"PAM {full}": (_pam(GREY, full), full, False) for full in (255, 1023, 65535)},
    **{f"PAM colour {full}": (_pam(COLOUR, full), full, True) for full in (127, 4095)},
    **{
        f"TIFF {bits} {order}": (tiff(_samples(GREY, 2**bits - 1), bits, order=order), 2**bits - 1, False)
        for bits in (1, 2, 4, 8, 10, 12, 14, 16)
        for order in "<>"
    },
    **{
        f"TIFF white is zero {bits}": (
            tiff(2**bits - 1 - _samples(GREY, 2**bits - 1), bits, WHITE_IS_ZERO, deflated=bits == 16),
            2**bits - 1,
            False,
        )
        for bits in (1, 2, 4, 8, 10, 12, 14, 16)
    },
    **{
        f"TIFF colour {bits}": (tiff(_samples(COLOUR, 2**bits - 1), bits, big=True), 2**bits - 1, True)
        for bits in (8, 10, 12, 14, 16)
    },
    "TIFF palette": (_palette_tiff(8, 65535), 255, False),
    "TIFF palette of few shades": (_palette_tiff(4, 65535), 15, False),
    "TIFF palette as 8 bits": (_palette_tiff(8, 255), 255, False),
    **{
        f"PNG {bits}": (png(_samples(GREY, 2**bits - 1), bits, 0), 2**bits - 1, False)
        for bits in (1, 2, 4, 8, 16)
    },
    "PNG colour 16": (png(_samples(COLOUR, 65535), 16, 2), 65535, True),
    **{
        f"JPEG 2000 {bits} {'bare' if bare else 'boxed'}": (
            jpeg2000(_samples(GREY, 2**bits - 1), bits, bare=bare),
            2**bits - 1,
            False,
        )
        for bits in (4, 7, 8, 9, 10, 12, 14, 15, 16)
        for bare in (False, True)
    },
    **{
        f"JPEG 2000 colour {bits}": (jpeg2000(_samples(COLOUR, 2**bits - 1), bits), 2**bits - 1, True)
        for bits in (7, 8, 9, 12, 16)
    },
    "PBM": (
        f"P4\n{SHAPE[1]} {SHAPE[0]}\n".encode() + packed(1 - _samples(GREY, 1), 1),
        1,
        False,
    ),
    "PBM text": (
        f"P1\n{SHAPE[1]} {SHAPE[0]}\n".encode()
        + b"".join(b"%d" % bit for bit in (1 - _samples(GREY, 1)).flat),
        1,
        False,
    ),
    "BMP of an inverted palette": (_inverted_bmp(), 255, False),
}


@pytest.mark.parametrize("name", FILES)
def test_every_depth_and_polarity_fills_the_range(name: str) -> None:
    content, full, colour = FILES[name]
    pixels = decode_image(content, 10**6)
    top = 255 if full < 256 else 65535
    expected = np.rint(_samples(COLOUR if colour else GREY, full) * (top / full))
    assert pixels.dtype == (np.uint8 if full < 256 else np.uint16)
    found = pixels if colour or pixels.ndim == 2 else pixels[..., 0]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", FILES)
def test_in_bands_it_is_the_same_or_says_why_not(name: str) -> None:
    content = FILES[name][0]
    _, whole = load_tiles(content, TILES, ScoringSettings())
    tight = ScoringSettings(image_memory_mib=1)
    if why := open_header(content, 10**6).whole:
        with pytest.raises(DecodeError, match=f"too_large: .*{why} cannot be read in bands"):
            load_tiles(content, TILES, tight)
    else:
        np.testing.assert_array_equal(load_tiles(content, TILES, tight)[1], whole)


def test_what_a_tiff_says_of_its_largest_value_is_no_full_scale() -> None:
    samples = _samples(GREY, 4095)
    content = tiff(samples, 16, tags={280: (SHORT, [0]), 281: (SHORT, [4095])})
    np.testing.assert_array_equal(decode_image(content, 10**6), samples)


def test_a_png_says_its_significant_bits_for_information() -> None:
    samples = _samples(GREY, 65535)
    np.testing.assert_array_equal(
        decode_image(png(samples, 16, 0, before=chunk(b"sBIT", b"\x0c")), 10**6), samples
    )


def test_a_sample_beyond_the_full_scale_is_damage() -> None:
    content = _netpbm(GREY, 255).replace(b"\n255\n", b"\n100\n")
    with pytest.raises(DecodeError, match="corrupt: a sample of 255, beyond the full scale of 100"):
        decode_image(content, 10**6)


@pytest.mark.parametrize("full", [1, 3, 15, 100, 254, 255, 256, 1023, 4095, 65534, 65535])
def test_scaling_is_to_the_nearest_and_keeps_both_ends(full: int) -> None:
    samples = np.unique(np.linspace(0, full, 5000).astype(np.uint16))
    found = to_full_scale(samples, full)
    top = np.iinfo(found.dtype).max
    assert (found[0], found[-1]) == (0, top)
    assert np.abs(found / top - samples / full).max() <= 0.5 / top


@pytest.mark.parametrize("memory", [1, 1024])
def test_significant_bits_fill_the_range(memory: int) -> None:
    """Against the same picture in a file that states its 12 bits; whole, and in bands."""
    right_aligned = saved(Image.fromarray(_samples(GREY, 4095).astype(np.uint16)), "TIFF")
    tiles = TILES.model_copy(update={"significant_bits": 12})
    scoring = ScoringSettings(image_memory_mib=memory)
    found = load_tiles(right_aligned, tiles, scoring)[1]
    np.testing.assert_array_equal(found, load_tiles(_netpbm(GREY, 4095), tiles, ScoringSettings())[1])
    assert load_tiles(right_aligned, TILES, scoring)[1].max() <= 4095 < 65000 < found.max()


@pytest.mark.parametrize("name", ["PGM 1023", "PGM 255", "TIFF 12 <", "JPEG 2000 12 boxed"])
def test_files_that_state_their_own_scale_need_no_setting(name: str) -> None:
    tiles = TILES.model_copy(update={"significant_bits": 12})
    content = FILES[name][0]
    np.testing.assert_array_equal(
        load_tiles(content, tiles, ScoringSettings())[1], load_tiles(content, TILES, ScoringSettings())[1]
    )


@pytest.mark.parametrize("memory", [1, 1024])
def test_a_value_beyond_the_significant_bits_is_never_clipped(memory: int) -> None:
    samples = np.minimum(_samples(GREY, 4095), 4000)
    samples[300, 7] = 5000
    content = png(samples, 16, 0)
    tiles = TILES.model_copy(update={"significant_bits": 12})
    with pytest.raises(DecodeError, match=r"unsupported: value 5000 beyond tiles\.significant_bits=12"):
        load_tiles(content, tiles, ScoringSettings(image_memory_mib=memory))
    assert from_significant_bits(np.uint8([[255]]), 12).tolist() == [[255]]


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "jpeg"])
def test_ycbcr_tiff_becomes_rgb(compression: str | None) -> None:
    y, x = np.mgrid[0:40, 0:48]
    image = Image.fromarray(np.stack([x * 5, y * 6, 255 - x * 2 - y], axis=2).astype(np.uint8))
    content = saved(image.convert("YCbCr"), "TIFF", compression=compression)
    pixels = decode_image(content, 10**6).astype(int)
    assert np.abs(pixels - np.asarray(image)).max() <= (12 if compression == "jpeg" else 4)
    with pytest.raises(DecodeError, match="corrupt"):
        decode_image(content[:-300] if compression is None else content[:-900], 10**6)


def test_separate_planes_are_the_same_picture() -> None:
    samples = _samples(COLOUR, 65535).astype("<u2")
    height, width = SHAPE
    plane = height * width * 2
    tags = {256: (LONG, [width]), 257: (LONG, [height]), 258: (SHORT, [16] * 3), 259: (SHORT, [1])}
    tags |= {262: (SHORT, [2]), 277: (SHORT, [3]), 278: (LONG, [height]), 279: (LONG, [plane] * 3)}
    tags |= {284: (SHORT, [2]), 273: (LONG, [0] * 3)}
    start = len(directory("<", tags))
    tags[273] = (LONG, [start + plane * index for index in range(3)])
    content = directory("<", tags) + samples.transpose(2, 0, 1).tobytes()
    np.testing.assert_array_equal(decode_image(content, 10**6), samples)
