from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from raysvq.data.preflight import hint_at_depth, require_fitting, require_readable
from raysvq.errors import DataError, StorageError
from raysvq.settings import TileSettings
from raysvq.storage import join
from tests.imaging.files import saved


def test_images_at_least_as_large_as_a_tile_fit(folder: Any) -> None:
    uris = [folder.image("small.png", (20, 20)), folder.image("fits.png", (32, 40))]
    require_fitting(uris, TileSettings(size=32))
    with pytest.raises(DataError):
        require_fitting(uris[:1], TileSettings(size=32))


def test_a_tile_larger_than_every_image_names_the_setting_and_the_largest(disk: Any) -> None:
    uris = [disk.image("a.png", (30, 500)), disk.image("b.png", (48, 56)), disk.image("c.png", (10, 10))]
    with pytest.raises(DataError) as failure:
        require_fitting(uris, TileSettings(size=64))
    assert str(failure.value) == (
        "setting `tiles.size`: 64 is larger than every image checked (the largest of 3 is 56 x 48 pixels);"
        " expected a smaller one, or tiles.mode=whole"
    )


def test_whole_images_may_be_smaller_than_the_tile(disk: Any) -> None:
    uris = [disk.image("a.png", (10, 10))]
    require_fitting(uris, TileSettings(mode="whole", size=64))
    with pytest.raises(DataError):
        require_fitting(uris, TileSettings(mode="tiles", size=64))


def test_a_few_bad_images_among_good_ones_do_not_matter(disk: Any) -> None:
    uris = [disk.file("bad.png", b"text"), join(disk.uri, "gone.png"), disk.image("a.png", (40, 40))]
    require_fitting(uris, TileSettings(size=32))
    with pytest.raises(DataError, match="none of the 2 images"):
        require_fitting(uris[:2], TileSettings(size=32))


def test_images_none_of_which_is_one_are_named(disk: Any) -> None:
    uris = [disk.file("a.png", b"text"), disk.file("b.png", b"")]
    with pytest.raises(DataError) as failure:
        require_fitting(uris, TileSettings())
    assert str(failure.value).startswith(f"none of the 2 images checked can be read; {uris[0]}: not_an_image")


def _deep(largest: int, kind: str = "PNG") -> bytes:
    pixels = np.linspace(0, largest, 400).astype(np.uint16).reshape(20, 20)
    return saved(Image.fromarray(pixels), kind)


def test_16_bit_images_that_fill_12_bits_bring_a_hint(disk: Any) -> None:
    dark = [disk.file("a.png", _deep(4095)), disk.file("b.tif", _deep(3000, "TIFF"))]
    hint = hint_at_depth([*dark, join(disk.uri, "gone.png")], TileSettings())
    assert hint == (
        "hint: the 16-bit images checked have no value above 4095 of 65535; if their camera fills 12 bits,"
        " set tiles.significant_bits"
    )
    assert hint_at_depth(dark, TileSettings(significant_bits=12)) is None
    assert hint_at_depth([*dark, disk.file("full.png", _deep(60_000))], TileSettings()) is None


def test_images_that_state_their_scale_bring_no_hint(disk: Any) -> None:
    twelve = b"P5\n20 20\n4095\n" + np.linspace(0, 900, 400).astype(">u2").tobytes()
    uris = [disk.image("a.png", (20, 20)), disk.file("b.pgm", twelve), disk.file("c.png", b"text")]
    assert hint_at_depth(uris, TileSettings()) is None


def test_missing_files_are_no_refusal_but_a_folder_in_place_of_every_image_is(folder: Any) -> None:
    folder.image("folder/a.png")
    missing, refused = join(folder.uri, "gone.png"), join(folder.uri, "folder")
    require_readable([missing, missing])
    require_readable([missing, refused])
    require_readable([refused, join(refused, "a.png")])
    if not folder.uri.startswith("s3://"):
        with pytest.raises(StorageError, match=f"none of the 1 images checked can be read; {refused}"):
            require_readable([refused])


def test_a_store_that_refuses_every_file_is_named(
    s3: str, disk: Any, monkeypatch: pytest.MonkeyPatch, new_clients: Callable[[], None]
) -> None:
    uri = type(disk)(join(s3, "refused")).image("a.png")
    require_readable([uri])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    new_clients()
    with pytest.raises(
        StorageError, match=rf"none of the 1 images checked can be read; {uri}: .*permission denied"
    ):
        require_readable([uri])
