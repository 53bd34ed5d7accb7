"""Real photographs with masks, where a folder of them is at hand (RAYSVQ_DATA, or ../shared/data)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from raysvq.data.index import build_index
from raysvq.data.manifest import open_manifest
from raysvq.imaging.decode import decode_image
from raysvq.imaging.masks import decode_mask
from raysvq.imaging.tiling import is_anomalous, mask_fractions, plan_tiles
from raysvq.settings import SplitSettings, TileSettings
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
