"""On a GPU all is as on CPUs: scores, training, checkpoints, and the jobs on Ray."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import ray
import torch
from torch import Tensor

from raysvq.data.index import build_index
from raysvq.evaluation.leaderboard import FINISHED
from raysvq.imaging.pixels import load_tiles
from raysvq.model.feature_dictionary import FeatureDictionary
from raysvq.model.network import Network, build_network
from raysvq.model.quantizer import Quantizer
from raysvq.model.scorer import ImageResult, ImageScorer, to_model_input
from raysvq.results import open_results, read_scores
from raysvq.runtime.cluster import Capacity, connect
from raysvq.sample import write_sample
from raysvq.scoring.job import score
from raysvq.settings import RaySettings, Settings, load_sweep
from raysvq.storage import read_bytes
from raysvq.training.checkpoint import TrainingState
from raysvq.training.in_process import train_in_process
from raysvq.training.ray_trainer import train
from raysvq.training.tile_stream import training_samples
from raysvq.training.validation import validate, validation_images
from raysvq.tuning.sweep import sweep
from tests.plates import plate
from tests.sweeps import CONFIG

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device; there is none")

Build = Callable[..., Settings]
DEVICE = "cuda"
ENCODERS = {
    "pixels": {},
    "features": {"tiles": {"mode": "whole", "size": 64}, "model": {"encoder": "features"}},
}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("cuda") / "sweep.yaml"
    file.write_text(CONFIG)
    return file


@pytest.fixture(scope="module")
def manifest(config: Path) -> str:
    """Of a sample fleet with ten labelled outliers."""
    made = str(config.parent / "manifest.parquet")
    build_index(
        write_sample(config.parent / "sample", normal=40, anomalous=20), made, _settings(config).split
    )
    return made


@pytest.fixture(scope="module")
def cluster() -> Iterator[Capacity]:
    yield connect(RaySettings(cpus=8, object_store_mib=256))
    ray.shutdown()


def _settings(config: Path, **training: Any) -> Settings:
    settings, _ = load_sweep(config, ["scoring.precision=float32", "scoring.batch_images=16"])
    return settings.model_copy(update={"training": settings.training.model_copy(update=training)})


def _model(settings: Settings, contents: list[bytes]) -> Network:
    """One that standardises these images, and has its codes among their encodings."""
    torch.manual_seed(0)
    model = build_network(settings)
    model.load_pretrained()
    tiles = np.concatenate([load_tiles(each, settings.tiles, settings.scoring)[1] for each in contents])
    with torch.no_grad():
        features = model.extract_features(to_model_input(tiles, torch.device("cpu")))
        model.fit_statistics(features)
        model.quantizer.initialize(model.encode(features).movedim(1, -1).flatten(0, 2), seed=0)
        model.fit_deviations(features, lambda _: None)
        if isinstance(model, FeatureDictionary):
            model.learned_weight.fill_(0.5)
    return model.eval()


@pytest.mark.parametrize("encoder", ENCODERS)
def test_scores_are_those_of_the_cpu(small: Build, encoder: str) -> None:
    contents = [plate(number) for number in range(12)]
    settings = small(**ENCODERS[encoder])
    model = _model(settings, contents)
    on_gpu = ImageScorer(copy.deepcopy(model), settings, settings.scoring, DEVICE, decoders=4)
    on_cpu = ImageScorer(model, settings, settings.scoring)
    for content, found in zip(contents, on_gpu.score_many(contents), strict=True):
        assert isinstance(found, ImageResult)
        wanted = on_cpu(content)
        assert wanted.image_score > 0
        assert found.image_score == pytest.approx(wanted.image_score, rel=1e-4)
        assert found.image_score == pytest.approx(on_gpu(content).image_score, rel=1e-5)
        np.testing.assert_allclose(found.tile_scores, wanted.tile_scores, rtol=1e-4)
        largest = float(wanted.anomaly_map.max())
        np.testing.assert_allclose(found.anomaly_map, wanted.anomaly_map, rtol=1e-4, atol=1e-4 * largest)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_scores_in_bfloat16_are_close_to_those_of_the_cpu(small: Build, encoder: str) -> None:
    contents = [plate(number) for number in range(12)]
    settings = small(**ENCODERS[encoder])
    model = _model(settings, contents)
    on_cpu = ImageScorer(copy.deepcopy(model), settings, settings.scoring).in_bfloat16()
    exact = ImageScorer(model, settings, settings.scoring, DEVICE)
    close = exact.in_bfloat16()
    assert close.device.type == DEVICE
    found = [close(each).image_score for each in contents]
    assert found == pytest.approx([on_cpu(each).image_score for each in contents], rel=0.05)
    assert found != [exact(each).image_score for each in contents]


def _ignore(line: str) -> None:
    """Nobody reads it."""


def _train(manifest: str, settings: Settings) -> tuple[Network, TrainingState]:
    samples = training_samples(manifest, settings, _ignore)
    validation = partial(validate, images=validation_images(manifest, settings.training.validation_images))
    return train_in_process(settings, samples.normal, samples.outlier, validation, progress=None)


@pytest.fixture(scope="module")
def auroc_on_cpu(manifest: str, config: Path) -> float:
    _, progress = _train(manifest, _settings(config, device="cpu", steps=200, validate_every=50))
    return _best(progress)


def _best(progress: TrainingState) -> float:
    return float(max(row["validation_auroc"] for row in progress.history))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_learns_as_on_the_cpu(
    manifest: str, config: Path, auroc_on_cpu: float, precision: str
) -> None:
    settings = _settings(config, device=DEVICE, precision=precision, steps=200, validate_every=50)
    model, progress = _train(manifest, settings)
    assert model.mean.device.type == DEVICE
    assert progress.precision == precision
    losses = [row["reconstruction"] for row in progress.history]
    assert np.isfinite([*losses, *(row["loss"] for row in progress.history)]).all()
    assert losses[-1] < losses[0]
    assert all(bool(value.isfinite().all()) for value in model.state_dict().values())
    assert _best(progress) == pytest.approx(auroc_on_cpu, abs=0.2)


def test_bfloat16_is_what_training_takes_by_itself(manifest: str, config: Path) -> None:
    _, progress = _train(manifest, _settings(config, device="auto", steps=2))
    assert progress.precision == "bfloat16"


class _Stop(Exception):
    pass


def test_a_checkpoint_goes_on_here_and_on_the_cpu(small: Build, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    normal = {"tile": draw.integers(0, 65535, (60, 32, 32, 3), np.uint16)}
    outlier = {"tile": draw.integers(0, 65535, (7, 32, 32, 3), np.uint16)}
    outlier["weight"] = np.ones((7, 8, 8), np.float32)

    def validation(scorer: ImageScorer) -> dict[str, Any]:
        scorer.distances(normal["tile"][:4])
        return {"anomalous": [False], "auroc": None, "unreadable": []}

    def stop(line: str) -> None:
        if line.startswith("step 30"):
            raise _Stop

    def run(folder: Path, device: str = DEVICE, say: Any = None) -> tuple[Network, TrainingState]:
        training = {
            "steps": 40,
            "batch_size": 8,
            "validate_every": 10,
            "precision": "float32",
            "device": device,
        }
        return train_in_process(small(training=training), normal, outlier, validation, say, folder)

    straight, whole = run(tmp_path / "straight")
    with pytest.raises(_Stop):
        run(tmp_path / "broken", progress=stop)
    resumed, again = run(tmp_path / "broken")
    assert [row["step"] for row in again.history] == [10, 20, 30, 40]
    assert again.position == whole.position
    assert again.history[-1]["loss"] == pytest.approx(whole.history[-1]["loss"], rel=0.02)
    assert straight.mean.device.type == resumed.mean.device.type == DEVICE
    here, progress = run(tmp_path / "broken", "cpu")  # nothing is left to do but to read it
    assert here.mean.device.type == "cpu"
    assert progress.history == again.history
    for name, value in resumed.state_dict().items():
        assert torch.equal(here.state_dict()[name], value.cpu()), name
    assert all(sorted(folder.glob("step-*")) for folder in (tmp_path / "straight", tmp_path / "broken"))
    with pytest.raises(_Stop):
        run(tmp_path / "moved", progress=stop)
    moved, rest = run(tmp_path / "moved", "cpu")
    assert moved.mean.device.type == "cpu"
    assert rest.history[-1]["loss"] == pytest.approx(whole.history[-1]["loss"], rel=0.02)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_codebook_starts_and_follows_as_on_the_cpu(small: Build, encoder: str) -> None:
    kept = ENCODERS[encoder] | {"model": ENCODERS[encoder].get("model", {}) | {"threshold_dead_code": 0.0}}
    on_cpu = build_network(small(**kept))
    on_gpu = copy.deepcopy(on_cpu).to(DEVICE)
    dim = on_cpu.quantizer.codebook.shape[1]
    choosing = len(on_cpu.mean) if encoder == "features" else dim
    for network in (on_cpu, on_gpu):
        start = torch.randn(500, choosing, generator=torch.Generator().manual_seed(1))
        network.quantizer.initialize(start.to(network.mean.device), seed=3)
    _assert_alike(on_gpu, on_cpu, rel=0.0)
    for seed in range(5):
        encoded = torch.randn(4, dim, 8, 8, generator=torch.Generator().manual_seed(seed))
        used = [_follow(network, encoded, choosing) for network in (on_gpu, on_cpu)]
        assert int(used[0].sum()) == 4 * 64
        assert torch.equal(used[0].cpu(), used[1])
    assert int(on_gpu.quantizer.updates) == 5
    _assert_alike(on_gpu, on_cpu, rel=1e-4)


def _follow(network: Network, encoded: Tensor, choosing: int) -> Tensor:
    encoded = encoded.to(network.mean.device)
    indices = network.quantizer.nearest_indices(encoded[:, :choosing])
    return network.update_codebook(encoded.movedim(1, -1).flatten(0, 2), indices.flatten(), labelled=2)


def _assert_alike(found: Network, wanted: Network, rel: float) -> None:
    for name, value in wanted.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name].cpu(), value, rtol=rel, atol=rel)


def test_dead_codes_come_back_among_the_encodings() -> None:
    quantizer = Quantizer(4, 16, decay=0.5, threshold_dead_code=0.5).to(DEVICE)
    encoded = torch.randn(64, 4, device=DEVICE)
    quantizer.update(encoded, torch.zeros(64, dtype=torch.int64, device=DEVICE))
    apart = torch.cdist(quantizer.codebook[1:], encoded).amin(dim=1)
    assert float(apart.max()) < 1e-3


def test_a_job_trains_and_scores_on_the_gpu(
    manifest: str, config: Path, cluster: Capacity, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cluster.gpus >= 1
    settings = _settings(config, steps=40, validate_every=20)
    model, out = str(tmp_path / "model"), str(tmp_path / "scores")
    bundle = train(manifest, model, settings)
    assert (bundle.training["device"], bundle.training["precision"]) == (DEVICE, "bfloat16")
    assert np.isfinite([row["loss"] for row in bundle.history["history"]]).all()
    summary = score(manifest, model, out, settings)
    assert "GPU" in capsys.readouterr().out
    rows = read_scores(out).to_pylist()
    rejected = open_results(out, "rejects").to_table()["image_id"].to_pylist()
    wanted = pq.read_table(manifest)["image_id"].to_pylist()
    assert summary.scored == len(rows) > 0
    assert sorted([row["image_id"] for row in rows] + rejected) == sorted(wanted)
    scorer = ImageScorer(bundle.model, bundle.settings, bundle.settings.scoring)
    for row in rows:
        assert row["image_score"] == pytest.approx(scorer(read_bytes(row["uri"])).image_score, rel=1e-4)


def test_trials_of_a_sweep_take_the_gpu_in_turn(
    manifest: str, config: Path, cluster: Capacity, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, search = load_sweep(config, ["tuning.trials=2", "scoring.precision=float32"])
    found = sweep(manifest, str(tmp_path), settings, search)
    assert [trial.status for trial in found.board.trials] == [FINISHED, FINISHED]
    assert all(0 <= (trial.value or 0) <= 1 for trial in found.board.trials)
    assert found.bundle.training["device"] == DEVICE
    assert f"2 trials, {int(cluster.gpus)} at once" in capsys.readouterr().out
