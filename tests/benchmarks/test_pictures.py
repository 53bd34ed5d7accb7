"""The pictures: which images are shown, and that they are drawn small."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.methods.patches import Patch
from benchmarks.methods.protocol import NO_LABELS, Manifests, score_test
from benchmarks.pictures import draw_maps, encodings, typical
from devtools.untrained import untrained_bundle
from raysvq.evaluation.labelled_images import read_manifest
from raysvq.model.scorer import ImageScorer
from raysvq.schema import ANOMALOUS, NORMAL, TEST
from raysvq.settings import Settings

Build = Callable[..., Settings]


def _scorer(settings: Settings) -> ImageScorer:
    return ImageScorer(untrained_bundle(settings, 1.0).model, settings, settings.scoring)


def test_the_image_of_the_median_score_is_shown_of_each_kind(
    manifests: Manifests, small: Build, tmp_path: Path
) -> None:
    scorer, manifest = _scorer(small()), manifests("sample", NO_LABELS, 0).test
    results, _ = score_test(scorer, manifest)
    images = list(read_manifest(manifest).images.values())
    chosen = list(typical(images, results))
    kinds = {(image.anomalous, image.defect_type) for image in images}
    assert len(chosen) == len(kinds)
    assert not chosen[0].anomalous
    for image in chosen:
        alike = [one for one in images if one.defect_type == image.defect_type]
        scores = [results[one.image_id].image_score for one in alike]
        assert sum(score < results[image.image_id].image_score for score in scores) == len(scores) // 2
    draw_maps(scorer, manifest, tmp_path / "maps.png")
    with Image.open(tmp_path / "maps.png") as drawn:
        assert drawn.mode == "P"
        assert drawn.width > 150 * len(chosen)


def test_an_encoding_is_that_of_a_marked_position(small: Build, tmp_path: Path) -> None:
    scorer = _scorer(small(tiles={"size": 64}))
    image, mask = np.full((64, 64, 3), 100, np.uint8), np.zeros((64, 64), np.uint8)
    image[40:44, 20:24], mask[40:44, 20:24] = 250, 255
    Image.fromarray(image).save(tmp_path / "a.png")
    Image.fromarray(mask).save(tmp_path / "m.png")
    place = str(tmp_path / "a.png")
    drawn = [
        Patch(place, ANOMALOUS, TEST, str(tmp_path / "m.png"), place, "cut"),
        Patch(place, NORMAL, TEST, "", place, ""),
    ]
    pixels = np.asarray(image)[None].astype(np.float32).transpose(0, 3, 1, 2) / 255
    with torch.inference_mode():
        grid = scorer.model.encode(torch.from_numpy(pixels))[0]
    marked = encodings(scorer, drawn, ANOMALOUS)
    np.testing.assert_allclose(marked, grid[:, 10, 5][None].numpy(), atol=1e-5)
    assert encodings(scorer, drawn, NORMAL).shape == marked.shape
