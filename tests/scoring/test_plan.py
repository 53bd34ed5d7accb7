"""How the work of scoring is shared out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysvq.decisions import fixed_decisions
from raysvq.errors import SettingsError
from raysvq.model.bundle import save_bundle
from raysvq.model.bundle_summary import Reference
from raysvq.model.engines import EXACT, Backend, Machine
from raysvq.model.network import Network
from raysvq.scoring import plan
from raysvq.scoring.plan import _resolve_backends, line_up, unit_images
from raysvq.scoring.request import Request, open_request
from raysvq.scoring.workers import Workers
from raysvq.settings import DecisionSettings, ModelSettings, ScoringSettings
from tests.plates import make_plates


@given(images=st.integers(1, 10**9))
def test_units_share_out_small_runs_and_keep_large_ones_in_few_files(images: int) -> None:
    size = unit_images(images, 20e3, None)
    units = -(-images // size)
    assert 16 <= size <= 4096
    assert units <= max(4000, images / 4096 + 1)
    assert units >= min(64, images // 16)


@pytest.mark.parametrize(
    ("images", "image_bytes", "size"),
    [
        (1000, 20e3, 16),
        (10_000, 20e3, 128),
        (10_000, 4e6, 16),
        (1000, 300e6, 1),
        (400_000, 4e6, 100),  # a large run has as many units as one of small images
        (10_000, 0.0, 128),
    ],
)
def test_units_of_large_images_have_fewer(images: int, image_bytes: float, size: int) -> None:
    assert unit_images(images, image_bytes, None) == size


def test_the_setting_decides() -> None:
    assert unit_images(10**6, 20e3, 7) == 7


def _precisions(models: dict[str, Request], **scoring: Any) -> dict[str, str]:
    settings = ScoringSettings(engine="torch", **scoring)
    found = _resolve_backends(models, settings, Workers())
    return {name: backend.precision for name, backend in found.items()}


def test_bfloat16_is_refused_to_a_model_that_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plates = make_plates(str(tmp_path), 2)
    models = {"a": open_request(plates.manifest, plates.model, plates.out, plates.settings())}
    assert _precisions(models, precision="bfloat16") == {"a": "bfloat16"}
    assert _precisions(models, precision="float32") == {"a": "float32"}
    monkeypatch.setattr(Network, "has_bfloat16", False)
    assert _precisions(models) == {"a": "float32"}
    with pytest.raises(
        SettingsError, match=r"`scoring\.precision`: .*found bfloat16, expected float32 or auto"
    ):
        _precisions(models, precision="bfloat16")


@pytest.mark.parametrize(("fast", "precisions"), [(True, ["bfloat16", "float32"]), (False, ["float32"] * 2)])
def test_workers_are_asked_once_for_all_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fast: bool, precisions: list[str]
) -> None:
    plates = make_plates(str(tmp_path), 2)
    request = open_request(plates.manifest, plates.model, plates.out, plates.settings())
    models = {
        name: replace(request, bundle=replace(request.bundle, reference=Reference({}, {}, deviation)))
        for name, deviation in {"safe": 0.01, "moved": 0.1, "not measured": None}.items()
    }
    answers = iter([Machine("cpu", has_openvino=False, has_bfloat16=fast)])
    monkeypatch.setattr(plan, "_ask_for_machine", lambda workers: next(answers))
    assert list(_precisions(models).values()) == [*precisions, "float32"]


def _with_features(request: Request) -> Request:
    settings = request.bundle.settings.model_copy(update={"model": ModelSettings(encoder="features")})
    return replace(request, bundle=replace(request.bundle, settings=settings))


def test_workers_are_asked_for_openvino_where_it_may_be_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plates = make_plates(str(tmp_path), 2)
    models = {"a": open_request(plates.manifest, plates.model, plates.out, plates.settings())}
    answers = iter([Machine("cpu", has_openvino=True, has_bfloat16=False)])
    monkeypatch.setattr(plan, "_ask_for_machine", lambda workers: next(answers))
    scoring = ScoringSettings(precision="float32")
    assert _resolve_backends(models, scoring, Workers()) == {"a": EXACT}  # a network of pixels
    features = {"a": _with_features(models["a"])}
    assert _resolve_backends(features, scoring, Workers("GPU")) == {"a": EXACT}
    assert _resolve_backends(features, scoring, Workers()) == {"a": Backend("openvino")}


def test_small_runs_come_first_and_those_of_a_model_together() -> None:
    units = [40, 2, 0, 1, 3, 30, 1]
    models = ["a", "a", "a", "b", "b", "b", "a"]
    assert line_up(units, models) == [6, 1, 3, 4, 0, 5]


def test_decisions_fitted_anew_need_no_new_folder(tmp_path: Path) -> None:
    plates = make_plates(str(tmp_path), 2)
    settings = plates.settings()
    before = open_request(plates.manifest, plates.model, plates.out, settings).digests()
    decision = DecisionSettings(max_false_alarm_rate=0.2)
    fitted = fixed_decisions(9.0, 0.5, "fitted anew", "manual")
    plates.bundle = replace(
        plates.bundle,
        settings=plates.bundle.settings.model_copy(update={"decision": decision}),
        decisions=fitted,
    )
    save_bundle(plates.bundle, plates.model)
    again = open_request(plates.manifest, plates.model, plates.out, settings)
    assert again.bundle.decisions == fitted
    assert again.digests() == before
