"""Overlays of the highest scores, without a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from raysvq.data.manifest import Row, open_manifest
from raysvq.scoring import heatmaps
from raysvq.scoring.spec import SessionConfig
from raysvq.settings import StorageSettings
from tests.plates import make_plates, plate

_draw: Any = heatmaps._draw._function  # below Ray's decorator


def test_an_image_that_changed_since_it_was_scored_has_no_overlay(tmp_path: Path) -> None:
    plates = make_plates(str(tmp_path), 3)
    found: list[Row] = open_manifest(plates.manifest).to_table().to_pylist()
    worst = [row | {"image_score": 1.0} for row in found]
    plates.put("plate-01.png", plate(50))
    Path(plates.uri("plate-02.png")).unlink()
    versions = plates.bundle.model_version, plates.bundle.decisions.digest
    session = SessionConfig(plates.model, *versions, plates.settings().scoring, StorageSettings())
    names = _draw(worst, "run-1", plates.out, session)
    assert names == [f"heatmaps/run-1/0001-{worst[0]['image_id']}.jpg"]
    assert [str(path.relative_to(plates.out)) for path in Path(plates.out).rglob("*.jpg")] == names
