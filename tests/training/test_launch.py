"""What a training run checks before it starts, and which earlier run it goes on from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raysvq.data.manifest import write_manifest
from raysvq.errors import DataError
from raysvq.settings import Settings
from raysvq.training.launch import require_trainable, run_name

Build = Callable[..., Settings]


def _manifest(path: Path, **changes: Any) -> str:
    fields = {"size_bytes": 9, "etag": None, "mtime": None, "label": "normal", "mask_uri": None}
    fields |= {"group": None, "defect_type": None, "captured_at": None, "meta": []}
    rows = [
        {"image_id": f"{number:032x}", "uri": f"/img/{number}.png", "split": split} | fields
        for number, split in enumerate(["train", "train", "validation", "test"])
    ]
    rows[0] |= changes
    write_manifest(rows, str(path))
    return str(path)


def test_the_same_data_and_settings_go_on_with_the_same_run(small: Build, tmp_path: Path) -> None:
    first = run_name(_manifest(tmp_path / "a.parquet"), small())
    assert run_name(_manifest(tmp_path / "b.parquet"), small()) == first
    assert run_name(_manifest(tmp_path / "b.parquet"), small(training={"seed": 1})) != first
    cluster = small(training={"workers": 2, "min_workers": 1, "max_failures": 9}, ray={"cpus": 3})
    assert run_name(_manifest(tmp_path / "b.parquet"), cluster) == first


@pytest.mark.parametrize(
    "change",
    [{"split": "test"}, {"label": "anomalous"}, {"size_bytes": 10}, {"mask_uri": "/m.png"}],
    ids=lambda change: next(iter(change)),
)
def test_other_data_start_anew(small: Build, tmp_path: Path, change: dict[str, Any]) -> None:
    before = run_name(_manifest(tmp_path / "a.parquet"), small())
    assert run_name(_manifest(tmp_path / "b.parquet", **change), small()) != before


def test_an_image_that_is_listed_twice_does_not_train_twice(small: Build, tmp_path: Path) -> None:
    manifest = _manifest(tmp_path / "a.parquet", image_id=f"{1:032x}")
    with pytest.raises(DataError, match=r"1 images stand in the manifest more than once, .*\(2 times\)"):
        require_trainable(manifest, small())
