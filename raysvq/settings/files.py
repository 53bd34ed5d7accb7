"""Configuration files: found by path or by name, read so that a value is what a person reads there."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import yaml

from raysvq.errors import SettingsError


def find_config(name: str | Path) -> Path:
    """The file of that path, or the shipped configuration of that name.

    A bare word, without a suffix or a folder, is a name. A folder of that name in the working folder does
    not matter.

    Raises:
        SettingsError: there is neither, or both a file and a shipped configuration.
    """
    text = os.fspath(name)
    if "://" in text:
        raise SettingsError(f"configuration {text!r}: expected a local file, or the name of a shipped one")
    path = Path(text)
    if path.suffix or os.sep in text:
        return path
    shipped = shipped_configs()
    if text in shipped and path.is_file():
        raise SettingsError(
            f"configuration {text!r} is a shipped one, and also a file in the working folder; expected"
            f" ./{text} for the file, or {shipped[text]} for the shipped one"
        )
    if text in shipped:
        return shipped[text]
    if path.is_file():
        return path
    raise SettingsError(f"no configuration {text!r}; shipped are {', '.join(sorted(shipped))}")


def shipped_configs() -> dict[str, Path]:
    """The configurations that come with raysvq, by name."""
    package = Path(__file__).parents[1]
    inside = package / "configs"  # in a wheel; in a checkout they lie beside the package
    folder = inside if inside.is_dir() else package.parent / "configs"
    return {file.stem: file for file in folder.glob("*.yaml")}


def read_config(path: Path) -> dict[str, Any]:
    """The sections of a YAML or JSON file; none of an empty one.

    Raises:
        SettingsError: it cannot be read, is not valid, names a key twice, or holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        values = _from_json(text) if path.suffix.lower() == ".json" else parse_yaml(text)
    except OSError as error:
        raise SettingsError(f"configuration {path}: cannot be read ({error.strerror})") from None
    except json.JSONDecodeError as error:
        raise SettingsError(
            f"configuration {path}: not valid JSON (line {error.lineno}: {error.msg})"
        ) from None
    except UnicodeDecodeError:
        raise SettingsError(f"configuration {path}: not valid YAML (it is not UTF-8 text)") from None
    except yaml.YAMLError as error:
        raise SettingsError(f"configuration {path}: not valid YAML ({_where(error)})") from None
    except RepeatedKeyError as error:
        raise SettingsError(f"configuration {path}: {error}; expected each key once in a section") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise SettingsError(
            f"configuration {path}: expected sections such as `training:`, found {type(values).__name__}"
        )
    return values


def parse_yaml(text: str) -> Any:
    """Plain values.

    Numbers are those of YAML 1.2: `1e-3` is one, and `010` is ten. Those of 1.1, which PyYAML reads by
    itself, would make them text and eight, and `1:30` ninety. No setting is a date, which stays text.

    Raises:
        yaml.YAMLError: it is not valid.
        SettingsError: a key is given twice; the last one would silently win.
    """
    try:
        return yaml.load(text, Loader=PlainLoader)
    except RecursionError:
        raise yaml.YAMLError("nested too deep") from None


class RepeatedKeyError(SettingsError):
    """A key stands twice in one section."""

    def __init__(self, key: str, line: int | None = None) -> None:
        """`line` of the second one, where it is known."""
        self.key, self.line = key, line
        super().__init__(f"line {line} gives `{key}` again" if line else f"`{key}` is given again")


class PlainLoader(yaml.SafeLoader):
    """Reads plain values, and refuses a key that stands twice in one section."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Refuses a repeated key; those that an anchor brings along may be given anew."""
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if (key.tag, str(key.value)) in seen:
                raise RepeatedKeyError(key.value, key.start_mark.line + 1)
            seen.add((key.tag, str(key.value)))
        return node


def _number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node)).replace("_", "")
    try:
        return int(text, 0) if _PREFIXED.match(text) else int(text)
    except ValueError:
        raise yaml.constructor.ConstructorError(None, None, "no number", node.start_mark) from None


_PREFIXED = re.compile(r"[-+]?0[xo]")
_INT, _FLOAT, _DATE = (f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "timestamp"))
PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in (_INT, _FLOAT, _DATE)]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
PlainLoader.add_implicit_resolver(
    _INT, re.compile(r"[-+]?(?:\d[\d_]*|0x[\da-fA-F_]+|0o[0-7_]+)\Z"), list("-+0123456789")
)
PlainLoader.add_implicit_resolver(
    _FLOAT,
    re.compile(r"[-+]?(?:(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|\.(?:inf|Inf|INF))\Z|\.(?:nan|NaN|NAN)\Z"),
    list("-+.0123456789"),
)
PlainLoader.add_constructor(_INT, _number)


def _from_json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_once) if text.strip() else None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise RepeatedKeyError(key)
        found[key] = value
    return found


_QUOTED = re.compile(
    r"(?P<mark>\s*'(?:<[a-z ]+>|[][{},:?&*-]+)')|\s*['\"].*['\"]"
)  # marks of YAML, and words


def problem_of(error: yaml.YAMLError) -> tuple[int | None, str]:
    """Line, where it is known, and problem, without a word of the file, which may hold a secret."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return None, "it holds characters that YAML does not allow"
    text = (error.problem or "").replace("'\\t'", "tab").replace("'<stream end>'", "the end of the file")
    problem = _QUOTED.sub(lambda found: found["mark"] or "", text)
    return error.problem_mark.line + 1, problem


def _where(error: yaml.YAMLError) -> str:
    line, problem = problem_of(error)
    return f"line {line}: {problem}" if line else problem
