"""What the command line answers to wrong input: one sentence, exit code 2."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from raysvq.cli import main


def _image(path: Path, height: int = 80, width: int = 96) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(str(path))).integers(0, 255, (height, width, 3), np.uint8)
    cv2.imwrite(str(path), pixels)
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    for number in range(8):
        _image(root / f"train/good/{number}.png")
    for number in range(3):
        _image(root / f"test/good/{number}.png")
        _image(root / f"test/crack/{number}.png")
        mask = root / f"ground_truth/crack/{number}_mask.png"
        mask.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(mask), np.pad(np.full((20, 20), 255, np.uint8), ((10, 50), (10, 66))))
    return root


def _fails(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert stop.value.code == 2
    message = capsys.readouterr().err.strip()
    assert message.startswith("raysvq: error: ")
    assert len(message.splitlines()) == 1
    return message


def test_index_prints_the_splits(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["index", str(tree), "--out", str(tmp_path / "m.parquet"), "--set", "split.outliers=1"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert "14 images in" in printed
    assert ["train", "anomalous", "1"] in [line.split() for line in printed.splitlines()]


def test_no_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    message = _fails(capsys, "index", tmp_path, "--out", tmp_path / "m.parquet")
    assert "no images found" in message
    assert str(tmp_path) in message


def test_missing_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no such file" in _fails(capsys, "index", tmp_path / "absent")


def test_mask_of_another_size(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite(str(tree / "ground_truth/crack/1_mask.png"), np.zeros((40, 40), np.uint8))
    message = _fails(capsys, "index", tree)
    assert "1_mask.png is 40 x 40" in message
    assert "96 x 80" in message


def test_mask_without_image(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tree / "test/crack/2.png").unlink()
    message = _fails(capsys, "index", tree)
    assert "mask without image" in message
    assert "2_mask.png" in message


def test_unknown_setting(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = _fails(capsys, "index", tree, "--set", "split.gama=0.1")
    assert "split.gama" in message
    assert "did you mean `split.gamma`" in message


def test_impossible_value(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = _fails(capsys, "train", "m.parquet", "--set", "objective.eta=1.7")
    assert "objective.eta" in message
    assert "1.7" in message


def test_more_outliers_than_there_are(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = _fails(capsys, "index", tree, "--set", "split.gamma=0.5")
    assert "gamma=0.5 asks for 8 labelled outliers" in message
    assert "outliers=3" in message


def test_tile_larger_than_every_image(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = tmp_path / "m.parquet"
    with pytest.raises(SystemExit):
        main(["index", str(tree), "--out", str(manifest)])
    capsys.readouterr()
    message = _fails(capsys, "train", manifest, "--out", tmp_path / "model", "--set", "tiles.size=256")
    assert "tiles.size" in message
    assert "96 x 80" in message


def test_no_write_permission(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("not a folder")
    message = _fails(capsys, "index", tree, "--out", tmp_path / "file" / "m.parquet")
    assert "cannot write" in message


def test_missing_model(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = tmp_path / "m.parquet"
    with pytest.raises(SystemExit):
        main(["index", str(tree), "--out", str(manifest)])
    capsys.readouterr()
    message = _fails(capsys, "score", manifest, "--model", tmp_path / "absent")
    assert "not a complete model bundle" in message


def test_missing_bucket(s3: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "s3://no-such-bucket" in _fails(capsys, "index", "s3://no-such-bucket/images")


def test_demo_does_not_empty_the_folder_its_images_lie_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".raysvq-demo").touch()
    image = tmp_path / "sample/images/a.png"
    image.parent.mkdir(parents=True)
    image.write_bytes(b"kept")
    assert "empties first" in _fails(capsys, "demo", "--data", tmp_path / "sample", "--out", tmp_path)
    assert image.read_bytes() == b"kept"


def test_demo_keeps_other_peoples_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    assert "no demo made" in _fails(capsys, "demo", "--out", tmp_path)
    assert (tmp_path / "precious.txt").exists()


def test_help_teaches_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    for verb in ("index", "train", "calibrate", "score", "inspect", "doctor", "evaluate", "demo", "settings"):
        assert verb in printed


ROOT = Path(__file__).parent.parent
JOBS = sorted(path.stem for path in (ROOT / "jobs").glob("*.py"))


@pytest.mark.parametrize("job", JOBS)
def test_a_job_is_the_verb_it_is_named_after(job: str) -> None:
    verb = job.removesuffix("_fleet")  # a script that is called inspect.py would stand in for Python's module
    command = [sys.executable, f"jobs/{job}.py", "--help"]
    environment = {"PYTHONPATH": str(ROOT)}
    shown = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert shown.stdout.startswith(f"Usage: raysvq {verb} ")
    assert "--log <auto|plain|json>" in shown.stdout


def test_the_package_runs_as_a_module(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "raysvq", "score", str(tmp_path / "absent.parquet"), "--log", "json"]
    environment = {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert json.loads(ended.stderr)["verb"] == "score"
