from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysvq.report.evaluation.page_data import columns, common_folder, page_data
from raysvq.report.evaluation.thumbnails import Picture
from tests.report.evaluations import evaluation, record


@pytest.mark.parametrize(
    ("uris", "folder"),
    [
        ([], ""),
        (["a.png"], ""),
        (["s3://b/x/a.png"], "s3://b/x/"),
        (["s3://b/x/a.png", "s3://b/x1/a.png"], "s3://b/"),
        (["/p/line-1/a.png", "/p/line-2/a.png"], "/p/"),
        (["/p/a", "/p/a"], "/p/"),
    ],
)
def test_names_are_shortened_by_the_folders_that_all_have(uris: list[str], folder: str) -> None:
    assert common_folder(uris) == folder


@given(st.text(), st.text())
def test_any_text_comes_back_from_the_data(name: str, value: str) -> None:
    text = page_data(evaluation([record(name, 4.0, meta={"k": value})]), {}, None)
    assert not {"<", ">", "&"} & set(text)
    data = json.loads(text)
    assert data["prefix"] + data["names"][0] == "/parts/" + name
    assert [column["values"] for column in data["columns"]] == ([[value]] if value else [])


def test_scores_keep_float32_exactly() -> None:
    scores = np.random.default_rng(1).lognormal(0, 3, 200).astype(np.float32)
    data = json.loads(
        page_data(evaluation([record(f"{place}", float(s)) for place, s in enumerate(scores)]), {}, None)
    )
    assert np.array_equal(np.array(data["scores"], np.float32), scores)


def test_a_column_has_minus_one_where_an_image_has_no_value() -> None:
    images = [record("a", 1.0, meta={"line": "b"}), record("b", 1.0), record("c", 1.0, meta={"line": "a"})]
    assert columns(images) == [{"name": "line", "values": ["a", "b"], "of": [1, -1, 0]}]


def test_a_picture_stands_under_the_position_of_its_image() -> None:
    images = [record("a", 1.0), record("b", 2.0)]
    pictures = {"/parts/b": Picture(8, 6, "data:image/webp;base64,A")}
    data = json.loads(page_data(evaluation(images), pictures, None))
    assert data["pictures"] == {"1": {"w": 8, "h": 6, "image": "data:image/webp;base64,A"}}


def test_metadata_named_like_a_column_of_the_page_does_not_take_its_place() -> None:
    named = {"defect_type": "x", "group": "y", "(group)": "z", "decided_by": "w"}
    image = record("a", 1.0, True, defect_type="pit", group="lot", decision_group="camera", meta=named)
    found = {column["name"]: column["values"] for column in columns([image])}
    assert found == {
        "defect_type": ["pit"],
        "group": ["lot"],
        "decided_by": ["camera"],
        "(group)": ["z"],
        "(decided_by)": ["w"],
        "(defect_type)": ["x"],
        "((group))": ["y"],
    }
