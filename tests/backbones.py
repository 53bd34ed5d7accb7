"""Backbones with random weights, as users bring them: an ONNX file, folders as Hugging Face has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import yaml
from onnx import TensorProto, helper, numpy_helper

DINO = {
    "dinov2": {"patch_size": 14, "image_size": 56, "mlp_ratio": 2},
    "dinov2_with_registers": {"patch_size": 14, "image_size": 56, "mlp_ratio": 2, "num_register_tokens": 4},
    "dinov3_vit": {"patch_size": 16, "image_size": 64, "intermediate_size": 64, "num_register_tokens": 4},
}


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    """The weights in an ONNX file."""
    model = onnx.load(path)
    return {
        each.name: torch.from_numpy(numpy_helper.to_array(each).copy()) for each in model.graph.initializer
    }


def write_onnx(
    path: Path, batch: str | int = "batch", sides: tuple[str | int, str | int] = ("h", "w"), seed: int = 0
) -> None:
    """Two convolutions: `fine`, 4 channels of 1/8 of the side; `coarse`, 6 of 1/16, and again as `tokens`.

    One token more stands before those of the patches.
    """
    rng = np.random.default_rng(seed)
    held = {
        "first": rng.normal(size=(4, 3, 8, 8)).astype(np.float32),
        "second": rng.normal(size=(6, 4, 2, 2)).astype(np.float32),
        "flat": np.array([0, 0, -1]),
        "one_before": np.array([0, 1, 0, 0, 0, 0]),
    }
    nodes = [
        helper.make_node("Conv", ["pixels", "first"], ["fine"], strides=[8, 8]),
        helper.make_node("Conv", ["fine", "second"], ["coarse"], strides=[2, 2]),
        helper.make_node("Reshape", ["coarse", "flat"], ["flattened"]),
        helper.make_node("Transpose", ["flattened"], ["patches"], perm=[0, 2, 1]),
        helper.make_node("Pad", ["patches", "one_before"], ["tokens"]),
    ]
    kinds = {"fine": [batch, 4, "a", "b"], "coarse": [batch, 6, "c", "d"], "tokens": [batch, "t", 6]}
    graph = helper.make_graph(
        nodes,
        "backbone",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [batch, 3, *sides])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in kinds.items()],
        [numpy_helper.from_array(values, name) for name, values in held.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def write_dino(folder: Path, kind: str) -> torch.nn.Module:
    """A transformer of four layers and 32 channels, saved under the names that published weights have."""
    import transformers  # takes seconds, which tests of ONNX files need not wait

    torch.manual_seed(1)
    sizes = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2} | DINO[kind]
    model = transformers.AutoModel.from_config(transformers.CONFIG_MAPPING[kind](**sizes)).eval()
    transformers.utils.logging.disable_progress_bar()
    model.save_pretrained(folder)
    return model


def write_description(folder: Path, **changed: Any) -> str:
    """Write `described.yaml` for a `network.onnx` beside it, and give its path; `license=...` adds a key."""
    values: dict[str, Any] = {
        "network": "network.onnx",
        "taps": [{"output": "fine"}, {"output": "coarse"}],
        "mean": [0.5, 0.4, 0.3],
        "std": [0.2, 0.3, 0.4],
        "multiple": 16,
    }
    path = folder / "described.yaml"
    path.write_text(yaml.safe_dump(values | changed))
    return str(path)
