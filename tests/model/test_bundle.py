"""Model bundles: what is written comes back, and what is damaged is refused in words."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import safetensors.torch
import torch

from raysvq.errors import BundleError
from raysvq.model.bundle import (
    MOST_REFERENCE,
    Bundle,
    load_bundle,
    load_reference,
    make_bundle,
    save_bundle,
    save_reference,
)
from raysvq.model.network import build_network
from raysvq.model.scorer import ImageScorer
from raysvq.schema import REFERENCE
from raysvq.settings import Settings, digest

# Names of weights, with those of format 3.
BEFORE = {"quantizer.cluster_size": "quantizer.counts", "quantizer.embed_avg": "quantizer.sums"}
FILES = ["bundle.json", "decisions.json", "history.json", "weights.safetensors"]


@pytest.fixture
def folder(bundle: Bundle, tmp_path: Path) -> Path:
    save_bundle(bundle, str(tmp_path / "model"))
    return tmp_path / "model"


def _edit(folder: Path, file: str = "bundle.json", **changes: Any) -> None:
    values = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(values | changes))


def test_a_bundle_read_back_scores_the_same(
    bundle: Bundle, folder: Path, picture: Callable[..., np.ndarray], png: Callable[[np.ndarray], bytes]
) -> None:
    content = png(picture(50, 70))
    written = ImageScorer(bundle.model, bundle.settings, bundle.settings.scoring)(content)
    loaded = load_bundle(str(folder))
    read = ImageScorer(loaded.model, loaded.settings, loaded.settings.scoring)(content)
    assert read.image_score == written.image_score
    np.testing.assert_array_equal(read.tile_scores, written.tile_scores)
    np.testing.assert_array_equal(read.anomaly_map, written.anomaly_map)


def test_everything_else_comes_back_too(bundle: Bundle, folder: Path) -> None:
    loaded = load_bundle(str(folder))
    assert loaded.summary() == bundle.summary()
    assert loaded.history == bundle.history
    assert loaded.decisions == bundle.decisions
    assert loaded.settings_digest == digest(bundle.settings)
    assert not loaded.model.training
    for name, value in bundle.model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], value), name


def test_a_bundle_without_a_measured_deviation_is_read_as_such(folder: Path) -> None:
    """As bundles were before deviations were measured."""
    reference = json.loads((folder / "bundle.json").read_text())["reference"]
    del reference["bfloat16_deviation"]
    _edit(folder, reference=reference)
    assert load_bundle(str(folder)).reference.bfloat16_deviation is None


def test_a_reference_comes_back_and_a_bundle_without_has_none(folder: Path) -> None:
    assert load_reference(str(folder)) is None
    looks = {"width": 8, "height": 8, "exposure": -1.5, "contrast": -2.0, "sharpness": None, "warmth": None}
    rows = [{"image_score": float(n), "codes": [n % 7, 3]} | looks for n in range(MOST_REFERENCE + 5)]
    save_reference(pa.Table.from_pylist(rows, schema=REFERENCE), str(folder))
    found = load_reference(str(folder))
    assert found.schema == REFERENCE
    assert found.to_pylist() == rows[:MOST_REFERENCE]
    assert load_bundle(str(folder)).model_version


def test_a_damaged_reference_is_named(folder: Path) -> None:
    (folder / "reference.parquet").write_bytes(b"PAR1 no table")
    with pytest.raises(BundleError, match=r"reference\.parquet cannot be read"):
        load_reference(str(folder))


def test_version_names_the_weights(bundle: Bundle) -> None:
    assert bundle.model_version.endswith(bundle.model_digest[:8])


def test_a_bundle_holds_json_and_plain_tensors_only(folder: Path) -> None:
    assert sorted(path.name for path in folder.rglob("*")) == sorted([*FILES, "card.md"])
    for name in FILES[:3]:
        json.loads((folder / name).read_text())
    weights = (folder / "weights.safetensors").read_bytes()
    length = int.from_bytes(weights[:8], "little")
    header = json.loads(weights[8 : 8 + length])
    header.pop("__metadata__", None)
    tensors = [(*entry["data_offsets"], entry["dtype"]) for entry in header.values()]
    assert {kind for _, _, kind in tensors} == {"F32", "I64"}
    ends = [0, *(end for _, end, _ in sorted(tensors))]
    assert [start for start, _, _ in sorted(tensors)] == ends[:-1]
    assert 8 + length + ends[-1] == len(weights)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BundleError, match=rf"{folder} is not a complete model bundle: .*{name}"):
        load_bundle(str(folder))


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is not a complete model bundle"):
        load_bundle(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("place", [-1, 3000])
def test_damaged_weights_are_noticed(folder: Path, place: int) -> None:
    path = folder / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"weights\.safetensors does not match its digest"):
        load_bundle(str(folder))


def test_weights_cut_short_are_noticed(folder: Path) -> None:
    path = folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BundleError, match="does not match its digest"):
        load_bundle(str(folder))


@pytest.mark.parametrize("name", FILES[:3])
def test_damaged_json_is_refused(folder: Path, name: str) -> None:
    path = folder / name
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BundleError, match=f"model bundle {folder} cannot be read"):
        load_bundle(str(folder))


@pytest.mark.parametrize("found", [1, "7", None])
def test_another_format_version_is_refused(folder: Path, found: Any) -> None:
    _edit(folder, format=found)
    with pytest.raises(BundleError, match=f"found format {found!r}, expected 3, 4, 5, 6 or 7; train again"):
        load_bundle(str(folder))


def test_a_bundle_of_a_newer_version_is_no_reason_to_train_again(folder: Path) -> None:
    _edit(folder, format=8)
    newer = "found format 8, expected 3, 4, 5, 6 or 7; a newer version of raysvq wrote it: install that"
    with pytest.raises(BundleError, match=newer):
        load_bundle(str(folder))


@pytest.mark.parametrize("found", [3, 4, 5, 6])
def test_a_dictionary_of_features_of_an_earlier_format_is_to_be_trained_again(
    bundle: Bundle, small: Callable[..., Settings], tmp_path: Path, found: int
) -> None:
    settings = small(model={"encoder": "features"})
    made = make_bundle(
        build_network(settings), settings, bundle.reference, bundle.decisions, bundle.training, bundle.history
    )
    save_bundle(made, str(tmp_path))
    assert load_bundle(str(tmp_path)).model_digest == made.model_digest
    _edit(tmp_path, format=found)
    words = rf"{tmp_path}: found a dictionary of features of format {found}, expected 7: .*; train again"
    with pytest.raises(BundleError, match=words):
        load_bundle(str(tmp_path))


@pytest.mark.parametrize("found", [5, 6])
def test_a_network_of_pixels_of_an_earlier_format_reads_as_one_of_now(
    bundle: Bundle, folder: Path, found: int
) -> None:
    _edit(folder, format=found)
    loaded = load_bundle(str(folder))
    assert loaded.settings == bundle.settings
    assert loaded.decisions == bundle.decisions
    assert loaded.model_digest == bundle.model_digest
    pixels = torch.rand(2, 3, 32, 32)
    assert torch.equal(loaded.model.distance_map(pixels), bundle.model.distance_map(pixels))


def test_a_bundle_of_format_3_is_read_under_the_names_of_now(
    bundle: Bundle, small: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = small(model={"threshold_dead_code": 0.2}, training={"positions_per_tile": 9})
    model = build_network(settings)
    model.quantizer.cluster_size.uniform_()
    written = make_bundle(
        model, settings, bundle.reference, bundle.decisions, bundle.training, bundle.history
    )
    save_bundle(written, str(tmp_path))
    as_before = {"quantizer.squares": torch.zeros(2), "quantizer.balance": torch.zeros(())}
    as_before |= {BEFORE.get(name, name): value.contiguous() for name, value in model.state_dict().items()}
    content = safetensors.torch.save(as_before)
    (tmp_path / "weights.safetensors").write_bytes(content)
    values = settings.model_dump(mode="json")
    values["model"]["revive_below"] = values["model"].pop("threshold_dead_code")
    del values["decision"]
    values["anomaly"] |= {"threshold_quantile": 0.99, "pixel_quantile": 0.999}
    values["training"]["positions"] = values["training"].pop("positions_per_tile")
    summary = json.loads((tmp_path / "bundle.json").read_text())
    old = {"image_threshold": 2.5, "threshold_rule": "as found", "pixel_threshold": 0.75}
    _edit(tmp_path, reference=summary["reference"] | old)
    _edit(tmp_path, format=3, settings=values, model_digest=hashlib.sha256(content).hexdigest())

    loaded = load_bundle(str(tmp_path))
    assert loaded.settings == settings
    assert loaded.model_digest == hashlib.sha256(content).hexdigest()  # as score rows have it
    assert loaded.model.state_dict().keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], value), name
    save_bundle(loaded, str(tmp_path / "again"))
    assert load_bundle(str(tmp_path / "again")).model_digest == written.model_digest


def test_settings_this_version_does_not_know_are_named(folder: Path) -> None:
    settings = json.loads((folder / "bundle.json").read_text())["settings"]
    settings["model"]["attention_heads"] = 4
    _edit(folder, settings=settings)
    with pytest.raises(BundleError, match=r"does not fit this version: .*model\.attention_heads"):
        load_bundle(str(folder))


def test_weights_of_another_shape_are_refused(folder: Path) -> None:
    settings = json.loads((folder / "bundle.json").read_text())["settings"]
    settings["model"]["codebook_size"] = 17
    _edit(folder, settings=settings)
    with pytest.raises(BundleError, match="does not fit this version"):
        load_bundle(str(folder))


@pytest.mark.parametrize("key", ["model_digest", "model_version", "created_at", "training", "reference"])
def test_a_summary_that_lacks_a_key_is_refused(folder: Path, key: str) -> None:
    summary = json.loads((folder / "bundle.json").read_text())
    del summary[key]
    (folder / "bundle.json").write_text(json.dumps(summary))
    with pytest.raises(BundleError, match=rf"model bundle {folder}.*{key}"):
        load_bundle(str(folder))


@pytest.mark.parametrize("content", ["[]", "7", "null"])
def test_a_summary_that_is_not_an_object_is_refused(folder: Path, content: str) -> None:
    (folder / "bundle.json").write_text(content)
    with pytest.raises(BundleError, match=f"model bundle {folder}"):
        load_bundle(str(folder))


@pytest.mark.parametrize("name", ["threshold", "pixel_threshold"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, "0.5"])
def test_a_threshold_that_nothing_can_reach_is_refused(folder: Path, name: str, value: Any) -> None:
    _edit(folder, "decisions.json", **{name: value})
    with pytest.raises(BundleError, match=f"{folder}: .*{name} is {value}, expected a finite number"):
        load_bundle(str(folder))


def test_decisions_of_which_a_value_was_changed_are_refused(folder: Path) -> None:
    _edit(folder, "decisions.json", threshold=2.0)
    with pytest.raises(BundleError, match=r"decisions\.json does not match its digest"):
        load_bundle(str(folder))


@pytest.mark.parametrize("key", ["policy", "promise", "groups", "calibration", "digest"])
def test_decisions_that_lack_a_key_are_refused(folder: Path, key: str) -> None:
    values = json.loads((folder / "decisions.json").read_text())
    del values[key]
    (folder / "decisions.json").write_text(json.dumps(values))
    with pytest.raises(BundleError, match=rf"model bundle {folder}: decisions\.json"):
        load_bundle(str(folder))


@pytest.mark.parametrize(
    ("rule", "policy"),
    [
        ("|specificity - sensitivity| smallest on 3 normal and 1 anomalous validation images", "paper"),
        ("just above the 0.99 quantile of 3 normal validation images", "quantile"),
    ],
)
def test_a_bundle_of_format_4_decides_as_it_did(folder: Path, rule: str, policy: str) -> None:
    summary = json.loads((folder / "bundle.json").read_text())
    values, reference = summary["settings"], summary["reference"]
    del values["decision"]
    values["anomaly"] |= {"threshold_quantile": 0.98, "pixel_quantile": 0.999}
    reference |= {"image_threshold": 2.5, "threshold_rule": rule, "pixel_threshold": 0.75}
    _edit(folder, format=4, settings=values, reference=reference)
    (folder / "decisions.json").unlink()

    loaded = load_bundle(str(folder))
    assert loaded.settings.decision.max_false_alarm_rate == 0.02
    assert loaded.settings.decision.pixel_false_alarm_rate == 0.001
    decisions = loaded.decisions
    assert (decisions.policy, decisions.threshold, decisions.pixel_threshold) == (policy, 2.5, 0.75)
    assert decisions.promise.sentence == rule
    decision = decisions.decide(2.5)
    assert (decision.is_anomalous, decision.p_value, decision.margin) == (True, None, 0.0)
    save_bundle(loaded, str(folder / "again"))
    assert load_bundle(str(folder / "again")).decisions == decisions


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(bundle: Bundle, tmp_path: Path, value: float) -> None:
    with torch.no_grad():
        next(bundle.model.parameters()).view(-1)[0] = value
    broken = make_bundle(bundle.model, bundle.settings, bundle.reference, bundle.decisions, {}, {})
    save_bundle(broken, str(tmp_path / "broken"))
    with pytest.raises(BundleError, match="has values that are not finite; train again"):
        load_bundle(str(tmp_path / "broken"))
