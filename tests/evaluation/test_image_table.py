from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest

from raysvq.errors import DataError
from raysvq.evaluation.evaluate import evaluate
from raysvq.evaluation.image_table import IMAGES, NAME, read_images, write_images
from raysvq.evaluation.result import Evaluation
from raysvq.settings import EvaluationSettings, TileSettings

if TYPE_CHECKING:
    from conftest import ScoredSet

HOSTILE = [
    "<script>alert(1)<b>.png",
    "quote\"'.png",
    "two\nlines.png",
    "Größe 雪 🦆.png",
    "a,b;c\t.png",
]


def _evaluate(scored_set: ScoredSet) -> Evaluation:
    scored_set.commit()
    return evaluate(
        scored_set.manifest, scored_set.scores, EvaluationSettings(bootstrap=0), TileSettings(mode="whole")
    )


def test_every_image_has_a_row_with_what_the_evaluation_knows(
    plates: Callable[..., ScoredSet], tmp_path: Path
) -> None:
    found = _evaluate(plates())
    write_images(found, str(tmp_path / NAME))
    table = pq.read_table(tmp_path / NAME)
    assert table.schema.equals(IMAGES, check_metadata=False)
    rows = table.to_pylist()
    assert [row["image_id"] for row in rows] == [image.image_id for image in found.images]
    for row, image in zip(rows, found.images, strict=True):
        assert row["score"] == pytest.approx(image.score)
        assert row["uri"] == image.version.uri == image.uri
        assert (row["size_bytes"], row["mtime"]) == (image.version.size_bytes, image.version.mtime)
        for name in ("anomalous", "flagged", "defect_type", "defects", "largest_defect", "defect_area"):
            assert row[name] == getattr(image, name)
    assert table.schema.metadata[b"model_version"] == b"plates-1"


def test_names_groups_and_metadata_of_any_kind_come_back(scored_set: ScoredSet, tmp_path: Path) -> None:
    for name in HOSTILE:
        image_id = scored_set.list_image(
            name, "anomalous", group=name, defect_type=name, meta={name: name, "empty": ""}
        )
        scored_set.score(image_id, 4.0, (8, 8), [(0, 0, 8, 8)], [4.0])
        scored_set.score_rows[-1]["regions"] = [{"x": 1, "y": 2, "w": 3, "h": 4, "area": 5, "peak": 6.5}]
    write_images(_evaluate(scored_set), str(tmp_path / NAME))
    table = read_images(str(tmp_path), ["uri", "group", "defect_type", "meta", "regions"])
    assert {Path(uri).name for uri in table["uri"].to_pylist()} == set(HOSTILE)
    for row in table.to_pylist():
        assert row["group"] == row["defect_type"] == Path(row["uri"]).name
        assert row["meta"] == [(row["group"], row["group"])]  # an empty value is none
        assert row["regions"] == [{"x": 1, "y": 2, "w": 3, "h": 4, "area": 5, "peak": 6.5}]


def test_an_evaluation_of_no_image_has_an_empty_table(scored_set: ScoredSet, tmp_path: Path) -> None:
    scored_set.list_image("later.png", "normal")
    write_images(_evaluate(scored_set), str(tmp_path / NAME))
    assert len(read_images(str(tmp_path / NAME), ["image_id"])) == 0


def test_what_is_no_report_is_named(scored_set: ScoredSet, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"images\.parquet: no such file; expected a report that `raysvq"):
        read_images(str(tmp_path), ["image_id"])
    (tmp_path / NAME).write_text("no table")
    with pytest.raises(DataError, match=r"images\.parquet: cannot be read as Parquet"):
        read_images(str(tmp_path), ["image_id"])
    scored_set.commit()
    with pytest.raises(DataError, match=r"manifest\.parquet: found no column score"):
        read_images(scored_set.manifest, ["image_id", "score"])
