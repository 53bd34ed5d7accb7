"""What a manifest says of the images that a model learns from."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from raysvq.data.describe import MAX_VALUES, describe
from raysvq.data.manifest import open_manifest, row_of, write_manifest
from raysvq.data.training_set import TrainingSet
from raysvq.schema import ANOMALOUS, NONE, NORMAL, TEST, TRAIN, UNKNOWN, VALIDATION
from raysvq.storage import ObjectInfo

BOTH = (TRAIN, VALIDATION)


def _described(folder: Path, rows: list[dict[str, Any]], splits: tuple[str, ...] = BOTH) -> TrainingSet:
    made = [
        row_of(
            ObjectInfo(f"/images/{number}.png", 1, None, None), **({"label": NORMAL, "split": TRAIN} | row)
        )
        for number, row in enumerate(rows)
    ]
    write_manifest(made, str(folder / "manifest.parquet"))
    return describe(open_manifest(str(folder / "manifest.parquet")), splits)


def test_groups_defects_and_masks_are_counted(tmp_path: Path) -> None:
    found = _described(
        tmp_path,
        [
            {"group": "a"},
            {"group": "a"},
            {"group": "b", "split": VALIDATION},
            {},
            {"label": ANOMALOUS, "group": "c", "defect_type": "pit", "mask_uri": "/masks/1.png"},
            {"label": ANOMALOUS, "defect_type": "rust"},
            {"label": ANOMALOUS, "defect_type": "rust"},
            {"label": ANOMALOUS},
        ],
    )
    assert (found.groups, found.ungrouped, found.masks) == (2, 1, 1)
    assert list(found.defect_types.items()) == [("rust", 2), ("pit", 1)]


def test_only_labelled_images_of_the_splits_count(tmp_path: Path) -> None:
    rows = [
        {"group": "a"},
        {"group": "b", "split": VALIDATION},
        {"group": "c", "label": UNKNOWN},
        {"group": "d", "split": NONE},
        {"group": "e", "split": TEST},
        {"label": ANOMALOUS, "split": TEST, "defect_type": "pit"},
        {"label": ANOMALOUS, "split": TEST, "defect_type": "pit"},
    ]
    found = _described(tmp_path, rows, (TRAIN,))
    assert (found.groups, found.defect_types) == (1, {})
    assert found.test == {ANOMALOUS: 2, NORMAL: 1}
    assert _described(tmp_path, rows).groups == 2


def test_the_first_and_last_date_are_those_of_what_is_learnt(tmp_path: Path) -> None:
    early, late = datetime(2026, 5, 4, 6, tzinfo=UTC), datetime(2026, 5, 9, 18, 30, 0, 999, tzinfo=UTC)
    rows = [{"captured_at": late}, {}, {"captured_at": early, "label": ANOMALOUS}]
    rows.append({"captured_at": datetime(2026, 6, 1, tzinfo=UTC), "split": TEST})
    found = _described(tmp_path, rows)
    assert (found.first, found.last, found.dated) == (
        "2026-05-04T06:00:00+00:00",
        "2026-05-09T18:30:00+00:00",
        2,
    )


def test_a_manifest_without_dates_and_metadata_has_none(tmp_path: Path) -> None:
    found = _described(tmp_path, [{}, {"meta": [("operator", "J. Doe")]}])
    assert found == TrainingSet(groups=0, ungrouped=2, defect_types={}, masks=0, places={}, test={})


@pytest.mark.parametrize("key", ["site", "line", "camera"])
def test_places_are_counted_and_other_metadata_is_not_looked_at(tmp_path: Path, key: str) -> None:
    meta = [[(key, "left"), ("operator", "J. Doe")], [(key, "left")], [(key, "it's")], []]
    found = _described(tmp_path, [{"meta": one} for one in meta])
    assert found.places == {key: {"left": 2, "it's": 1}}
    assert TrainingSet.of(found.plain()) == found


def test_of_many_values_the_most_frequent_are_kept(tmp_path: Path) -> None:
    rows = [{"meta": [("camera", f"c{number}")]} for number in range(MAX_VALUES + 5)] * 2
    rows += [{"meta": [("camera", f"c{MAX_VALUES + 4}")]}]
    found = _described(tmp_path, rows)
    assert found.places is not None
    cameras = found.places["camera"]
    assert len(cameras) == MAX_VALUES
    assert next(iter(cameras.items())) == (f"c{MAX_VALUES + 4}", 3)
