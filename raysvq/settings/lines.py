"""YAML values that know the line they stand on, so that an error about a value can name it."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from typing import Any

import yaml

from raysvq.settings.files import PlainLoader


class LinedDict(dict[str, Any]):
    """A section, with the line of each key."""

    def __init__(self, values: dict[str, Any], lines: dict[Any, int]) -> None:
        """`values` as they stand in the file."""
        super().__init__(values)
        self.lines = lines


class LinedList(list[Any]):
    """A list, with the line of each item."""

    def __init__(self, values: Sequence[Any], lines: Sequence[int]) -> None:
        """`values` as they stand in the file."""
        super().__init__(values)
        self.lines = lines


def parse_lined(text: str) -> Any:
    """Plain values as of `parse_yaml`, with lines.

    Raises:
        yaml.YAMLError: it is not valid.
        RepeatedKeyError: a key is given twice in a section.
    """
    try:
        return yaml.load(text, Loader=_LinedLoader)
    except RecursionError:
        raise yaml.YAMLError("nested too deep") from None


def merged(below: LinedDict, above: LinedDict, whole: Collection[str] = ()) -> LinedDict:
    """Values of one section over those of another; sections inside are merged key by key.

    Args:
        whole: sections of which one replaces the other.
    """
    values, lines = dict(below), below.lines | above.lines
    for key, value in above.items():
        inner = values.get(key)
        if isinstance(inner, LinedDict) and isinstance(value, LinedDict) and key not in whole:
            value = merged(inner, value)
        values[key] = value
    return LinedDict(values, lines)


def line_of(values: Any, path: Sequence[Hashable]) -> int | None:
    """The line of a value, or of the nearest section above it that has one."""
    line: int | None = None
    for key in path:
        try:
            line, values = values.lines[key], values[key]
        except (AttributeError, LookupError, TypeError):  # no section, or no such key in it
            break
    return line


class _LinedLoader(PlainLoader):
    pass


def _section(loader: PlainLoader, node: yaml.MappingNode) -> LinedDict:
    values: dict[Any, Any] = loader.construct_mapping(
        node, deep=True
    )  # after it the node has what anchors bring along
    lines = {loader.construct_object(key, deep=True): key.start_mark.line + 1 for key, _ in node.value}
    return LinedDict(values, lines)


def _list(loader: PlainLoader, node: yaml.SequenceNode) -> LinedList:
    lines = [item.start_mark.line + 1 for item in node.value]
    return LinedList(loader.construct_sequence(node, deep=True), lines)


_LinedLoader.add_constructor("tag:yaml.org,2002:map", _section)
_LinedLoader.add_constructor("tag:yaml.org,2002:seq", _list)
