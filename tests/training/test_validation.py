"""What is kept of each validation image, and that it does not depend on the number of ranks.

Run as a script, this file is one rank: `test_validation.py RANK WORLD FOLDER`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.distributed as dist

from raysvq.data.manifest import row_of, write_manifest
from raysvq.model.bundle_summary import OPENVINO_DEVIATION
from raysvq.model.engines import engines_with_bfloat16
from raysvq.model.network import build_network
from raysvq.model.pixel_network import PixelNetwork
from raysvq.model.scorer import ImageScorer
from raysvq.schema import ANOMALOUS, NORMAL, REFERENCE, VALIDATION
from raysvq.settings import ModelSettings, parse_settings
from raysvq.storage import file_infos
from raysvq.training.validation import (
    calibration_scores,
    digest_of_scores,
    reference_of,
    validate,
    validation_images,
)

NORMALS, OUTLIERS = 7, 2
SIDE = 272  # 68 x 68 cells, of which 4,096 are sampled


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images with a manifest; one is no image."""
    made = tmp_path_factory.mktemp("validation")
    rows = []
    for number in range(NORMALS + OUTLIERS):
        path = made / f"{number}.png"
        draw = np.random.default_rng(number)
        cv2.imwrite(str(path), draw.integers(0, 255, (SIDE, SIDE, 3)).astype(np.uint8))
        if number == 3:
            path.write_bytes(b"no image")
        (info,) = file_infos([str(path)])
        assert info is not None
        label = ANOMALOUS if number >= NORMALS else NORMAL
        group = "part" if number < 2 else None
        meta = [("camera", "left" if number % 2 else "right")] if number else []
        rows.append(row_of(info, label=label, split=VALIDATION, group=group, meta=meta))
    write_manifest(rows, str(made / "manifest.parquet"))
    return made


def _scorer(**tiles: Any) -> ImageScorer:
    torch.manual_seed(0)
    sizes = {"hidden": 8, "residual_hidden": 4, "residual_layers": 1, "codebook_size": 16, "embedding_dim": 4}
    decision = {"pixel_false_alarm_rate": 0.01}
    settings = parse_settings({"model": sizes, "decision": decision, "tiles": tiles})
    return ImageScorer(build_network(settings), settings, settings.scoring)


def _validated(folder: Path, rank: int) -> dict[str, Any]:
    return validate(_scorer(), validation_images(str(folder / "manifest.parquet"), 100, "camera"), rank)


def _run(folder: Path, rank: int, world: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=world)
    (folder / f"rank-{rank}.json").write_text(json.dumps(_validated(folder, rank)))
    dist.barrier()
    dist.destroy_process_group()


def test_normal_images_become_a_reference_with_the_scores_that_calibrate(folder: Path) -> None:
    outcome = _validated(folder, 0)
    reference = reference_of(outcome)
    assert reference.schema == REFERENCE
    assert len(reference) == NORMALS - 1  # one is no image
    scores = sorted(np.array(outcome["image_scores"], np.float32)[~np.array(outcome["anomalous"])])
    assert sorted(reference["image_score"].to_pylist()) == pytest.approx(scores)
    assert set(reference["width"].to_pylist()) == {SIDE}
    assert {len(codes) for codes in reference["codes"].to_pylist()} == {16}
    assert max(reference["exposure"].to_pylist()) < 0
    cross_fitted = outcome | {"image_scores": [9.0] * len(outcome["image_scores"])}
    assert set(reference_of(cross_fitted)["image_score"].to_pylist()) == {9.0}
    del outcome["reference"]  # of a checkpoint of an earlier version
    assert len(reference_of(outcome)) == 0


def test_two_ranks_find_what_one_finds(folder: Path) -> None:
    root = Path(__file__).parents[2]
    ranks = [
        subprocess.Popen(
            [sys.executable, __file__, str(rank), "2", str(folder)],
            env=os.environ | {"PYTHONPATH": str(root), "CUDA_VISIBLE_DEVICES": ""},
        )
        for rank in range(2)
    ]
    assert [rank.wait(240) for rank in ranks] == [0, 0]
    expected = _validated(folder, 0)
    for rank in range(2):
        assert json.loads((folder / f"rank-{rank}.json").read_text()) == expected


def test_of_each_image_there_is_id_label_group_and_unit(folder: Path) -> None:
    outcome = _validated(folder, 0)
    images = validation_images(str(folder / "manifest.parquet"), 100, "camera")
    readable = [image for image in images if not image.uri.endswith("/3.png")]
    assert outcome["image_ids"] == [image.image_id for image in readable]
    assert outcome["unreadable"] == [str(folder / "3.png")]
    assert sum(outcome["anomalous"]) == OUTLIERS
    by_uri = dict(zip([image.uri for image in readable], outcome["groups"], strict=True))
    assert [by_uri[str(folder / f"{number}.png")] for number in (0, 1, 2)] == [None, "left", "right"]
    calibration = calibration_scores(outcome)
    assert len(set(calibration.units)) == NORMALS - 1 + OUTLIERS - 1  # two of one part, one unreadable
    assert calibration.scores.tolist() == outcome["image_scores"]


def test_a_model_that_computes_in_float32_alone_is_not_measured_in_bfloat16(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = ["bfloat16_deviation", OPENVINO_DEVIATION]
    outcome = _validated(folder, 0)
    has_openvino = "openvino" in engines_with_bfloat16(ModelSettings(), True)
    assert [outcome[name] is not None for name in measured] == [True, has_openvino]
    monkeypatch.setattr(PixelNetwork, "has_bfloat16", False)
    outcome = _validated(folder, 0)
    assert [outcome[name] for name in measured] == [None, None]


def test_only_a_model_that_may_be_selected_is_measured_in_bfloat16(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = validation_images(str(folder / "manifest.parquet"), 100)
    measured = validate(_scorer(), images)
    asked: list[float | None] = []

    def never(auroc: float | None) -> bool:
        asked.append(auroc)
        return False

    monkeypatch.delattr(ImageScorer, "in_bfloat16")
    unmeasured = {"bfloat16_deviation": None, OPENVINO_DEVIATION: None}
    assert validate(_scorer(), images, may_be_selected=never) == measured | unmeasured
    assert asked == [measured["auroc"]]
    assert measured["bfloat16_deviation"] > 0


def test_whole_images_that_are_encoded_together_score_as_if_alone(folder: Path) -> None:
    scorer = _scorer(mode="whole", size=32)
    images = validation_images(str(folder / "manifest.parquet"), 100)
    outcome = validate(scorer, images)
    alone = [scorer(image.read()).image_score for image in images if not image.uri.endswith("/3.png")]
    assert outcome["image_scores"] == pytest.approx(alone, rel=1e-5)
    assert outcome["unreadable"] == [str(folder / "3.png")]
    assert len(outcome["reference"]) == NORMALS - 1


def test_the_digest_is_of_the_scores_in_any_order(folder: Path) -> None:
    outcome = _validated(folder, 0)
    names = ("image_ids", "image_scores", "anomalous", "groups", "units")
    backwards = outcome | {name: outcome[name][::-1] for name in names}
    assert digest_of_scores(backwards) == digest_of_scores(outcome)
    other = outcome | {"image_scores": [2 * score for score in outcome["image_scores"]]}
    assert digest_of_scores(other) != digest_of_scores(outcome)


if __name__ == "__main__":
    _run(Path(sys.argv[3]), int(sys.argv[1]), int(sys.argv[2]))
