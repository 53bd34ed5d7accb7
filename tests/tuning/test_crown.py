"""The model that becomes the champion where none was kept that could."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from raysvq.errors import DataError
from raysvq.model.alias import resolve
from raysvq.model.bundle import Bundle, Reference, load_bundle, make_bundle, save_bundle
from raysvq.model.network import build_network
from raysvq.settings import Settings, parse_settings
from raysvq.tuning.crown import crown
from raysvq.tuning.kept import Kept

Build = Callable[..., Settings]


def _bundle(settings: Settings) -> Bundle:
    return make_bundle(
        build_network(settings), settings, Reference(1.0, "made up", 1.0, {}, {}), {}, {"history": []}
    )


@pytest.mark.parametrize("refit", [False, True], ids=["none was kept", "it learns from more images"])
def test_it_is_trained_with_the_settings_taken(
    small: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refit: bool
) -> None:
    settings = small(objective={"eta": 0.7}, tuning={"refit": refit})
    kept = Kept(str(tmp_path / "state"))
    if refit:
        save_bundle(_bundle(settings), kept.place(5))
    trained: list[tuple[str, str]] = []

    def train(manifest: str, out: str, settings: Settings) -> None:
        trained.append((manifest, out))
        save_bundle(_bundle(settings), out)

    monkeypatch.setattr("raysvq.tuning.crown.train", train)
    before = small(tuning={"refit": refit})  # of a trial that was the best before
    crown("m.parquet", str(tmp_path), 4, before, kept, {"CPU": 1}, lambda: None)
    trained.clear()
    held: list[Any] = []
    bundle = crown("m.parquet", str(tmp_path), 5, settings, kept, {"CPU": 1}, lambda: held.append(1))
    assert trained == [("m.parquet", str(tmp_path / "model"))]
    assert bundle.settings.objective.eta == 0.7
    assert load_bundle(resolve(f"{tmp_path}@champion")).model_digest == bundle.model_digest
    assert held
    assert parse_settings(yaml.safe_load((tmp_path / "best.yaml").read_text())).objective.eta == 0.7
    crown("m.parquet", str(tmp_path), 5, settings, kept, {"CPU": 1}, lambda: None)
    assert len(trained) == 1, "it is there"


def test_a_model_of_someone_else_is_not_replaced(small: Build, tmp_path: Path) -> None:
    theirs = _bundle(small())
    save_bundle(theirs, str(tmp_path / "model"))
    kept = Kept(str(tmp_path / "state"))
    with pytest.raises(DataError, match="model holds a model that this sweep did not make"):
        crown("m.parquet", str(tmp_path), 5, small(objective={"eta": 0.7}), kept, {"CPU": 1}, lambda: None)
    assert load_bundle(str(tmp_path / "model")).model_digest == theirs.model_digest
