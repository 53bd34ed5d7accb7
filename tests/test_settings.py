from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from raysvq.errors import SettingsError
from raysvq.settings import (
    Settings,
    TileSettings,
    describe,
    digest,
    find_config,
    load_settings,
    parse_settings,
)

SHIPPED = sorted((Path(__file__).parent.parent / "configs").glob("*.yaml"))
CONFIGS = [path for path in SHIPPED if not path.stem.startswith("tune-")]  # the others are sweeps


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    return path


def _leaves(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


def test_without_a_file_the_defaults_hold() -> None:
    assert load_settings() == Settings()
    assert load_settings().model.codebook_size == 512


def test_file_then_overrides_in_their_order(tmp_path: Path) -> None:
    path = _file(tmp_path, "model:\n  codebook_size: 64\n  hidden: 32\ntraining: {steps: 7}\n")
    found = load_settings(
        path, ["model.codebook_size=128", "model.codebook_size=256", "training.flips=false"]
    )
    assert (found.model.codebook_size, found.model.hidden) == (256, 32)
    assert (found.training.steps, found.training.flips) == (7, False)


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n"])
def test_an_empty_file_means_the_defaults(tmp_path: Path, text: str) -> None:
    assert load_settings(_file(tmp_path, text)) == Settings()


@pytest.mark.parametrize(
    ("text", "value"), [("null", None), ("32", 32), ("", None)], ids=["null", "32", "empty"]
)
def test_an_override_is_a_yaml_value(text: str, value: int | None) -> None:
    assert load_settings(None, ["tiles.stride=16", f"tiles.stride={text}"]).tiles.stride == value


@pytest.mark.parametrize(
    ("override", "close"),
    [
        ("model.codebok_size=64", "model.codebook_size"),
        ("modle.codebook_size=64", "model"),
        ("training.learning-rate=0.1", "training.learning_rate"),
        ("steps=4", "training.steps"),
    ],
)
def test_an_unknown_key_names_a_close_one(override: str, close: str) -> None:
    with pytest.raises(SettingsError) as failure:
        load_settings(None, [override])
    assert f"unknown setting `{override.partition('=')[0].partition('.')[0]}" in str(failure.value)
    assert f"did you mean `{close}`?" in str(failure.value)


def test_a_key_like_no_other_leads_to_the_list() -> None:
    with pytest.raises(SettingsError, match=r"unknown setting `zzz`: `raysvq settings` lists them all"):
        parse_settings({"zzz": 1})


@pytest.mark.parametrize(
    ("override", "found", "allowed"),
    [
        ("split.gamma=1.5", "1.5", "less than 1"),
        ("split.validation_fraction=0", "0", "greater than 0"),
        ("tiles.size=20", "20", "multiple of 8"),
        ("tiles.mode=sliced", "'sliced'", "'tiles' or 'whole'"),
        ("tiles.channels=4", "4", "1 or 3"),
        ("model.codebook_size=lots", "'lots'", "valid integer"),
        ("training.workers=0", "0", "greater than or equal to 1"),
        ("anomaly.pooling=mean", "'mean'", "'tile_max', 'map_max' or 'top_k'"),
    ],
)
def test_an_impossible_value_names_key_found_and_allowed(override: str, found: str, allowed: str) -> None:
    with pytest.raises(SettingsError) as failure:
        load_settings(None, [override])
    message = str(failure.value)
    assert message.startswith(f"setting `{override.partition('=')[0]}`: ")
    assert message.endswith(f", found {found}")
    assert allowed in message


def test_every_problem_is_named_at_once() -> None:
    with pytest.raises(SettingsError) as failure:
        parse_settings({"training": {"steps": 0, "seed": -1}, "modle": {}})
    assert all(key in str(failure.value) for key in ("training.steps", "training.seed", "modle"))


def test_a_value_where_a_section_belongs_is_named() -> None:
    with pytest.raises(SettingsError, match=r"setting `training`.*found 5"):
        parse_settings({"training": 5})
    with pytest.raises(SettingsError, match=r"'training\.steps\.more': 'steps' is not a section"):
        load_settings(None, ["training.steps=3", "training.steps.more=1"])


def test_gamma_and_outliers_exclude_each_other() -> None:
    with pytest.raises(SettingsError, match=r"setting `split`: gamma=0\.1 and outliers=5 are both set"):
        load_settings(None, ["split.gamma=0.1", "split.outliers=5"])
    assert load_settings(None, ["split.outliers=5"]).split.gamma is None


def test_a_stride_beyond_the_tile_leaves_gaps() -> None:
    with pytest.raises(SettingsError, match="stride=65 leaves gaps between tiles of size=64"):
        load_settings(None, ["tiles.size=64", "tiles.stride=65"])
    assert load_settings(None, ["tiles.size=64", "tiles.stride=64"]).tiles.stride == 64


def test_a_halo_needs_surroundings_and_a_network_that_leaves_it_out() -> None:
    with pytest.raises(SettingsError, match="halo=32 needs mode=tiles"):
        load_settings("features", ["tiles.halo=32"])
    with pytest.raises(SettingsError, match=r"tiles\.halo=32 needs model\.encoder=features"):
        load_settings("textures", ["tiles.mode=tiles", "tiles.halo=32"])


def test_a_stem_that_sees_colour_needs_it() -> None:
    with pytest.raises(SettingsError, match=r"model\.encoder=features needs tiles\.channels=3, found 1"):
        load_settings(None, ["model.encoder=features", "tiles.channels=1"])


def test_weights_of_another_network_are_not_for_a_stem_that_brings_its_own() -> None:
    weights = "model.stem_weights=w.safetensors"
    with pytest.raises(SettingsError, match=r"stem_weights is for .*stem=dino\.yaml comes"):
        load_settings(None, ["model.stem=dino.yaml", weights])
    assert load_settings(None, ["model.stem=efficientnet-lite2", weights]).model.stem_weights


@pytest.mark.parametrize("override", ["model.hidden", "=5", "", "model.hidden:5"])
def test_an_override_without_a_value_says_what_it_should_look_like(override: str) -> None:
    with pytest.raises(SettingsError, match=r"expected section\.name=value"):
        load_settings(None, [override])


def test_an_override_that_is_no_yaml_is_quoted_up_to_its_key() -> None:
    with pytest.raises(SettingsError, match=r"'model\.hidden': what follows `=` is not a YAML value"):
        load_settings(None, ["model.hidden=[1"])


@pytest.mark.parametrize("content", [b"model: [1\n", b"\tmodel: 1\n", b"\xff\xfe\x00broken", b"a: *b\n"])
def test_a_file_that_is_no_yaml_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "settings.yaml"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"settings\.yaml: not valid YAML"):
        load_settings(path)


def test_a_file_of_another_shape_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="expected sections such as `training:`, found list"):
        load_settings(_file(tmp_path, "- model\n- tiles\n"))


def test_a_section_left_empty_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="setting `model`"):
        load_settings(_file(tmp_path, "model:\n"))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"missing\.yaml: cannot be read \(No such file"):
        load_settings(tmp_path / "missing.yaml")
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings(tmp_path)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_configuration_loads_by_path_and_by_name(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = load_settings(path)
    assert load_settings(path.stem) == found
    chosen = _leaves(yaml.safe_load(path.read_text()))
    resolved = _leaves(found.model_dump())
    assert {key: resolved[key] for key in chosen} == chosen


def test_there_are_shipped_configurations() -> None:
    assert {"paper", "sample"} <= {path.stem for path in CONFIGS}


def test_the_literal_paper_differs_by_its_outlier_term_alone() -> None:
    bounded, literal = load_settings("paper"), load_settings("paper-literal")
    assert (bounded.objective.form, literal.objective.form) == ("hinge", "negation")
    form = {"form": literal.objective.form}
    assert bounded.model_copy(update={"objective": bounded.objective.model_copy(update=form)}) == literal


def test_an_unknown_configuration_name_lists_the_shipped_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match=r"no configuration 'papr'; shipped are .*paper.*sample"):
        find_config("papr")


def test_digest_does_not_hear_the_order_of_keys() -> None:
    one = parse_settings({"tiles": {"size": 32, "channels": 1}, "training": {"steps": 5}})
    other = parse_settings({"training": {"steps": 5}, "tiles": {"channels": 1, "size": 32}})
    assert digest(one) == digest(other)
    assert len(digest(one)) == 16
    assert int(digest(one), 16) >= 0


def test_digest_is_of_the_resolved_values() -> None:
    assert digest(parse_settings({"tiles": {"size": 64}})) == digest(Settings())


@pytest.mark.parametrize(
    "override",
    [
        "split.seed=1",
        "tiles.stride=63",
        "model.decay=0.98",
        "training.flips=false",
        "anomaly.pooling=map_max",
    ],
)
def test_digest_changes_with_a_value(override: str) -> None:
    assert digest(load_settings(None, [override])) != digest(Settings())


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().tiles.size = 32  # type: ignore[misc]


def test_describe_has_a_sentence_for_every_setting() -> None:
    rows = list(describe())
    stored = set(_leaves(Settings().model_dump()))
    assert {key for key, _, _ in rows if not key.startswith(("storage.", "tuning."))} == stored
    assert all(text.endswith(".") for _, _, text in rows)
    assert ("tiles.size", TileSettings().size) in [(key, default) for key, default, _ in rows]
