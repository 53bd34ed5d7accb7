"""From `model.stem` to the network."""

from __future__ import annotations

from raysvq.model.stems.description import read_description
from raysvq.model.stems.efficientnet import EfficientNetLite
from raysvq.model.stems.onnx_file import OnnxStem
from raysvq.model.stems.stem import Stem
from raysvq.model.stems.transformer import TransformerStem
from raysvq.settings.model import LITE_NAMES, ModelSettings


def build_stem(settings: ModelSettings) -> Stem:
    """The network that `model.stem` names, with random weights; `load` gives the pretrained ones.

    An ONNX file has its weights from the start.

    Raises:
        SettingsError: there is no such network, its description is wrong, or a package that it needs is not
            installed.
    """
    for name in LITE_NAMES:
        if settings.stem == name:
            return EfficientNetLite(name)
    description = read_description(settings.stem)
    return OnnxStem(description) if description.is_onnx else TransformerStem(description)
