"""Which engine and precision the settings come to."""

from __future__ import annotations

from typing import Any

import pytest

from raysvq.errors import SettingsError
from raysvq.model.device import TOLERANCE
from raysvq.model.engines import Backend, Machine, backend, choose_backend, engines_with_bfloat16
from raysvq.settings import ModelSettings, ScoringSettings

CPU = Machine("cpu", has_openvino=True, has_bfloat16=True)
OLD_CPU = Machine("cpu", has_openvino=True, has_bfloat16=False)
WITHOUT = Machine("cpu", has_openvino=False, has_bfloat16=True)
GPU = Machine("cuda", has_openvino=True, has_bfloat16=True)
FEATURES = ModelSettings(encoder="features")
PIXELS = ModelSettings()
BROUGHT = ModelSettings(encoder="features", stem="backbone.yaml")
CLOSE, FAR = TOLERANCE, TOLERANCE + 1e-6


def _chosen(
    machine: Machine,
    torch: float | None = None,
    openvino: float | None = None,
    model: ModelSettings = FEATURES,
    **scoring: Any,
) -> Backend:
    deviations = {"torch": torch, "openvino": openvino}
    return choose_backend(ScoringSettings(**scoring), model, deviations, machine)  # type: ignore[arg-type]


def test_auto_takes_openvino_for_features_on_cpus_that_have_it() -> None:
    assert _chosen(CPU) == Backend("openvino", "float32")
    assert _chosen(CPU, model=PIXELS, engine="openvino") == Backend("openvino", "float32")


@pytest.mark.parametrize(
    ("machine", "model"),
    [(WITHOUT, FEATURES), (GPU, FEATURES), (CPU, BROUGHT), (CPU, PIXELS)],
    ids=["none", "gpu", "stem", "pixels"],
)
def test_auto_takes_torch_elsewhere(machine: Machine, model: ModelSettings) -> None:
    assert _chosen(machine, model=model) == Backend("torch", "float32")


@pytest.mark.parametrize(
    ("machine", "torch", "openvino", "expected"),
    [
        (CPU, None, CLOSE, "bfloat16"),
        (CPU, CLOSE, FAR, "float32"),
        (CPU, CLOSE, None, "float32"),
        (OLD_CPU, CLOSE, CLOSE, "float32"),
        (WITHOUT, CLOSE, None, "bfloat16"),
        (GPU, CLOSE, FAR, "bfloat16"),
        (GPU, FAR, CLOSE, "float32"),
    ],
)
def test_bfloat16_is_held_to_what_was_measured_of_the_engine_that_computes(
    machine: Machine, torch: float | None, openvino: float | None, expected: str
) -> None:
    assert _chosen(machine, torch, openvino).precision == expected


@pytest.mark.parametrize(
    ("machine", "model", "precision", "problem"),
    [
        (GPU, FEATURES, "auto", "it computes on CPUs alone, and the workers have device cuda"),
        (WITHOUT, FEATURES, "auto", r"where the workers are: `pip install 'raysvq\[openvino\]'`"),
        (CPU, BROUGHT, "auto", "efficientnet-lite2, and the model has backbone.yaml"),
        (OLD_CPU, FEATURES, "bfloat16", "bfloat16 where the CPU multiplies in it, and the workers' does not"),
    ],
    ids=["gpu", "none", "stem", "bfloat16"],
)
def test_openvino_is_not_replaced_where_it_is_asked_for(
    machine: Machine, model: ModelSettings, precision: str, problem: str
) -> None:
    with pytest.raises(
        SettingsError, match=rf"`scoring\.engine`: found openvino; .*{problem}; expected torch or auto"
    ):
        _chosen(machine, model=model, engine="openvino", precision=precision)


def test_bfloat16_without_instructions_is_left_to_torch() -> None:
    assert _chosen(OLD_CPU, precision="bfloat16") == Backend("torch", "bfloat16")
    assert _chosen(CPU, engine="torch", precision="bfloat16") == Backend("torch", "bfloat16")


@pytest.mark.parametrize(
    ("machine", "model", "has_bfloat16", "expected"),
    [
        (CPU, FEATURES, True, ["torch", "openvino"]),
        (WITHOUT, FEATURES, True, ["torch"]),
        (OLD_CPU, FEATURES, True, ["torch"]),
        (CPU, BROUGHT, True, ["torch"]),
        (CPU, PIXELS, True, ["torch"]),
        (CPU, FEATURES, False, []),
    ],
)
def test_bfloat16_is_tried_with_every_engine_that_may_compute_in_it(
    monkeypatch: pytest.MonkeyPatch,
    machine: Machine,
    model: ModelSettings,
    has_bfloat16: bool,
    expected: list[str],
) -> None:
    monkeypatch.setattr(backend, "look_around", lambda device: machine)
    assert engines_with_bfloat16(model, has_bfloat16) == expected


def test_a_run_names_both() -> None:
    assert str(Backend()) == "float32 with PyTorch"
    assert str(Backend("openvino", "bfloat16")) == "bfloat16 with OpenVINO"
