"""Encodings and codes of test images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raysvq import storage
from raysvq.evaluation.masks import MaskReader
from raysvq.model import latents as module
from raysvq.model.bundle import Bundle
from raysvq.model.feature_dictionary import FeatureDictionary
from raysvq.model.latents import Latents, collect_latents
from raysvq.model.network import Network
from raysvq.model.scorer import ImageScorer
from raysvq.settings import Settings

from .latent_images import Labelled, noise, write_image, write_set

Build = Callable[..., Settings]
Make = Callable[[Settings], Network]


@pytest.fixture
def bundle(bundle: Bundle) -> Bundle:
    _spread_codes(bundle.model)
    return bundle


def _spread_codes(model: Network) -> None:
    """Place the codes among encodings of noise, so that many of them are used."""
    pixels = torch.from_numpy(noise(64, 64, 9).astype(np.float32)).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        encoded = model.encode(model.extract_features(pixels))
    model.quantizer.initialize(encoded.movedim(1, -1).flatten(0, 2), seed=0)


def _collect(bundle: Bundle, images: Sequence[Labelled]) -> Latents:
    return collect_latents(bundle, images, MaskReader().read)


def _features(bundle: Bundle, small: Build, make_model: Make) -> Bundle:
    settings = small(model={"encoder": "features"}, tiles={"mode": "whole", "size": 64})
    model = make_model(settings)
    model.state_dict()["learned_weight"].fill_(0.4)
    _spread_codes(model)
    return dataclasses.replace(bundle, settings=settings, model=model)


@pytest.mark.parametrize("encoder", ["pixels", "features"])
def test_shapes_and_counts_fit_each_other(
    bundle: Bundle, small: Build, make_model: Make, tmp_path: Path, encoder: str
) -> None:
    if encoder == "features":
        bundle = _features(bundle, small, make_model)
    side = min(module.SIDE, bundle.settings.tiles.size)
    found = _collect(bundle, write_set(str(tmp_path), normal=3, anomalous=2))
    assert (found.encoder, found.images, found.skipped, found.unmasked) == (encoder, (3, 2), (), 0)
    points, codes = len(found.points), len(found.code_numbers)
    assert found.points.shape == (points, 2)
    assert found.code_points.shape == (codes, 2)
    assert found.marked.shape == found.codes.shape == found.distances.shape == (points,)
    positions = {"pixels": (3 * 256, 2 * 16), "features": (3 * 64, 2 * 4)}[encoder]
    assert tuple(found.uses.sum(axis=1)) == positions
    assert found.marked.sum() == positions[1]
    assert found.projection == "t-SNE"
    assert found.patches.shape == (len(found.shown), 4, side, side, 3)
    assert found.filled.shape == (len(found.shown), 4)
    assert set(found.code_numbers) == set(np.flatnonzero(found.uses.any(axis=0)))
    assert (np.diff(found.uses[0, found.shown]) <= 0).all()


@pytest.mark.parametrize("encoder", ["pixels", "features"])
def test_distances_are_those_of_scores(
    bundle: Bundle, small: Build, make_model: Make, tmp_path: Path, encoder: str
) -> None:
    if encoder == "features":
        bundle = _features(bundle, small, make_model)
    image = write_image(str(tmp_path), "n.png", noise(64, 64, 1))
    found = _collect(bundle, [image])
    scorer = ImageScorer(bundle.model, bundle.settings, bundle.settings.scoring)
    scored = scorer(storage.read_bytes(image.uri)).anomaly_map
    np.testing.assert_allclose(np.sort(found.distances), np.sort(scored.ravel()), rtol=1e-5)
    assert np.nansum(found.mean_distances[0] * found.uses[0]) == pytest.approx(scored.sum(), rel=1e-5)


def test_weights_make_of_each_depth_what_it_adds_to_a_score(
    bundle: Bundle, small: Build, make_model: Make
) -> None:
    model = _features(bundle, small, make_model).model
    assert isinstance(model, FeatureDictionary)
    model.deviations.copy_(torch.tensor([0.5, 2.0, 3.0, 7.0])[:, None, None])
    with torch.inference_mode():
        encoded, quantized = model.quantize(model.extract_features(torch.rand(1, 3, 64, 64)))
    weights = model.distance_weights()
    scaled = (encoded - quantized.nearest) * weights.sqrt()[:, None, None]
    parts = scaled.split([*model.depths, model.quantizer.codebook.shape[1] - sum(model.depths)], dim=1)
    assert all(part.any() for part in parts)
    torch.testing.assert_close(sum(part.norm(dim=1) for part in parts), quantized.distances)
    # Of several places, their mean counts.
    model.deviations[:, 0, :4] += 0.25
    model.deviations[:, 5, 4:] -= 0.25
    torch.testing.assert_close(model.distance_weights(), weights)


def test_the_same_images_give_the_same_result(bundle: Bundle, tmp_path: Path) -> None:
    images = write_set(str(tmp_path))
    first, second = _collect(bundle, images), _collect(bundle, images)
    for field in dataclasses.fields(Latents):
        np.testing.assert_array_equal(getattr(first, field.name), getattr(second, field.name))


def test_the_sample_is_bounded_and_balanced(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SAMPLE", 40)
    monkeypatch.setattr(module, "_CODES", 5)
    found = _collect(bundle, write_set(str(tmp_path), normal=4, anomalous=2))
    assert (len(found.points), int(found.marked.sum()), len(found.code_points)) == (40, 20, 5)
    assert found.uses.sum() == 4 * 256 + 2 * 16


def test_patches_show_their_positions(bundle: Bundle, tmp_path: Path) -> None:
    flat = np.full((32, 32, 3), 90, np.uint8)
    flat[:, :16] = [200, 40, 40]
    found = _collect(bundle, [write_image(str(tmp_path), "n.png", flat)])
    assert found.patches.shape[2] == 32  # tiles are no larger
    reds = found.patches[found.filled]
    np.testing.assert_array_equal(reds[0], reds[-1])
    assert (reds[0][:, :16, 0] > reds[0][:, :16, 1]).all()
    assert np.ptp(reds[0][:, 16:].astype(int), axis=2).max() == 0


def test_grey_models_and_deep_images(bundle: Bundle, small: Build, make_model: Make, tmp_path: Path) -> None:
    settings = small(tiles={"channels": 1})
    image = write_image(str(tmp_path), "n.png", noise(64, 64, 3)[..., 0].astype(np.uint16) * 20)
    grey = dataclasses.replace(bundle, settings=settings, model=make_model(settings))
    found = _collect(grey, [image])
    assert found.patches.shape[-1] == 3
    assert np.ptp(found.patches[found.filled]) > 200  # stretched: the image fills a twentieth of the range


def test_without_anomalous_images(bundle: Bundle, tmp_path: Path) -> None:
    found = _collect(bundle, write_set(str(tmp_path), anomalous=0))
    assert found.images == (3, 0)
    assert not found.marked.any()
    assert np.isnan(found.mean_distances[1]).all()
    assert not found.filled[:, -1].any()


def test_images_that_cannot_be_read_are_said_and_the_others_encoded(bundle: Bundle, tmp_path: Path) -> None:
    images = write_set(str(tmp_path))
    for broken in (images[0], images[-1]):
        Path(broken.uri).unlink()
    found = _collect(bundle, images)
    assert found.images == (2, 2)
    assert [uri for uri, _ in found.skipped] == [images[0].uri, images[-1].uri]
    assert all(why.startswith("cannot be read") for _, why in found.skipped)


@pytest.mark.filterwarnings("error")
def test_without_any_image_there_is_nothing_to_show(bundle: Bundle, tmp_path: Path) -> None:
    [image] = write_set(str(tmp_path), normal=1, anomalous=0)
    Path(image.uri).unlink()
    found = _collect(bundle, [image])
    assert found.images == (0, 0)
    assert (found.points.shape, found.shown.shape, found.patches.shape[0]) == ((0, 2), (0,), 0)


def test_an_anomalous_image_without_a_mask_is_counted(bundle: Bundle, tmp_path: Path) -> None:
    image = write_image(str(tmp_path), "a.png", noise(32, 32, 1), anomalous=True)
    found = _collect(bundle, [image])
    assert (found.unmasked, found.uses[1].sum()) == (1, 64)


def test_images_on_an_object_store(bundle: Bundle, s3: str, tmp_path: Path) -> None:
    here, there = (_collect(bundle, write_set(folder)) for folder in (str(tmp_path), f"{s3}/latents"))
    assert there.images == (3, 3)
    np.testing.assert_array_equal(here.uses, there.uses)
    np.testing.assert_array_equal(here.points, there.points)


def test_progress_is_reported(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[Any] = []
    monkeypatch.setattr("raysvq.log.emit", lines.append)
    monkeypatch.setattr("raysvq.log._Plain.interval_s", 0.0)
    _collect(bundle, write_set(str(tmp_path), normal=2, anomalous=1))
    assert lines[-1].startswith("encoding for the report  3/3 images")
