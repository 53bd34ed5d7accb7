"""A backbone as an ONNX file: what it computes, and files that cannot be one."""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from torch.nn import functional

from raysvq.errors import SettingsError
from raysvq.model.stems import Stem, build_stem
from raysvq.settings import ModelSettings
from tests.backbones import weights_of, write_onnx

Describe = Callable[..., str]


def _stem(path: str) -> Stem:
    return build_stem(ModelSettings(encoder="features", stem=path)).eval()


def test_outputs_of_the_file_become_features(describe: Describe, tmp_path: Path) -> None:
    stem = _stem(describe())
    pixels = torch.rand(2, 3, 64, 96)
    held = weights_of(tmp_path / "network.onnx")
    normal = (pixels - torch.tensor([0.5, 0.4, 0.3])[:, None, None]) / torch.tensor([0.2, 0.3, 0.4])[
        :, None, None
    ]
    fine = functional.conv2d(normal, held["first"], stride=8)
    coarse = functional.conv2d(fine, held["second"], stride=2)
    found = stem(pixels)
    assert found.shape == (2, stem.channels, 8, 12)
    torch.testing.assert_close(found[:, :4], fine, rtol=1e-4, atol=1e-4)
    resampled = functional.interpolate(coarse, (8, 12), mode="bilinear")
    torch.testing.assert_close(found[:, 4:], resampled, rtol=1e-4, atol=1e-3)
    assert [tap.channels for tap in stem.taps] == [4, 6]


def test_outputs_may_be_numbered_and_averaged(describe: Describe) -> None:
    pixels = torch.rand(1, 3, 64, 64)
    named, numbered, averaged = (
        _stem(describe(taps=[tap]))(pixels)
        for tap in ({"output": "coarse"}, {"output": 1}, {"output": 1, "side": 3})
    )
    assert torch.equal(named, numbered)
    assert named.var() > 2 * averaged.var()


def test_tokens_are_laid_out_as_the_patches_lie(describe: Describe) -> None:
    maps, tokens = (_stem(describe(taps=[{"output": name}])) for name in ("coarse", "tokens"))
    pixels = torch.rand(2, 3, 64, 96)
    torch.testing.assert_close(tokens(pixels), maps(pixels))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda stem: pickle.loads(pickle.dumps(stem))])
def test_a_copy_computes_the_same(describe: Describe, copied: Callable[[Stem], Stem]) -> None:
    stem, pixels = _stem(describe()), torch.rand(1, 3, 64, 64)
    assert torch.equal(copied(stem)(pixels), stem(pixels))


@pytest.mark.parametrize("output", ["deep", 3, -1])
def test_a_tap_that_the_file_does_not_have_is_answered_with_its_outputs(
    describe: Describe, output: str | int
) -> None:
    with pytest.raises(
        SettingsError, match=rf"the tap {output!r}; .*onnx has the outputs fine, coarse, tokens"
    ):
        _stem(describe(taps=[{"output": output}]))


@pytest.mark.parametrize("content", [None, b"", b"no network"], ids=["missing", "empty", "text"])
def test_a_file_that_is_no_network_is_named(
    describe: Describe, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "other.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=rf"`model\.stem`: {path} (cannot be read|is no ONNX file)"):
        _stem(describe(network="other.onnx"))


def test_weights_beside_the_file_are_not_enough(
    describe: Describe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where they happen to lie in the working folder: the bundle would lack them."""
    described, file = describe(), tmp_path / "network.onnx"
    monkeypatch.chdir(tmp_path)
    beside = {"save_as_external_data": True, "location": "beside.bin", "size_threshold": 100}
    onnx.save_model(onnx.load(file), file, **beside)
    assert (tmp_path / "beside.bin").stat().st_size > 100
    with pytest.raises(SettingsError, match=rf"{file} is no ONNX file, weights inside, that onnxruntime"):
        _stem(described)


def test_one_image_at_a_time_is_not_enough(describe: Describe, tmp_path: Path) -> None:
    write_onnx(tmp_path / "network.onnx", batch=1)
    with pytest.raises(SettingsError, match=r"takes pixels \[1, 3, 'h', 'w'\].*with a free number of images"):
        _stem(describe())


def test_sides_that_the_backbone_cannot_take_are_answered_with_one_that_it_can(
    describe: Describe, tmp_path: Path
) -> None:
    _stem(describe()).require_side(64)
    with pytest.raises(SettingsError, match=r"multiples of 16 pixels, found 72; expected one such as 80"):
        _stem(describe()).require_side(72)
    with pytest.raises(SettingsError, match=r"multiples of 14 pixels, found 256; expected one such as 280"):
        _stem(describe(multiple=14)).require_side(256)
    write_onnx(tmp_path / "network.onnx", sides=(64, 64))
    _stem(describe()).require_side(64)
    with pytest.raises(SettingsError, match=r"`tiles\.size`: .* exported for 64 x 64 pixels, found 96"):
        _stem(describe()).require_side(96)


def test_an_image_that_it_cannot_compute_is_said_so(describe: Describe, tmp_path: Path) -> None:
    write_onnx(tmp_path / "network.onnx", sides=(64, 64))
    with pytest.raises(SettingsError, match=r"network\.onnx cannot compute images of 96 x 96 pixels"):
        _stem(describe())(torch.rand(1, 3, 96, 96))


def test_without_onnxruntime_the_extra_is_named(describe: Describe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(SettingsError, match=r"needs the package onnxruntime.*pip install 'raysvq\[onnx\]'"):
        _stem(describe())
