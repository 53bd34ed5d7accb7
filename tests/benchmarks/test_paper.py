"""The paper's protocol: which patches are drawn, how many are labelled, what stands in its table."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks import paper
from benchmarks.methods import patches
from benchmarks.methods.patches import Patch, cut_patches, divide, numbers, write_manifest
from raysvq.data.manifest import select
from raysvq.data.split import number_for_share
from raysvq.schema import ANOMALOUS, NORMAL, TEST, TRAIN, VALIDATION

COUNTS = {TRAIN: 12, VALIDATION: 4, TEST: 9}
TINY = [
    *("training.steps=2", "training.batch_size=4", "model.hidden=8", "model.residual_hidden=4"),
    *("model.residual_layers=1", "model.codebook_size=8", "model.embedding_dim=4"),
]


@pytest.fixture(scope="module")
def leather(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten normal images to learn from, two to test; eight of each of two defects, a mark in a corner."""
    folder = tmp_path_factory.mktemp("data") / "mvtec_leather_256"
    rng = np.random.default_rng(0)
    for place, count in {"train/good": 10, "test/good": 2, "test/cut": 8, "test/glue": 8}.items():
        for number in range(count):
            image = rng.integers(90, 110, (80, 96, 3)).astype(np.uint8)
            if not place.endswith("good"):
                mask = np.zeros((80, 96), np.uint8)
                mask[:30, :30] = 255
                image[mask > 0] = 250
                _write(folder / place.replace("test", "ground_truth") / f"{number:03d}_mask.png", mask)
            _write(folder / place / f"{number:03d}.png", image)
    return folder


def _write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)


@pytest.fixture
def drawn(leather: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Patch]:
    """Its patches."""
    monkeypatch.setattr(patches, "COUNTS", COUNTS)
    return cut_patches(leather, tmp_path / "patches", seed=0, whole=False)


def test_patches_are_64_pixels_and_anomalous_ones_are_marked_by_five_percent(drawn: list[Patch]) -> None:
    found = Counter((patch.split, patch.label) for patch in drawn)
    assert found == {(split, kind): count for split, count in COUNTS.items() for kind in (NORMAL, ANOMALOUS)}
    for patch in drawn:
        assert cv2.imread(patch.uri).shape == (64, 64, 3)
        if patch.label == ANOMALOUS:
            assert (cv2.imread(patch.mask_uri, cv2.IMREAD_GRAYSCALE) > 0).mean() >= 0.05
        else:
            assert patch.mask_uri == ""


def test_patches_of_an_image_are_in_one_split_and_each_image_gives_as_many(drawn: list[Patch]) -> None:
    places = {(patch.group, patch.split, patch.label) for patch in drawn}
    assert len({group for group, _, _ in places}) == len(places)
    for split, label in {(patch.split, patch.label) for patch in drawn}:
        per_image = Counter(one.group for one in drawn if (one.split, one.label) == (split, label)).values()
        assert max(per_image) - min(per_image) <= 1


def test_half_of_each_defect_is_tested_and_another_seed_draws_others(leather: Path) -> None:
    images = divide(leather, 0)
    assert {place: len(paths) for place, paths in images.items()} == {
        (TRAIN, NORMAL): 9,
        (VALIDATION, NORMAL): 1,
        (TEST, NORMAL): 2,
        (TRAIN, ANOMALOUS): 6,
        (VALIDATION, ANOMALOUS): 2,
        (TEST, ANOMALOUS): 8,
    }
    assert Counter(path.parent.name for path in images[TEST, ANOMALOUS]) == {"cut": 4, "glue": 4}
    assert divide(leather, 0) == images
    assert set(divide(leather, 1)[TEST, ANOMALOUS]) != set(images[TEST, ANOMALOUS])


def test_gamma_says_how_many_patches_are_labelled(drawn: list[Patch], tmp_path: Path) -> None:
    assert number_for_share(0.2, 2000) == 500
    assert number_for_share(0.01, 2000) == 20
    taken: dict[float, set[str]] = {}
    for gamma in (0.0, 0.25, 0.4):
        manifest = write_manifest(drawn, gamma, tmp_path / f"{gamma}.parquet")
        taken[gamma] = set(select(manifest, split=TRAIN, label=ANOMALOUS)["uri"].to_pylist())
        assert len(taken[gamma]) == numbers(drawn, gamma)["labelled"]
        assert len(select(manifest, split=TEST)) == 2 * COUNTS[TEST]
    assert [len(found) for found in taken.values()] == [0, 4, 8]
    assert taken[0.25] < taken[0.4]
    with pytest.raises(SystemExit, match=r"gamma=0\.9 asks for 108 anomalous patches, there are 12"):
        numbers(drawn, 0.9)


def test_objects_are_whole_images(leather: Path, tmp_path: Path) -> None:
    whole = cut_patches(leather, tmp_path / "nowhere", seed=0, whole=True)
    counts = Counter((patch.split, patch.label) for patch in whole)
    assert counts[TEST, ANOMALOUS] == 2 * (8 // 3)
    assert counts[TRAIN, NORMAL] == 9 <= 4 * counts[TRAIN, ANOMALOUS]
    assert all(patch.uri == patch.group for patch in whole)
    assert not (tmp_path / "nowhere").exists()


def test_the_command_measures_each_gamma_once(
    leather: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(patches, "COUNTS", COUNTS)
    words = ["paper", "--data", str(leather.parent), "--sets", leather.name, "--gammas", "0", "0.2"]
    words += ["--methods", "vqvae-pixels", "pixels", "--json", str(tmp_path / "runs.json")]
    words += ["--plot", str(tmp_path / "plot.svg"), "--set", *TINY]
    monkeypatch.setattr(sys, "argv", words)
    paper.main()
    runs = json.loads((tmp_path / "runs.json").read_text())["runs"]
    assert [(run["method"], run["gamma"], run["labelled"]) for run in runs] == [
        ("vqvae-pixels", 0.0, 0),
        ("pixels", 0.2, 3),
    ]
    for run in runs:
        assert (run["normals"], run["test_normal"], run["test_anomalous"]) == (12, 9, 9)
        low, high = run["interval"]
        assert 0 <= low <= run["auroc"] <= high <= 1
        assert 0 <= run["tile_auroc"] <= 1
        assert np.mean(list(run["by_defect"].values())) == pytest.approx(run["auroc"], abs=0.15)
        assert list(run["by_defect"]) == ["cut", "glue"]
        assert run["by_share"]["0.5 to 1"] is None  # the mark is 30 x 30 pixels at most
        assert run["by_share"]["0.1 to 0.25"] > 0.4
        assert 0 <= run["tile_auroc_of_good"] <= 1
    assert "VQ-VAE, the paper's" in (tmp_path / "plot.svg").read_text()
    lines = capsys.readouterr().out.splitlines()[-2:]
    assert [line.split()[-1] for line in lines] == ["0.94", "0.97"]  # the paper's, beside ours

    def never(*arguments: object) -> None:
        raise AssertionError("run again")

    monkeypatch.setattr(paper, "run", never)
    paper.main()
    assert capsys.readouterr().out.splitlines()[-2:] == lines


def test_every_method_learns_at_each_gamma_and_the_vq_vae_at_0() -> None:
    jobs = paper.plan(["mvtec_bottle"], paper.NAMES, [0.0, 0.2], [3], TINY)
    assert [(job.method, job.gamma) for job in jobs] == [
        ("vqvae-pixels", 0.0),
        ("pixels", 0.2),
        ("deep-sad", 0.0),
        ("deep-sad", 0.2),
        ("pixels-negation", 0.2),
    ]
    assert {job.settings.training.validate_every for job in jobs} == {2}  # the last step's model is tested
    assert {(job.settings.tiles.mode, job.settings.training.seed) for job in jobs} == {("whole", 3)}
    assert [job.settings.objective.form for job in jobs][-2:] == ["hinge", "negation"]
    assert len({job.digest for job in jobs}) == 5
