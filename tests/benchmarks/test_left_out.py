"""Leaving one set out: the choice is made on the others, and ties go to the simpler one."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import choices
from benchmarks.choices import read_choices
from benchmarks.methods.left_out import choose, judge, lines
from raysvq.errors import SettingsError
from raysvq.settings import load_settings

VALUES = {
    "simple": {"a": 0.90, "b": 0.80, "c": 0.70},
    "rich": {"a": 0.80, "b": 0.82, "c": 0.76},
}


def test_each_set_is_reported_with_what_the_others_chose() -> None:
    found = judge(VALUES)
    assert [(one.set_name, one.chosen, one.value) for one in found.left_out] == [
        ("a", "rich", 0.80),
        ("b", "simple", 0.80),
        ("c", "simple", 0.70),
    ]
    assert found.mean == pytest.approx(2.3 / 3)
    assert (found.chosen, found.development) == ("simple", pytest.approx(0.8))
    text = "\n".join(lines(found))
    assert "left out: 0.7667" in text
    assert "chosen on all 3: simple, 0.8000 (development figure)" in text


def test_of_alternatives_that_are_as_good_the_first_is_chosen() -> None:
    values = {"simple": {"a": 0.9, "b": 0.8}, "rich": {"a": 0.9005, "b": 0.801}}
    assert choose(values, ["a", "b"]) == "simple"
    assert choose({"simple": values["simple"], "better": {"a": 0.903, "b": 0.8}}, ["a", "b"]) == "better"


def test_choices_are_read_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "choices.yaml"
    path.write_text("pooling:\n  max: [anomaly.pooling=map_max]\n  default: []\n")
    found = read_choices(path)
    assert list(found["pooling"].items()) == [("max", ["anomaly.pooling=map_max"]), ("default", [])]


def test_the_shipped_choices_are_settings_that_differ() -> None:
    for alternatives in read_choices(Path(choices.__file__).with_suffix(".yaml")).values():
        settings = [load_settings("features", list(one)) for one in alternatives.values()]
        assert len({one.model_dump_json() for one in settings}) == len(settings)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pooling: {max: []}", "expected two or more alternatives"),
        ("pooling: {max: [], other: anomaly.top_k=3}", "expected a list such as"),
    ],
)
def test_choices_of_another_form_are_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "choices.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=words):
        read_choices(path)
