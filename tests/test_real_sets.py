"""Real photographs with masks, where a folder of them is at hand (RAYSVQ_DATA, or ../shared/data)."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from raysvq.data.index import build_index
from raysvq.data.manifest import open_manifest
from raysvq.imaging.decode import decode_image
from raysvq.imaging.duplicates import SIDE, fingerprint, near_duplicates
from raysvq.imaging.masks import decode_mask
from raysvq.imaging.pixels import load_tiles
from raysvq.imaging.tiling import is_anomalous, mask_fractions, plan_tiles
from raysvq.settings import ScoringSettings, SplitSettings, TileSettings
from raysvq.storage import read_bytes

DATA = Path(os.environ.get("RAYSVQ_DATA", Path(__file__).parents[2] / "shared" / "data"))
SETS = ["mvtec_bottle", "magnetic_tile", "bsd_pitting"]


@pytest.mark.parametrize("name", SETS)
def test_a_real_tree_is_indexed_and_its_masks_give_anomalous_tiles(name: str, tmp_path: Path) -> None:
    if not (DATA / name).is_dir():
        pytest.skip(f"no image set {DATA / name}; set RAYSVQ_DATA to a folder that holds it")
    manifest = str(tmp_path / "manifest.parquet")
    summary = build_index(str(DATA / name), manifest, SplitSettings(outliers=10))
    labelled = summary.counts["train", "anomalous"] + summary.counts["validation", "anomalous"]
    assert labelled == 10
    assert summary.missing == 0
    tiles = TileSettings(size=64, anomalous_fraction=0)
    masked = [row for row in open_manifest(manifest).to_table().to_pylist() if row["mask_uri"]]
    assert len(masked) == sum(images for (_, label), images in summary.counts.items() if label == "anomalous")
    for row in masked[:20]:
        image, mask = decode_image(read_bytes(row["uri"]), 10**8), decode_mask(read_bytes(row["mask_uri"]))
        assert mask.shape == image.shape[:2]
        fractions = mask_fractions(mask, plan_tiles(*mask.shape, tiles).rects())
        assert is_anomalous(fractions, tiles.anomalous_fraction).any()


@pytest.mark.parametrize("name", ["mvtec_bottle", "magnetic_tile", "mvtec_leather_256"])
def test_of_real_photographs_copies_are_near_duplicates_and_no_others(name: str) -> None:
    if not (DATA / name).is_dir():
        pytest.skip(f"no image set {DATA / name}; set RAYSVQ_DATA to a folder that holds it")
    files = sorted((DATA / name / "train" / "good").iterdir())[:60]
    contents = [file.read_bytes() for file in files]
    for content in contents[:10]:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        contents.append(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes())
    small = TileSettings(mode="whole", size=SIDE)
    found = [fingerprint(one, load_tiles(one, small, ScoringSettings())[1][0]) for one in contents]
    assert near_duplicates(found) == [*range(60), *range(10)]
