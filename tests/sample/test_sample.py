"""The sample fleet: files that decode, masks that fit, and the same bytes for the same seed."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from raysvq.imaging.decode import DecodeError, decode_image
from raysvq.imaging.masks import decode_mask
from raysvq.sample import write_sample

NORMAL, ANOMALOUS = 40, 24

Rows = list[dict[str, str]]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(write_sample(tmp_path_factory.mktemp("fleet"), 3, NORMAL, ANOMALOUS)).parent


@pytest.fixture(scope="module")
def rows(fleet: Path) -> Rows:
    return _rows(fleet)


def _rows(folder: Path) -> Rows:
    with (folder / "listing.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _images(rows: Rows) -> Rows:
    return [row for row in rows if row["label"] != "unknown"]


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_listing_has_as_many_images_as_asked_for_and_names_every_file_once(fleet: Path, rows: Rows) -> None:
    assert Counter(row["label"] for row in rows) == {"normal": NORMAL, "anomalous": ANOMALOUS, "unknown": 2}
    listed = [row[column] for row in rows for column in ("uri", "mask_uri") if row[column]]
    assert sorted([*listed, "listing.csv"]) == sorted(_contents(fleet))


def test_two_odd_files_come_last_and_are_rejected(fleet: Path, rows: Rows) -> None:
    assert [row["label"] for row in rows[-2:]] == ["unknown", "unknown"]
    reasons = []
    for row in rows[-2:]:
        with pytest.raises(DecodeError) as failure:
            decode_image((fleet / row["uri"]).read_bytes(), 10**6)
        reasons.append(failure.value.reason)
    assert reasons == ["corrupt", "not_an_image"]


def test_cameras_store_the_depth_and_format_they_are_made_for(fleet: Path, rows: Rows) -> None:
    formats = defaultdict(set)
    for row in _images(rows):
        image = decode_image((fleet / row["uri"]).read_bytes(), 10**6)
        formats[row["camera"]].add((Path(row["uri"]).suffix, image.dtype.name, image.ndim, row["surface"]))
        assert all(200 <= side < 300 and side % 64 for side in image.shape[:2])
    assert formats == {
        "area-rgb": {(".png", "uint8", 3, "brushed_steel")},
        "panel-rgb": {(".jpg", "uint8", 3, "painted_steel")},
        "line-mono": {(".png", "uint16", 2, "brushed_steel")},
    }


def test_deep_camera_uses_more_than_eight_bits(fleet: Path, rows: Rows) -> None:
    for row in _images(rows):
        if row["camera"] == "line-mono":
            image = decode_image((fleet / row["uri"]).read_bytes(), 10**6)
            assert len(np.unique(image)) > 4096
            assert image.max() > 2**14
            assert (image == 65535).mean() < 0.001


def test_masks_fit_their_images_and_mark_a_small_visible_part(fleet: Path, rows: Rows) -> None:
    for row in _images(rows):
        assert bool(row["mask_uri"]) == bool(row["defect_type"]) == (row["label"] == "anomalous")
        if row["mask_uri"]:
            image = decode_image((fleet / row["uri"]).read_bytes(), 10**6)
            stored = decode_image((fleet / row["mask_uri"]).read_bytes(), 10**6)
            assert stored.dtype == np.uint8
            assert set(np.unique(stored)) == {0, 255}
            assert stored.shape == image.shape[:2]
            assert 0.002 <= decode_mask((fleet / row["mask_uri"]).read_bytes()).mean() < 0.25


def test_marked_pixels_differ_from_the_surface_around_them(fleet: Path, rows: Rows) -> None:
    for row in _images(rows):
        if row["mask_uri"]:
            image = decode_image((fleet / row["uri"]).read_bytes(), 10**6).astype(np.float64)
            mask = decode_mask((fleet / row["mask_uri"]).read_bytes())
            off = np.abs(image - np.median(image[~mask], axis=0)).reshape(*mask.shape, -1).max(axis=2)
            assert off[mask].mean() > 1.2 * off[~mask].mean(), row["uri"]


def test_assets_have_one_to_three_images_of_one_label_taken_on_one_day(rows: Rows) -> None:
    assets = defaultdict(list)
    for row in _images(rows):
        assets[row["group"]].append(row)
    for name, images in assets.items():
        assert 1 <= len(images) <= 3
        shared = {
            (r["label"], r["defect_type"], r["site"], r["camera"], r["captured_at"][:10]) for r in images
        }
        assert len(shared) == 1
        assert name.startswith("panel-" if images[0]["surface"] == "painted_steel" else "plate-")


def test_fleet_covers_two_sites_six_dates_and_all_defects(rows: Rows) -> None:
    images = _images(rows)
    assert {row["site"] for row in images} == {"harbour", "refinery"}
    times = [datetime.fromisoformat(row["captured_at"]) for row in images]
    assert all(time.utcoffset() == timedelta(0) for time in times)
    dates = {time.date() for time in times}
    assert len(dates) == 6
    assert timedelta(days=14) < max(dates) - min(dates) < timedelta(days=22)
    assert {row["defect_type"] for row in images} == {"", "pitting", "rust", "scratch", "contamination"}


def test_same_seed_gives_the_same_bytes_and_another_seed_does_not(tmp_path: Path) -> None:
    one, same, other = (
        _contents(Path(write_sample(tmp_path / name, seed, 5, 3)).parent)
        for name, seed in (("one", 1), ("same", 1), ("other", 2))
    )
    assert one == same
    assert one != other


@pytest.mark.parametrize(("normal", "anomalous"), [(0, 2), (2, 0), (0, 0)])
def test_either_label_may_be_left_out(tmp_path: Path, normal: int, anomalous: int) -> None:
    rows = _rows(Path(write_sample(str(tmp_path), normal=normal, anomalous=anomalous)).parent)
    assert Counter(row["label"] for row in rows) == Counter(normal=normal, anomalous=anomalous, unknown=2)
