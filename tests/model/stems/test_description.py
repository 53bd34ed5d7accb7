"""The YAML file of a backbone: what it may say, and the sentence where it says something else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raysvq.errors import SettingsError
from raysvq.model.stems.description import TapSection, read_description

Describe = Callable[..., str]


def test_a_network_lies_beside_its_description_unless_it_says_where(
    describe: Describe, tmp_path: Path
) -> None:
    assert read_description(describe()).uri == str(tmp_path / "network.onnx")
    assert read_description(describe(network="../b.onnx")).uri == str(tmp_path.parent / "b.onnx")
    for elsewhere in ("/nets/b.onnx", "s3://bucket/b.onnx"):
        assert read_description(describe(network=elsewhere)).uri == elsewhere


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"tap": "fine"}, r"unknown key `tap`; expected network, taps, mean, std, cell, multiple, license"),
        ({"taps": [{"output": 0, "pooling": 3}]}, r"unknown key `taps\.0\.pooling`; expected output, side"),
        ({"taps": [{"output": 0, "side": 2}]}, r"`taps\.0\.side`: expected an odd number"),
        ({"taps": []}, r"`taps`: .*at least 1 item"),
        ({"std": [0.2, 0.0, 0.2]}, r"`std`: expected three numbers above 0"),
        ({"mean": [0.5, 0.5]}, r"`mean\.2`: Field required"),
        ({"cell": 16}, r"`cell`: Input should be 8"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_a_description_must_not_say(describe: Describe, changed: dict[str, Any], expected: str) -> None:
    path = describe(**changed)
    with pytest.raises(SettingsError, match=rf"`model\.stem`: {path}: {expected}"):
        read_description(path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "cannot be read"),
        ("taps: [", "is not valid YAML"),
        ("- 3", "is not a section; expected network"),
    ],
    ids=["missing", "broken", "a list"],
)
def test_a_file_that_is_no_description_is_named(tmp_path: Path, content: str | None, expected: str) -> None:
    path = tmp_path / "stem.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SettingsError, match=rf"`model\.stem`: {path} {expected}"):
        read_description(str(path))


def test_a_network_without_a_description_is_told_that_it_needs_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"network\.pt2 says nothing of its outputs.*\.yaml"):
        read_description(str(tmp_path / "network.pt2"))


def test_a_mistyped_name_is_answered_with_all_that_there_is() -> None:
    with pytest.raises(SettingsError, match=r"efficientnet-lite7/config\.json .*expected efficientnet-lite0"):
        read_description("efficientnet-lite7")


def test_a_folder_gives_two_layers_and_the_colours_of_its_preprocessor(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"num_hidden_layers": 12}))
    usual = read_description(str(tmp_path)).stem
    assert usual.taps == (TapSection(output=6), TapSection(output=12))
    assert usual.mean == (0.485, 0.456, 0.406)
    colours = {"image_mean": [0.43, 0.411, 0.296], "image_std": [0.213, 0.156, 0.143]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(colours))
    found = read_description(str(tmp_path)).stem
    assert (found.mean, found.std) == tuple(map(tuple, colours.values()))


@pytest.mark.parametrize("content", ["{}", "[1]", "no json", '{"num_hidden_layers": "12"}'])
def test_a_folder_of_something_else_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(SettingsError, match=rf"`model\.stem`: {tmp_path}/config\.json "):
        read_description(str(tmp_path))
