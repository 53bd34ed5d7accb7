from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysvq.evaluation import labelled_images
from raysvq.evaluation.labelled_images import batches, read_manifest

if TYPE_CHECKING:
    from conftest import ScoredSet


def test_group_and_metadata_come_with_the_image(scored_set: ScoredSet) -> None:
    image_id = scored_set.list_image("a.png", "normal", group="part 1", meta={"camera": "left", "line": ""})
    plain = scored_set.list_image("b.png", "normal", group="")
    scored_set.commit()
    images = read_manifest(scored_set.manifest).images
    assert (images[image_id].group, images[image_id].meta) == ("part 1", {"camera": "left"})
    assert (images[plain].group, images[plain].meta) == (None, {})


def test_a_manifest_may_lack_group_and_metadata(scored_set: ScoredSet) -> None:
    image_id = scored_set.list_image("a.png", "normal")
    scored_set.commit()
    table = pq.read_table(scored_set.manifest).drop_columns(["group", "meta"])
    pq.write_table(table, scored_set.manifest)
    found = read_manifest(scored_set.manifest).images[image_id]
    assert (found.group, found.meta) == (None, {})


def test_large_rows_are_read_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = str(tmp_path / "large.parquet")
    rows = [{"name": str(at), "values": bytes([at]) * 1000} for at in range(100)]
    pq.write_table(pa.Table.from_pylist(rows), uri, use_dictionary=False)
    assert [len(batch) for batch in batches(uri, ["name"])] == [100]
    monkeypatch.setattr(labelled_images, "_BYTES_AT_ONCE", 10_000)
    parts = list(batches(uri, ["name"], optional=["values", "absent"]))
    assert max(len(batch) for batch in parts) < 10
    assert pa.Table.from_batches(parts).to_pylist() == rows
