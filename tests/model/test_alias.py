"""Names that stand for models."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from raysvq.errors import BundleError
from raysvq.model.alias import promote, resolve


def _bundle(folder: Path) -> str:
    folder.mkdir(parents=True)
    (folder / "bundle.json").write_text("{}")
    return str(folder)


def test_an_alias_stands_for_the_model_promoted_last(tmp_path: Path) -> None:
    first, second = _bundle(tmp_path / "models" / "a"), _bundle(tmp_path / "elsewhere" / "b")
    alias = f"{tmp_path}/models@champion"
    promote(alias, first)
    assert resolve(alias) == first
    promote(alias, second)
    assert resolve(alias) == second
    promote(f"{tmp_path}/models@canary", alias)
    promote(alias, first)
    assert resolve(f"{tmp_path}/models@canary") == second, "it stands for the model, not for the name"
    assert resolve(f"{alias}/") == first


def test_a_folder_that_moves_takes_its_models_along(tmp_path: Path) -> None:
    promote(f"{tmp_path}/models@champion", _bundle(tmp_path / "models" / "a"))
    shutil.move(tmp_path / "models", tmp_path / "moved")
    assert resolve(f"{tmp_path}/moved@champion") == f"{tmp_path}/moved/a"


def test_paths_stay_paths(tmp_path: Path) -> None:
    assert resolve(f"{tmp_path}/model/") == f"{tmp_path}/model"
    assert resolve("s3://user@bucket/model") == "s3://user@bucket/model"
    odd = _bundle(tmp_path / "line@night")
    assert resolve(odd) == odd


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"models/champion\.alias\.json does not exist; `raysvq promote`"):
        resolve(f"{tmp_path}/models@champion")
    with pytest.raises(BundleError, match="is not a model bundle"):
        promote(f"{tmp_path}/models@champion", str(tmp_path))
    with pytest.raises(BundleError, match="expected FOLDER@NAME"):
        promote(str(tmp_path), _bundle(tmp_path / "a"))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "champion.alias.json").write_text("{")
    with pytest.raises(BundleError, match="cannot be read"):
        resolve(f"{tmp_path}/models@champion")
