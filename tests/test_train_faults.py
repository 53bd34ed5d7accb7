"""Training whose driver and worker are killed ends with the model of one process that nothing disturbed."""

from __future__ import annotations

import signal
import threading
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
import torch

from raysvq.data.index import build_index
from raysvq.errors import DataError
from raysvq.imaging.pixels import load_tiles
from raysvq.model.bundle import Bundle, load_bundle
from raysvq.runtime.cluster import connect
from raysvq.runtime.progress import forwarded_progress
from raysvq.sample import write_sample
from raysvq.settings import RaySettings, Settings, load_settings
from raysvq.storage import read_bytes
from raysvq.training.export import export_bundle
from raysvq.training.in_process import train_in_process
from raysvq.training.metrics import NAME, event_file
from raysvq.training.ray_trainer import train
from raysvq.training.tile_stream import outlier_tiles
from raysvq.training.validation import validate, validation_images
from tests.sweeps import kill, start_on_this_cluster, wait_for

STEPS, EVERY = 120, 20
OVERRIDES = [
    "split.outliers=6",
    "tiles.size=32",
    "tiles.anomalous_fraction=0.01",
    "model.hidden=16",
    "model.codebook_size=32",
    "model.embedding_dim=8",
    f"training.steps={STEPS}",
    "training.batch_size=16",
    f"training.validate_every={EVERY}",
]


@dataclass(frozen=True)
class Setup:
    """A manifest and what one process without Ray makes of it."""

    manifest: str
    settings: Settings
    undisturbed: Bundle


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory, no_cluster: None) -> Setup:
    folder = tmp_path_factory.mktemp("train-faults")
    settings = load_settings(None, OVERRIDES)
    manifest = str(folder / "manifest.parquet")
    build_index(write_sample(folder / "sample", normal=24, anomalous=10), manifest, settings.split)
    connect(RaySettings(cpus=2, object_store_mib=256))
    return Setup(manifest, settings, _train_without_ray(manifest, settings))


def _train_without_ray(manifest: str, settings: Settings) -> Bundle:
    rows = pq.read_table(manifest, filters=[("split", "=", "train"), ("label", "=", "normal")])
    cut = [
        load_tiles(read_bytes(uri), settings.tiles, settings.scoring)[1] for uri in rows["uri"].to_pylist()
    ]
    with forwarded_progress() as report:
        outliers = outlier_tiles(manifest, settings, 4, report).to_pandas()
    marked = {name: np.stack(list(outliers[name])) for name in outliers}
    score = partial(validate, images=validation_images(manifest, settings.training.validation_images))
    torch.set_num_threads(2)  # as many as the one worker has
    model, progress = train_in_process(settings, {"tile": np.concatenate(cut)}, marked, score, progress=None)
    return export_bundle(model, settings, progress, progress.history, {})


def _checkpoints(out: Path) -> list[Path]:
    return list(out.glob("_training/*/checkpoint_*/state.json"))


def _training_workers() -> list[psutil.Process]:
    found = []
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it has just ended
            if "RayTrainWorker" in " ".join(child.cmdline()):
                found.append(child)
    return found


def _assert_as_undisturbed(bundle: Bundle, setup: Setup, out: Path) -> None:
    expected = setup.undisturbed
    steps = [row["step"] for row in bundle.history["history"]]
    assert steps == list(range(EVERY, STEPS + 1, EVERY))
    assert bundle.training["best_step"] == expected.training["best_step"]
    assert bundle.reference == expected.reference
    assert bundle.decisions.digest == expected.decisions.digest
    assert (out / "logs" / NAME).read_bytes() == event_file(bundle.history["history"])
    for name, value in expected.model.state_dict().items():
        assert torch.equal(bundle.model.state_dict()[name], value), name


def test_kills_leave_no_trace_and_ray_trains_as_one_process_does(setup: Setup, tmp_path: Path) -> None:
    arguments = ["train", setup.manifest, "--out", str(tmp_path)]
    driver = start_on_this_cluster(
        *arguments, *(part for setting in OVERRIDES for part in ("--set", setting))
    )
    try:
        wait_for("the driver's lease", lambda: list(tmp_path.glob("_leases/*.json")))
        with pytest.raises(DataError, match=f"is being written by run .* .process {driver.pid}"):
            train(setup.manifest, str(tmp_path), setup.settings)
        wait_for("a checkpoint", lambda: len(_checkpoints(tmp_path)) >= 2)
        workers = _training_workers()
    finally:
        kill(driver, workers)
    assert workers
    assert not (tmp_path / "bundle.json").exists()
    before = set(_checkpoints(tmp_path))
    killed: list[int] = []

    def kill_worker() -> None:
        wait_for("another checkpoint", lambda: set(_checkpoints(tmp_path)) - before)
        (worker,) = _training_workers()
        worker.send_signal(signal.SIGKILL)
        killed.append(worker.pid)

    killer = threading.Thread(target=kill_worker)
    killer.start()
    bundle = train(setup.manifest, str(tmp_path), setup.settings)
    killer.join()
    assert killed
    _assert_as_undisturbed(bundle, setup, tmp_path)
    assert load_bundle(str(tmp_path)).model_digest == setup.undisturbed.model_digest
    assert not (tmp_path / "_training").exists()
