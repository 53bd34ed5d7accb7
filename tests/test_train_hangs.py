"""Images that hang the decoder, or change after indexing, are left out of a training that goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from devtools.hanging_images import HOLDS, SLEEPS, jpeg, python_path
from raysvq.data.index import build_index
from raysvq.runtime.cluster import connect
from raysvq.settings import RaySettings, parse_settings
from raysvq.training.ray_trainer import train

LIMIT_S = 2.0
HANGING = {"train-02.jpg": HOLDS, "train-09.jpg": SLEEPS, "validation-1.jpg": HOLDS}


def test_each_is_left_out_by_name(
    no_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"train-{number:02d}.jpg" for number in range(12)] + [f"validation-{n}.jpg" for n in range(4)]
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(jpeg(number, HANGING.get(name, b"")))
    lines = [f"{name},normal,{name.partition('-')[0]}" for name in names]
    (tmp_path / "listing.csv").write_text("\n".join(["uri,label,split", *lines]))
    settings = parse_settings(
        {
            "tiles": {"size": 16},
            "model": {"hidden": 8, "residual_hidden": 4, "codebook_size": 8, "embedding_dim": 4},
            "training": {"steps": 40, "batch_size": 8, "validate_every": 20},
            "scoring": {"decode_timeout_s": LIMIT_S},
        }
    )
    manifest = str(tmp_path / "manifest.parquet")
    build_index(str(tmp_path / "listing.csv"), manifest, settings.split)
    (tmp_path / "train-05.jpg").write_bytes(jpeg(99) + b"longer")
    monkeypatch.setenv("PYTHONPATH", python_path())
    connect(RaySettings(cpus=2, object_store_mib=128))
    bundle = train(manifest, str(tmp_path / "model"), settings)
    said = capsys.readouterr().out
    for name in ("train-02.jpg", "train-09.jpg"):
        assert said.count(f"{name} (crashed: decoding took more than 2 s)") == 1
    assert "train-05.jpg (changed since it was indexed" in said
    assert "train-03.jpg" not in said
    assert bundle.reference.validation["unreadable"] == [str(tmp_path / "validation-1.jpg")]
    assert bundle.reference.validation["normal"] == 3
    assert bundle.training["steps"] == 40
