"""A model with a stem that a user brought: its bundle holds all of it, and notices what is exchanged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from raysvq.errors import BundleError, DataError, SettingsError
from raysvq.model.bundle import Bundle, load_bundle, make_bundle, save_bundle
from raysvq.model.feature_dictionary import FeatureDictionary
from raysvq.model.network import build_network
from raysvq.settings import Settings
from tests.backbones import write_dino, write_onnx

Build = Callable[..., Settings]
Describe = Callable[..., str]
Write = Callable[[str], tuple[FeatureDictionary, Path]]

SIDE = 112  # pixels; patches of 14 and of 16, and cells of 8, divide it


@pytest.fixture
def write(small: Build, bundle: Bundle, tmp_path: Path) -> Write:
    """Write a bundle of a model with this stem; gives the model and the folder."""

    def written(stem: str) -> tuple[FeatureDictionary, Path]:
        settings = small(tiles={"size": SIDE}, model={"encoder": "features", "stem": stem})
        model = build_network(settings)
        assert isinstance(model, FeatureDictionary)
        model.load_pretrained()
        with torch.no_grad():
            model.fit_statistics(model.extract_features(torch.rand(4, 3, SIDE, SIDE)))
        made = make_bundle(
            model.eval(), settings, bundle.reference, bundle.decisions, bundle.training, bundle.history
        )
        save_bundle(made, str(tmp_path / "model"))
        return model, tmp_path / "model"

    return written


@pytest.mark.parametrize("kind", ["onnx", "dinov2", "dinov3_vit"])
def test_scoring_needs_nothing_but_the_bundle(
    write: Write, describe: Describe, tmp_path: Path, kind: str
) -> None:
    if kind == "onnx":
        stem, held = describe(license="MIT"), ["network.onnx", "stem.yaml"]
    else:
        write_dino(tmp_path / "dino", kind)
        stem, held = str(tmp_path / "dino"), ["config.json", "stem.yaml"]
    model, folder = write(stem)
    pixels = torch.rand(2, 3, SIDE, SIDE)
    with torch.inference_mode():
        expected = model.distance_map(pixels)
    for path in (tmp_path / "network.onnx", tmp_path / "described.yaml"):
        path.unlink(missing_ok=True)
    shutil.rmtree(tmp_path / "dino", ignore_errors=True)
    moved = folder.rename(tmp_path / "moved")
    loaded = load_bundle(str(moved))
    with torch.inference_mode():
        assert torch.equal(loaded.model.distance_map(pixels), expected)
    assert loaded.settings.model.stem == stem
    sizes = [path.stat().st_size for path in (moved / "stem").iterdir()]
    headers = 20_000  # of weights.safetensors
    assert 0 <= (moved / "weights.safetensors").stat().st_size + sum(sizes) - model.size_bytes < headers
    assert sorted(path.name for path in (moved / "stem").iterdir()) == held
    save_bundle(loaded, str(tmp_path / "again"))
    for name in held:
        assert (tmp_path / "again/stem" / name).read_bytes() == (moved / "stem" / name).read_bytes()
    assert load_bundle(str(tmp_path / "again")).model_digest == loaded.model_digest


def test_what_the_description_says_of_the_licence_travels_along(write: Write, describe: Describe) -> None:
    _, folder = write(describe(license="DINOv3 License"))
    assert "license: DINOv3 License" in (folder / "stem/stem.yaml").read_text()


def test_a_bundle_that_says_nothing_of_its_stem_has_the_first_one(write: Write) -> None:
    """As bundles were before there was a choice."""
    model, folder = write("efficientnet-lite0")
    assert not (folder / "stem").exists()
    values = json.loads((folder / "bundle.json").read_text())
    del values["settings"]["model"]["stem"]
    (folder / "bundle.json").write_text(json.dumps(values))
    pixels = torch.rand(1, 3, SIDE, SIDE)
    with torch.inference_mode():
        found = load_bundle(str(folder)).model.distance_map(pixels)
        assert torch.equal(found, model.distance_map(pixels))


def test_another_network_in_the_bundle_is_noticed(write: Write, describe: Describe) -> None:
    _, folder = write(describe())
    write_onnx(folder / "stem/network.onnx", seed=1)
    with pytest.raises(
        BundleError,
        match=rf"bundle {folder}: .*network\.onnx is not what the model was trained with: found a",
    ):
        load_bundle(str(folder))


def test_another_normalisation_in_the_bundle_is_noticed(write: Write, describe: Describe) -> None:
    _, folder = write(describe())
    path = folder / "stem/stem.yaml"
    path.write_text(path.read_text().replace("0.4", "0.45"))
    with pytest.raises(BundleError, match="is not what the model was trained with"):
        load_bundle(str(folder))


def test_the_digest_is_among_the_weights_so_the_version_tells_networks_apart(
    write: Write, describe: Describe, tmp_path: Path
) -> None:
    versions = set()
    for seed in (0, 1):
        path = describe()
        write_onnx(tmp_path / "network.onnx", seed=seed)
        torch.manual_seed(0)
        _, folder = write(path)
        versions.add(json.loads((folder / "bundle.json").read_text())["model_digest"])
    assert len(versions) == 2


@pytest.mark.parametrize("name", ["stem.yaml", "network.onnx"])
def test_a_missing_file_is_named(write: Write, describe: Describe, name: str) -> None:
    _, folder = write(describe())
    (folder / "stem" / name).unlink()
    with pytest.raises(BundleError, match=rf"bundle {folder}: .*{folder}/stem/{name} cannot be read"):
        load_bundle(str(folder))


def test_a_checkpoint_does_not_go_on_with_another_network(
    write: Write, describe: Describe, tmp_path: Path
) -> None:
    path = describe()
    model, _ = write(path)
    write_onnx(tmp_path / "network.onnx", seed=1)
    other, _ = write(path)
    with pytest.raises(DataError, match=r"network\.onnx is not what the model was trained with"):
        other.load_state_dict(model.state_dict())


def test_an_onnx_file_says_that_it_has_no_bfloat16(write: Write, describe: Describe) -> None:
    model, _ = write(describe())
    with pytest.raises(
        SettingsError, match=r"`scoring\.precision`: .*found bfloat16, expected float32 or auto"
    ):
        model.bfloat16_nearest_map()


def test_a_transformer_scores_in_bfloat16(write: Write, tmp_path: Path) -> None:
    write_dino(tmp_path / "dino", "dinov3_vit")
    model, _ = write(str(tmp_path / "dino"))
    pixels = torch.rand(2, 3, SIDE, SIDE)
    with torch.inference_mode():
        exact, close = model.distance_map(pixels), model.bfloat16_nearest_map()(pixels)[0].sum(1)
    assert 0 < (close / exact - 1).abs().mean() < 0.05


def test_tiles_that_the_backbone_cannot_take_are_refused(small: Build, describe: Describe) -> None:
    with pytest.raises(SettingsError, match=r"`tiles\.size`: .*multiples of 16 pixels, found 72"):
        build_network(small(tiles={"size": 72}, model={"encoder": "features", "stem": describe()}))
