"""What the training stream makes of images and masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest

from raysvq.errors import DataError
from raysvq.settings import Settings, parse_settings
from raysvq.storage import ObjectInfo, file_infos
from raysvq.training.tile_stream import Batch, normal_cutter, outlier_cutter, require_marked

CELL = 4


class Said:
    """A `Progress` that keeps the lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, line: str) -> None:
        self.lines.append(line)


def _settings(**tiles: Any) -> Settings:
    return parse_settings({"tiles": {"size": 16, "channels": 1} | tiles})


class Attempts:
    """Of tasks whose processes never died."""

    def begin(self, task: str) -> tuple[int, dict[str, str]]:
        return 1, {}

    def end(self, task: str, crashing: dict[str, str]) -> None:
        assert not crashing


FIRST: Any = Attempts()


def _rows(*uris: str, masks: Sequence[str | None] = (), labels: Sequence[str] = ()) -> pa.Table:
    """Rows of a manifest, of the images as they are now."""
    found = [_info(uri) for uri in uris]
    return pa.table(
        {
            "uri": uris,
            "size_bytes": [info.size_bytes for info in found],
            "etag": pa.array([info.etag for info in found], pa.string()),
            "mtime": pa.array([info.mtime for info in found], pa.timestamp("us", "UTC")),
            "mask_uri": pa.array(masks or [None] * len(uris), pa.string()),
            "label": labels or ["normal"] * len(uris),
        }
    )


def _info(uri: str) -> ObjectInfo:
    (info,) = file_infos([uri])
    assert info
    return info


def _outliers(settings: Settings, said: Said, *pairs: tuple[str, str | None]) -> list[Batch]:
    uris, masks = zip(*pairs, strict=True)
    return list(outlier_cutter(settings, CELL, said, FIRST)(_rows(*uris, masks=masks)))


def test_a_batch_an_image_and_none_for_one_that_cannot_be_read(disk: Any) -> None:
    said = Said()
    uris = [disk.image("a.png", (16, 32)), disk.file("b.png", b"no image"), disk.image("c.png", (48, 16))]
    batches = list(normal_cutter(_settings(), said, FIRST)(_rows(*uris)))
    assert [batch["tile"].shape for batch in batches] == [(n, 16, 16, 1) for n in (0, 2, 3)]
    assert all(batch["tile"].dtype == np.uint16 for batch in batches)
    assert len(said.lines) == 1
    assert "b.png" in said.lines[0]


def test_marked_tiles_and_the_share_of_each_position(disk: Any) -> None:
    image = disk.image("a.png", (16, 48))
    mask = np.zeros((16, 48), np.uint8)
    mask[:, 16:18] = 255  # an eighth of the second tile
    marked = disk.file("m.png", cv2.imencode(".png", mask)[1].tobytes())
    for fraction, tiles in ((0.125, 1), (0.126, 0)):
        settings = _settings(anomalous_fraction=fraction)
        found = _outliers(settings, Said(), (image, marked))[1]
        assert found["tile"].shape == (tiles, 16, 16, 1)
    found = _outliers(_settings(anomalous_fraction=0.1), Said(), (image, marked))[1]
    np.testing.assert_allclose(found["weight"], [[[0.5, 0, 0, 0]] * 4])


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda folder, mask: folder.file("m.png", b""), "cannot be decoded"),
        (lambda folder, mask: folder.image("m.png", (8, 8)), "is 8 x 8 pixels, its image 32 x 32"),
        (lambda folder, mask: f"{mask}.gone", "cannot be read"),
        (lambda folder, mask: folder.image("m.png", (32, 32), 0), "marks nothing"),
    ],
    ids=["damaged", "other size", "gone", "nothing"],
)
def test_an_outlier_whose_mask_cannot_be_used_is_left_out_by_name(
    disk: Any, spoil: Any, problem: str
) -> None:
    good, bad = disk.image("good.png", (32, 32)), disk.image("bad.png", (32, 32))
    mask = disk.image("mask.png", (32, 32), 255)
    said = Said()
    batches = _outliers(_settings(), said, (bad, spoil(disk, mask)), (good, mask))
    assert [len(batch["tile"]) for batch in batches] == [0, 4]
    assert len(said.lines) == 1
    assert "bad.png" in said.lines[0]
    assert problem in said.lines[0]


def test_an_outlier_without_a_mask_counts_as_a_whole(disk: Any) -> None:
    found = _outliers(_settings(mode="whole"), Said(), (disk.image("a.png"), None))[1]
    assert len(found["tile"]) == 1
    assert np.all(found["weight"] == 1)


def test_unlabelled_images_are_told_apart_where_they_take_part(disk: Any) -> None:
    uris = [disk.image("a.png", (16, 16)), disk.image("b.png", (16, 32))]
    rows = _rows(*uris, labels=["normal", "unknown"])
    values = _settings().model_dump()
    settings = parse_settings(values | {"training": {"unlabelled": True}})
    batches = list(normal_cutter(settings, Said(), FIRST)(rows))
    assert np.concatenate([batch["unknown"] for batch in batches]).tolist() == [False, True, True]
    assert all("unknown" not in batch for batch in normal_cutter(_settings(), Said(), FIRST)(rows))


def test_normal_images_that_nobody_verified_are_unknown_too(disk: Any) -> None:
    values = _settings().model_dump()
    settings = parse_settings(values | {"training": {"verified": False}})
    rows = _rows(disk.image("a.png", (16, 32)), labels=["normal"])
    batches = list(normal_cutter(settings, Said(), FIRST)(rows))
    assert np.concatenate([batch["unknown"] for batch in batches]).tolist() == [True, True]


def test_outliers_without_an_anomalous_tile_are_refused() -> None:
    tiles = _settings(anomalous_fraction=0.5).tiles
    with pytest.raises(DataError, match=r"none of the 3 labelled outliers .* tiles\.anomalous_fraction=0\.5"):
        require_marked(0, 3, tiles)
    require_marked(1, 3, tiles)


def test_an_image_that_changed_since_it_was_indexed_is_left_out_by_name(disk: Any) -> None:
    kept, changed = disk.image("a.png", (16, 16)), disk.image("b.png", (16, 32))
    rows = _rows(kept, changed)
    disk.image("b.png", (32, 32))
    said = Said()
    batches = list(normal_cutter(_settings(), said, FIRST)(rows))
    assert [len(batch["tile"]) for batch in batches] == [0, 1]
    assert len(said.lines) == 1
    assert "b.png (changed since it was indexed" in said.lines[0]
