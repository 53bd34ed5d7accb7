"""Folders named like columns, above a manifest and above results, say nothing of the rows."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from raysvq.data.manifest import open_manifest, select
from raysvq.evaluation.evaluate import evaluate
from raysvq.results import open_results
from raysvq.settings import Settings, parse_settings
from raysvq.training.tile_stream import normal_tiles
from tests.plates import make_plates


def _no_progress(line: str) -> None:
    raise AssertionError(line)


def _tiles(manifest: str, settings: Settings) -> int:
    return int(normal_tiles(manifest, settings, _no_progress).count())


@pytest.mark.usefixtures("small_cluster")
def test_train_score_and_evaluate_take_no_column_from_a_path(tmp_path: Path) -> None:
    folder = tmp_path / "split=train" / "label=normal" / "image_id=3" / "is_anomalous=1"
    plates = make_plates(str(folder), 6)  # test images, every other one anomalous
    table = open_manifest(plates.manifest).to_table()
    assert Counter(table["label"].to_pylist()) == {"normal": 3, "anomalous": 3}
    assert set(table["split"].to_pylist()) == {"test"}
    assert select(plates.manifest, split="train").num_rows == 0
    assert _tiles(plates.manifest, parse_settings({"tiles": {"size": 32}})) == 0
    assert plates.score().scored == 6
    assert {name: row["image_score"] for name, row in plates.rows().items()} == pytest.approx(plates.direct())
    assert set(open_results(plates.out, "scores").to_table()["image_id"].to_pylist()) == set(
        table["image_id"].to_pylist()
    )
    settings, tiles = plates.settings().evaluation, plates.bundle.settings.tiles
    evaluation = evaluate(plates.manifest, plates.out, settings, tiles)
    assert evaluation.counts.test_scored == {"normal": 3, "anomalous": 3}
