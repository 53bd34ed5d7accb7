"""Which file a configuration is, and what its values are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from raysvq.errors import SettingsError
from raysvq.settings import Settings, find_config, load_settings, load_sweep
from raysvq.settings.files import parse_yaml


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "name", ["features", "features-tiles", "sample", "paper", "paper-literal", "tune-paper"]
)
def test_a_folder_named_like_a_shipped_configuration_does_not_matter(name: str) -> None:
    shipped = find_config(name)
    Path(name).mkdir()
    assert find_config(name) == shipped
    assert shipped.name == f"{name}.yaml"


def test_a_file_named_like_a_shipped_configuration_has_to_be_told_apart() -> None:
    Path("features").write_text("training: {steps: 7}\n")
    with pytest.raises(SettingsError, match=r"'features' is a shipped one, and also .* \./features for"):
        load_settings("features")
    assert load_settings("./features").training.steps == 7
    Path("features.yaml").write_text("training: {steps: 8}\n")
    assert load_settings("features.yaml").training.steps == 8


def test_a_file_without_a_suffix_is_one() -> None:
    Path("mine").write_text("training: {steps: 7}\n")
    assert load_settings("mine").training.steps == 7


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("my/features", r"my/features: cannot be read \(No such file"),  # not the shipped one
        ("folder.yaml", r"folder\.yaml: cannot be read \(Is a directory"),
        ("./folder.yaml", "Is a directory"),
        ("folder", r"no configuration 'folder'; shipped are .*features"),
        ("", "no configuration ''"),
        ("s3://bucket/mine.yaml", r"s3://bucket/mine\.yaml': expected a local file"),
    ],
)
def test_what_is_no_configuration_is_named(name: str, problem: str) -> None:
    for folder in ("folder.yaml", "folder"):
        Path(folder).mkdir()
    with pytest.raises(SettingsError, match=problem):
        load_settings(name)


def test_a_configuration_may_come_through_a_pipe() -> None:
    read, write = os.pipe()
    os.write(write, b"training: {steps: 7}\n")
    os.close(write)
    assert load_settings(f"/dev/fd/{read}").training.steps == 7
    os.close(read)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E2", 100.0),
        (".5", 0.5),
        ("010", 10),  # eight in YAML 1.1
        ("007", 7),
        ("1:30", "1:30"),  # ninety in YAML 1.1
        ("1_000", 1000),
        ("0x1f", 31),
        ("0o17", 15),
        ("-3", -3),
        ("1.2.3", "1.2.3"),
        ("2024-13-45", "2024-13-45"),
        ("yes", True),
        ("off", False),
        ("none", "none"),
        ("null", None),
        ("'010'", "010"),
    ],
)
def test_a_value_is_what_a_person_reads(text: str, value: object) -> None:
    found = parse_yaml(text)
    assert (found, type(found)) == (value, type(value))


def test_a_range_may_be_written_in_powers_of_ten() -> None:
    Path("sweep.yaml").write_text("search: {training.learning_rate: {log_uniform: [1e-4, 1e-2]}}\n")
    assert load_sweep("sweep.yaml")[1]["training.learning_rate"] == {"log_uniform": [1e-4, 1e-2]}


@pytest.mark.parametrize("value", ["yes", "on", "true", "no"])
@pytest.mark.parametrize(
    "key", ["training.steps", "training.learning_rate", "tiles.channels", "storage.retry_s"]
)
def test_truth_is_no_number(key: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"`{key}`: expected something else than true or false"):
        load_settings(None, [f"{key}={value}"])
    assert load_settings(None, ["training.flips=off"]).training.flips is False


@pytest.mark.parametrize("value", [".inf", ".nan", "1e999"])
def test_infinity_is_no_setting(value: str) -> None:
    with pytest.raises(SettingsError, match=r"`training\.learning_rate`: should be"):
        load_settings(None, [f"training.learning_rate={value}"])


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.yaml", "training: {steps: 1}\ntraining: {seed: 2}\n", "line 2 gives `training` again"),
        ("a.yaml", "training:\n  steps: 1\n  seed: 2\n  steps: 3\n", "line 4 gives `steps` again"),
        ("a.yaml", "training: {steps: 1, steps: 1}\n", "line 1 gives `steps` again"),
        ("a.json", '{"training": {"steps": 1, "steps": 2}}', "`steps` is given again"),
        ("a.yaml", "training:\n\tsteps: 1\n", "line 2: found character tab"),
        ("a.json", '{"training": {"steps": 1,}}', "not valid JSON .line 1: "),
        ("a.yaml", "a: 1\n---\nb: 2\n", "line 2: but found another document"),
        ("a.yaml", f"training: {{steps: {'9' * 5000}}}", "line 1: no number"),
        ("a.yaml", "a: " + "[" * 5000, "not valid YAML"),
        ("a.yaml", "[training]", "expected sections such as `training:`, found list"),
        ("a.yaml", "1: {steps: 2}\n", "section `1`: expected names"),
    ],
)
def test_a_file_that_says_two_things_is_refused(name: str, text: str, problem: str) -> None:
    Path(name).write_text(text)
    with pytest.raises(SettingsError, match=problem):
        load_settings(name)


def test_json_with_tabs_anchors_and_marks_are_read() -> None:
    Path("a.json").write_text('{\n\t"training": {"steps": 7, "learning_rate": 1e-3}\n}\n')
    assert load_settings("a.json").training.learning_rate == 0.001
    Path("empty.json").write_text("\n")
    assert load_settings("empty.json") == Settings()
    Path("marked.yaml").write_bytes(b"\xef\xbb\xbftraining: {steps: 7}\n")
    assert load_settings("marked.yaml").training.steps == 7
    Path("anchors.yaml").write_text("training: &t {steps: 7, seed: 3}\n")
    merged = "training:\n  <<: {steps: 7, seed: 3}\n  seed: 4\n"
    Path("anchors.yaml").write_text(merged)
    assert load_settings("anchors.yaml").training.seed == 4


@pytest.mark.parametrize("base", ["[features]", "{a: 1}", "7"])
def test_a_base_is_a_name(base: str) -> None:
    Path("sweep.yaml").write_text(f"base: {base}\nsearch: {{}}\n")
    with pytest.raises(SettingsError, match="`base` expects a file or the name"):
        load_sweep("sweep.yaml")
