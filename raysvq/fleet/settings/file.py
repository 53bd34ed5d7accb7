"""`fleet.yaml`: read with line numbers and validated as a whole."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import yaml

from raysvq.errors import RaysvqError, SettingsError
from raysvq.fleet.settings.fleet import Entry, Fleet, Override, absolute, over
from raysvq.fleet.settings.problems import COMMAND_LINE, Problems, kind_of
from raysvq.fleet.settings.sections import CameraSection, EntrySection, FleetSection, OverrideSection
from raysvq.fleet.settings.template import Template, parse_template
from raysvq.settings import Settings
from raysvq.settings.files import RepeatedKeyError, parse_yaml, problem_of
from raysvq.settings.lines import LinedDict, LinedList, parse_lined
from raysvq.storage import canonical, read_bytes

_OF_RUNS = ("scoring", "storage", "ray")  # sections of `settings`, which --set names without it
_UNPACKED = "/runtime_resources/working_dir_files/"
_NOTHING = LinedDict({}, {})


def load_fleet(path: str | Path, overrides: Sequence[str] = ()) -> Fleet:
    """Read a fleet's file.

    Args:
        path: or URI, opened with what the environment says of its store. Relative paths in the file are
            taken from its folder.
        overrides: `lateness_days=5`, `watch.enabled=false`, `scoring.worst=3`: values in place of the file's.

    Raises:
        SettingsError: of every problem in the file a line, with file and line number, what was found and what
            is allowed.
    """
    values = _read(str(path))
    for override in overrides:
        _apply(values, override)
    problems = Problems(str(path))
    section = problems.check(FleetSection, values)
    entries = list(_entries(values, problems))
    rules = list(_overrides(values, entries, problems))
    _require_apart(entries, problems)
    if section:
        out = canonical(absolute(section.out, str(path)))
        _require_lasting(out, values, problems)
        _require_outside(out, entries, problems)
    _require_models(entries, rules, problems)
    _require_routes(values, [*entries, *rules], problems)
    problems.require_none()
    assert section
    return Fleet(
        file=str(path),
        name=section.fleet,
        out=canonical(absolute(section.out, str(path))),
        timezone=ZoneInfo(section.timezone),
        lateness_days=section.lateness_days,
        catch_up_days=section.catch_up_days,
        entries=tuple(entries),
        overrides=tuple(rules),
        settings=Settings(**{name: getattr(section.settings, name) for name in _OF_RUNS}),
        watch=section.watch,
        routes={name: alert.route() for name, alert in section.alerts.items()},
        digest=_digest(section),
    )


def _read(path: str) -> LinedDict:
    try:
        values = parse_lined(read_bytes(canonical(path)).decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise SettingsError(f"{path}:1: not valid YAML: it is not UTF-8 text") from None
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror or error})") from None
    except yaml.YAMLError as error:
        line, problem = problem_of(error)
        raise SettingsError(f"{path}:{line or 1}: not valid YAML: {problem}") from None
    except RepeatedKeyError as error:
        raise SettingsError(
            f"{path}:{error.line}: `{error.key}` stands twice; expected each key once"
        ) from None
    if not isinstance(values, LinedDict):
        raise SettingsError(
            f"{path}:1: found {kind_of(values)}, expected keys such as `fleet:`, `out:` and `cameras:`"
        )
    return values


def _apply(values: LinedDict, override: str) -> None:
    """Put a value of the command line in place of the file's."""
    key, equals, text = override.partition("=")
    names = key.split(".")
    names = ["settings", *names] if names[0] in _OF_RUNS else names
    if not equals or not all(names):
        raise SettingsError(f"--set {key!r}: expected name=value, such as lateness_days=5")
    try:
        value = parse_yaml(text)
    except (yaml.YAMLError, SettingsError):
        raise SettingsError(f"--set {key!r}: what follows `=` is not a YAML value") from None
    for name in names[:-1]:
        values.lines.setdefault(name, COMMAND_LINE)
        inner = values.setdefault(name, LinedDict({}, {}))
        if not isinstance(inner, LinedDict):
            raise SettingsError(f"--set {key!r}: `{name}` is not a section")
        values = inner
    values[names[-1]], values.lines[names[-1]] = value, COMMAND_LINE


def _entries(values: LinedDict, problems: Problems) -> Iterator[Entry]:
    defaults = _section(values.get("defaults"))
    for line, given in _items(values, "cameras"):
        problems.line = line
        own = over(defaults, given)
        section = problems.check(EntrySection, own)
        template = _template(own, problems)
        if section and template:
            entry = Entry(line, template, section.camera, _without(own, "images", "camera", "whole_prefix"))
            _require_group(section, own, entry, problems)
            yield entry


def _template(values: LinedDict, problems: Problems) -> Template | None:
    """The template of an entry, checked against what else the entry says."""
    images, camera, whole = (values.get(name) for name in ("images", "camera", "whole_prefix"))
    if not isinstance(images, str):
        return None  # which the section says
    try:
        template = parse_template(absolute(images, problems.file))
    except (ValueError, RaysvqError) as error:
        problems.at(values, ["images"], str(error))
        return None
    if template.fields and camera:
        names = ", ".join(f"{{{name}}}" for name in template.fields)
        problems.at(
            values,
            ["camera"],
            f"found {camera!r}, but the template names its cameras by {names}; leave it out",
        )
    elif not template.fields and not camera:
        problems.at(
            values, ["images"], "found no field that names cameras; expected {camera}, or `camera: NAME`"
        )
    elif not template.codes and not whole:
        why = "such as {date:%Y-%m-%d}, or `whole_prefix: true`, which lists all of it every time"
        problems.at(values, ["images"], f"found no date in the template; expected one, {why}")
    elif template.codes and whole:
        problems.at(values, ["whole_prefix"], "found true, and a date in the template; leave one of them out")
    else:
        return template
    return None


def _overrides(values: LinedDict, entries: Sequence[Entry], problems: Problems) -> Iterator[Override]:
    """Each is checked over every entry that has its fields, as it may say a part of a section alone."""
    for line, given in _items(values, "overrides"):
        problems.line = line
        match = given.get("match")
        wanted = match if isinstance(match, LinedDict) else {}
        fitting = [entry for entry in entries if set(wanted) <= set(entry.fields)]
        if entries and not fitting:
            names = ", ".join(sorted({name for entry in entries for name in entry.fields}))
            problems.at(given, ["match"], f"no entry has all of {', '.join(wanted)}; fields are {names}")
        section = None if fitting else problems.check(OverrideSection, given)
        for entry in fitting:
            values = over(entry.values, given)
            section = problems.check(OverrideSection, values)
            if section:
                _require_group(section, values, entry, problems)
        if section:
            yield Override(line, section.match, _without(given, "match"))


def _require_group(section: CameraSection, values: LinedDict, entry: Entry, problems: Problems) -> None:
    """Thresholds by a field need that field."""
    group_by = section.decision and section.decision.group_by
    if group_by and group_by not in entry.fields:
        names = ", ".join(entry.fields)
        text = f"found {group_by!r}, which is no field of the template; fields are {names}"
        problems.at(values, ["decision", "group_by"], text)


def _require_apart(entries: Sequence[Entry], problems: Problems) -> None:
    """Two entries must not claim the same images, nor one name."""
    templates: dict[str, int] = {}
    names: dict[str, int] = {}
    for entry in entries:
        other = templates.setdefault(re.sub(r"{[^{}:]*}", "{}", entry.template.text), entry.line)
        if other != entry.line:
            problems.add(
                entry.line,
                f"`images`: {entry.template.text} claims the images of line {other}; expected one entry for"
                " them, and overrides for what differs",
            )
        elif entry.camera and names.setdefault(entry.camera, entry.line) != entry.line:
            other = names[entry.camera]
            problems.add(entry.line, f"`camera`: {entry.camera!r} is the camera of line {other}, too")


def _require_lasting(out: str, values: LinedDict, problems: Problems) -> None:
    """Results must not go where Ray unpacks the --working-dir of a job, for that is removed after it."""
    if _UNPACKED in out:
        why = "lies in Ray's copy of --working-dir, which does not last"
        problems.at(
            values,
            ["out"],
            f"{out} {why}; expected a bucket, or --fleet with an absolute path that nodes share",
        )


def _require_outside(out: str, entries: Sequence[Entry], problems: Problems) -> None:
    """Images must not lie among results: the folders of these would be cameras."""
    for entry in entries:
        if f"{entry.template.root}/".startswith(f"{out.rstrip('/')}/"):
            where = f"{entry.template.root} lies in `out`, {out}, where results go"
            problems.add(entry.line, f"`images`: {where}; expected another folder")


def _require_models(entries: Sequence[Entry], rules: Sequence[Override], problems: Problems) -> None:
    if any(rule.values.get("model") for rule in rules):
        return  # which cameras it is for, the listing says
    for entry in entries:
        if not entry.values.get("model"):
            problems.add(entry.line, "`model` is missing; expected it in the defaults or the entry")


def _require_routes(values: LinedDict, users: Sequence[Entry | Override], problems: Problems) -> None:
    """Every route that a camera names is defined."""
    defined = list(_section(values.get("alerts")))
    for user in users:
        for at, name in enumerate(user.values.get("alerts") or ()):
            if name not in defined:
                routes = ", ".join(defined) or "none"
                problems.at(user.values, ["alerts", at], f"there is no route {name!r}; defined are {routes}")


def _items(values: LinedDict, key: str) -> Iterator[tuple[int, LinedDict]]:
    given = values.get(key)
    if isinstance(given, LinedList):
        yield from (
            (n, each) for n, each in zip(given.lines, given, strict=True) if isinstance(each, LinedDict)
        )


def _section(given: Any) -> LinedDict:
    return given if isinstance(given, LinedDict) else _NOTHING


def _without(values: LinedDict, *names: str) -> LinedDict:
    return LinedDict({key: value for key, value in values.items() if key not in names}, values.lines)


def _digest(section: FleetSection) -> str:
    resolved = section.model_dump(mode="json", exclude={"settings": {"storage"}})
    return hashlib.sha256(json.dumps(resolved, sort_keys=True).encode()).hexdigest()[:16]
