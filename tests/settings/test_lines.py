"""Values that know their lines."""

from __future__ import annotations

import pickle
from textwrap import dedent

import pytest
import yaml

from raysvq.settings.files import RepeatedKeyError
from raysvq.settings.lines import line_of, merged, parse_lined

TEXT = """\
a: 1
base: &base
  x: 1e-3
  y: 010
items:
  - {k: v}
  -
    - 7
    - deep: null
more:
  <<: *base
  y: 2
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (["a"], 1),
        (["base", "y"], 4),
        (["items", 0, "k"], 6),
        (["items", 1, 0], 8),
        (["items", 1, 1, "deep"], 9),
        (["more", "y"], 12),
        (["more", "x"], 3),  # where the anchor has it
        (["items", 0, "none"], 6),  # the nearest above
        (["items", 5], 5),
        (["a", "b", "c"], 1),
        (["none"], None),
        ([], None),
    ],
)
def test_a_value_knows_its_line(path: list[str | int], line: int | None) -> None:
    assert line_of(parse_lined(TEXT), path) == line


def test_values_are_those_of_settings() -> None:
    found = parse_lined(TEXT)
    assert found == yaml.safe_load(TEXT.replace("1e-3", "0.001").replace("010", "10"))
    assert pickle.loads(pickle.dumps(found)) == found
    with pytest.raises(RepeatedKeyError) as refused:
        parse_lined("a: 1\nb:\n  c: 1\n  c: 2\n")
    assert (refused.value.key, refused.value.line) == ("c", 4)
    with pytest.raises(yaml.YAMLError):
        parse_lined("[" * 10_000)


def test_sections_are_merged_key_by_key_and_keep_their_lines() -> None:
    below, above = (
        parse_lined(dedent(text))
        for text in (
            """\
            a: {x: 1, y: 2}
            whole: {x: 1}
            """,
            """\

            a:
              y: 3
            whole: {y: 1}
            """,
        )
    )
    both = merged(below, above, whole=["whole"])
    assert both == {"a": {"x": 1, "y": 3}, "whole": {"y": 1}}
    assert [line_of(both, path) for path in (["a", "x"], ["a", "y"], ["whole", "y"])] == [1, 3, 4]
    assert below == {"a": {"x": 1, "y": 2}, "whole": {"x": 1}}
