from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from raysvq.evaluation.defects import Marks
from raysvq.evaluation.labelled_images import TestImage
from raysvq.evaluation.result import Metrics
from raysvq.evaluation.score_rows import ScoredImage
from raysvq.evaluation.slices import measure_slices
from raysvq.settings import EvaluationSettings
from raysvq.storage import ObjectInfo

Slices = dict[str, dict[str, Metrics]]


def _image(
    number: int, score: float, anomalous: bool = False, marks: Marks | None = None, **listed: Any
) -> ScoredImage:
    listed = {"defect_type": None, **listed}
    return ScoredImage(
        image=TestImage(f"{number:05}", f"{number}.png", anomalous, None, **listed),
        width=8,
        height=8,
        score=score,
        flagged=score >= 5,
        threshold=5.0,
        tile_scores=np.zeros(1, np.float32),
        tile_labels=None,
        version=ObjectInfo(f"{number}.png", 1, None, None),
        marks=marks,
    )


def _measure(images: list[ScoredImage]) -> tuple[Slices, list[str]]:
    return measure_slices(images, {}, EvaluationSettings(bootstrap=0))


def _sizes(found: dict[str, Metrics]) -> dict[str, tuple[int, int, bool]]:
    return {
        name: (part.normal_images, part.anomalous_images, part.own_normals) for name, part in found.items()
    }


def test_anomalous_images_stand_against_normal_ones_of_the_same_value() -> None:
    images = [
        _image(0, 1, meta={"camera": "left"}),
        _image(1, 8, meta={"camera": "right"}),
        _image(2, 6, anomalous=True, meta={"camera": "left"}),
        _image(3, 7, anomalous=True, meta={"camera": "right"}),
    ]
    found, notes = _measure(images)
    assert _sizes(found["camera"]) == {"left": (1, 1, True), "right": (1, 1, True)}
    assert [part.image_auroc.value for part in found["camera"].values()] == [1, 0]
    assert [(part.false_alarms, part.found) for part in found["camera"].values()] == [(0, 1), (1, 1)]
    assert notes == []


def test_a_value_without_normal_images_stands_against_all_and_says_so() -> None:
    images = [
        _image(0, 1, meta={"camera": "left"}),
        _image(1, 2, meta={"camera": "left"}),
        _image(2, 6, anomalous=True, meta={"camera": "right"}),
    ]
    found = _measure(images)[0]["camera"]
    assert _sizes(found) == {"left": (2, 0, True), "right": (2, 1, False)}
    assert found["left"].image_auroc.reason == "no anomalous test image was scored"


def test_types_of_defects_stand_against_all_normal_images() -> None:
    images = [_image(0, 1), _image(1, 2), _image(2, 6, anomalous=True, defect_type="pit")]
    images += [_image(3, 6, anomalous=True)]
    assert _sizes(_measure(images)[0]["defect_type"]) == {"pit": (2, 1, False), "unnamed": (2, 1, False)}


def test_sizes_of_defects_come_smallest_first_and_those_without_a_mask_last() -> None:
    images = [_image(0, 1), _image(1, 6, anomalous=True)]
    for number, (area, largest) in enumerate([(0.2, 50_000), (0.0001, 12), (0.05, 500)]):
        images.append(_image(2 + number, 6, anomalous=True, marks=Marks(area, 1, largest)))
    found, _ = _measure(images)
    assert list(found["defect_area"]) == ["under 0.1 %", "1 to 10 %", "10 % and more", "no usable mask"]
    assert list(found["largest_defect"]) == [
        "under 100 pixels",
        "100 to 999 pixels",
        "10,000 pixels and more",
        "no usable mask",
    ]


def test_without_a_mask_there_are_no_sizes() -> None:
    found, _ = _measure([_image(0, 1), _image(1, 6, anomalous=True)])
    assert list(found) == ["defect_type"]


def test_a_column_of_many_values_is_left_out_and_named() -> None:
    images = [_image(at, at, group=f"part {at}", meta={"serial": str(at)}) for at in range(21)]
    found, notes = _measure(images)
    assert found == {}
    assert notes == [
        "Column group has 21 values, more than 20: no metrics by its values.",
        "Column serial has 21 values, more than 20: no metrics by its values.",
    ]
    assert len(_measure(images[:20])[0]["serial"]) == 20


def test_a_column_of_one_value_says_nothing() -> None:
    assert _measure([_image(at, at, meta={"site": "here"}) for at in range(3)]) == ({}, [])


def test_images_without_a_value_have_a_name_of_their_own() -> None:
    images = [_image(0, 1, meta={"site": "not given"}), _image(1, 2), _image(2, 3, meta={"site": ""})]
    assert _sizes(_measure(images)[0]["site"]) == {"(not given)": (2, 0, True), "not given": (1, 0, True)}


def test_metadata_named_like_a_column_of_its_own_stands_in_brackets() -> None:
    images = [_image(0, 1, group="a", meta={"group": "x", "defect_type": "y"})]
    images += [_image(1, 6, anomalous=True, group="b", meta={"group": "z", "defect_type": "z"})]
    assert list(_measure(images)[0]) == ["defect_type", "group", "(defect_type)", "(group)"]


@pytest.mark.parametrize("name", ["<b>bold</b>", "two\nlines", "Größe", "a, b"])
def test_values_and_columns_of_any_name_are_kept(name: str) -> None:
    images = [_image(0, 1, meta={name: name}), _image(1, 1, meta={name: "other"})]
    assert set(_measure(images)[0][name]) == {name, "other"}


def test_no_image_has_no_slice() -> None:
    assert _measure([]) == ({}, [])


def test_metadata_in_brackets_and_without_are_two_columns() -> None:
    images = [_image(at, at, group=f"{at}", meta={"group": f"a{at}", "(group)": f"b{at}"}) for at in range(2)]
    found = _measure(images)[0]
    assert set(found) == {"group", "(group)", "((group))"}
    assert {name for parts in found.values() for name in parts} == {"0", "1", "a0", "a1", "b0", "b1"}


def test_images_without_a_value_are_no_value_of_the_20() -> None:
    images = [_image(at, at, meta={"serial": str(at)} if at < 20 else {}) for at in range(25)]
    found, notes = _measure(images)
    assert len(found["serial"]) == 21
    assert notes == []
