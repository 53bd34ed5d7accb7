"""DINO transformers from a folder: their patch tokens as maps, and folders that hold something else."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from raysvq.errors import SettingsError
from raysvq.model.stems import Stem, build_stem
from raysvq.model.stems.transformer import TransformerStem
from raysvq.settings import ModelSettings
from tests.backbones import DINO, write_dino

Describe = Callable[..., str]

KINDS = list(DINO)


def _stem(path: Path | str) -> Stem:
    return build_stem(ModelSettings(encoder="features", stem=str(path))).eval()


def _change(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("kind", KINDS)
def test_patch_tokens_of_the_chosen_layers_become_features(
    tmp_path: Path, describe: Describe, kind: str
) -> None:
    network = write_dino(tmp_path / "dino", kind)
    side = 8 * DINO[kind]["patch_size"]  # so that patches are cells after resampling by a whole number
    stem = _stem(describe(network="dino", taps=[{"output": 3}, {"output": 1}], multiple=1))
    stem.load(None)
    pixels = torch.rand(2, 3, side, side)
    given = (pixels - torch.tensor([0.5, 0.4, 0.3])[:, None, None]) / torch.tensor([0.2, 0.3, 0.4])[
        :, None, None
    ]
    with torch.no_grad():
        states = network(pixel_values=given, output_hidden_states=True).hidden_states
    for found, layer in zip(stem.maps(pixels), (3, 1), strict=True):
        patches = states[layer][:, -64:].reshape(2, 8, 8, 32).movedim(-1, 1)
        torch.testing.assert_close(found, patches)
    assert stem(pixels).shape == (2, 64, side // 8, side // 8)
    assert [tap.channels for tap in stem.taps] == [32, 32]
    assert not any(parameter.requires_grad for parameter in stem.parameters())


def test_layers_behind_the_last_tap_are_left_out(tmp_path: Path, describe: Describe) -> None:
    write_dino(tmp_path / "dino", "dinov2")
    two, four = (_stem(describe(network="dino", taps=[{"output": layer}])).state_dict() for layer in (2, 4))
    assert len({name for name in four if ".layer.3." in name}) == 18
    assert not {name for name in two if ".layer.2." in name or ".layer.3." in name}


@pytest.mark.parametrize("kind", KINDS)
def test_in_bfloat16_it_says_nearly_the_same(tmp_path: Path, kind: str) -> None:
    write_dino(tmp_path / "dino", kind)
    stem = _stem(tmp_path / "dino")
    assert isinstance(stem, TransformerStem)
    stem.load(None)
    pixels = torch.rand(1, 3, 112, 112)
    exact = stem(pixels)
    close = stem.bfloat16()(pixels)
    assert close.dtype == torch.float32
    assert 0 < (close - exact).norm() / exact.norm() < 0.02


def test_sides_are_multiples_of_the_patch(tmp_path: Path) -> None:
    write_dino(tmp_path / "dino", "dinov2")
    stem = _stem(tmp_path / "dino")
    stem.require_side(224)
    with pytest.raises(SettingsError, match=r"dino takes sides that are multiples of 14 pixels, found 256"):
        stem.require_side(256)


@pytest.mark.parametrize("layer", [0, 5, "layer3"])
def test_a_tap_must_be_a_hidden_layer(tmp_path: Path, describe: Describe, layer: int | str) -> None:
    write_dino(tmp_path / "dino", "dinov2")
    with pytest.raises(SettingsError, match=rf"the tap {layer!r}; .*dino has hidden layers 1 to 4"):
        _stem(describe(network="dino", taps=[{"output": layer}]))


def test_another_network_is_refused(tmp_path: Path) -> None:
    write_dino(tmp_path / "dino", "dinov2")
    _change(tmp_path / "dino/config.json", model_type="swin", auto_map={"AutoModel": "code.Model"})
    with pytest.raises(SettingsError, match=r"config\.json has model_type='swin'; expected one of dinov2,"):
        _stem(tmp_path / "dino")


@pytest.mark.parametrize(
    "values",
    [{"patch_size": [14, 14]}, {"patch_size": "x"}, {"hidden_size": -1}, {"hidden_act": "none"}],
    ids=str,
)
def test_a_config_that_describes_no_network_is_named(tmp_path: Path, values: dict[str, object]) -> None:
    write_dino(tmp_path / "dino", "dinov2")
    _change(tmp_path / "dino/config.json", **values)
    with pytest.raises(SettingsError, match=r"dino/config\.json (describes no network|has patch_size=\[14)"):
        _stem(tmp_path / "dino")


def test_nothing_that_a_folder_brings_is_run_or_fetched(tmp_path: Path) -> None:
    write_dino(tmp_path / "dino", "dinov2")
    pixels, ran = torch.rand(1, 3, 112, 112), tmp_path / "ran"
    stem = _stem(tmp_path / "dino")
    stem.load(None)
    expected = stem(pixels)
    (tmp_path / "dino/code.py").write_text(f"open({str(ran)!r}, 'w')\nclass Model: ...\n")
    _change(
        tmp_path / "dino/config.json",
        auto_map={"AutoConfig": "code.Model", "AutoModel": "code.Model"},
        _attn_implementation="somebody/kernels",
        quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True},
    )
    stem = _stem(tmp_path / "dino")
    stem.load(None)
    assert torch.equal(stem(pixels), expected)
    assert not ran.exists()


def test_weights_that_are_not_there_are_not_made_up(tmp_path: Path) -> None:
    write_dino(tmp_path / "dino", "dinov3_vit")
    stem, file = _stem(tmp_path / "dino"), tmp_path / "dino/model.safetensors"
    state = safetensors.torch.load_file(file)
    safetensors.torch.save_file({name: state[name] for name in sorted(state)[1:]}, file)
    with pytest.raises(SettingsError, match=rf"{file} has no {sorted(state)[0]}; expected all weights"):
        stem.load(None)
    safetensors.torch.save_file(state | {"norm.weight": torch.ones(7)}, file)
    with pytest.raises(SettingsError, match=rf"{file} holds another network than"):
        stem.load(None)
    file.write_bytes(b"nothing")
    with pytest.raises(SettingsError, match=rf"{file} cannot be read"):
        stem.load(None)


def test_without_transformers_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dino(tmp_path / "dino", "dinov2")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(SettingsError, match=r"needs the package transformers.*'raysvq\[transformers\]'"):
        _stem(tmp_path / "dino")
