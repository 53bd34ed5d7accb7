"""DINOv2 and DINOv3 vision transformers from a folder as Hugging Face has them; its hub is never asked.

Oquab et al., "DINOv2", TMLR 2024; Darcet et al., "Vision transformers need registers", ICLR 2024; Siméoni et
al., "DINOv3", 2025. Layers behind the last one that is asked for are left out.
"""

from __future__ import annotations

import math
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from raysvq.errors import SettingsError, first_line
from raysvq.model.stems.brought import BroughtStem, tokens_to_grid
from raysvq.model.stems.description import CONFIG, Description, read_config
from raysvq.model.stems.optional import import_extra
from raysvq.storage import join, read_bytes

_KINDS = ("dinov2", "dinov2_with_registers", "dinov3_vit")  # `model_type` in config.json
_WEIGHTS = "model.safetensors"


class TransformerStem(BroughtStem):
    """Patch tokens of hidden layers, as maps."""

    def __init__(self, description: Description) -> None:
        """Random weights; `load` gives those of the folder.

        Raises:
            SettingsError: the folder's network is of another kind, a tap is no hidden layer of it, or the
                package transformers is not installed.
        """
        folder, taps = description.uri, description.stem.taps
        config = _config(folder)
        layers = [_layer(folder, tap.output, config.num_hidden_layers) for tap in taps]
        config.num_hidden_layers = max(layers)
        super().__init__(
            description.stem,
            [config.hidden_size] * len(layers),
            folder,
            CONFIG,
            read_bytes(join(folder, CONFIG)),
        )
        self.multiple = math.lcm(self.multiple, config.patch_size)
        self._layers = layers
        self._patch: int = config.patch_size
        self.network = _transformers(folder).AutoModel.from_config(config)
        self.requires_grad_(False)
        self.eval()

    def load(self, uri: str | None) -> None:
        """Load `model.safetensors` of the folder. `uri` is None: no other weights are taken."""
        weights = join(self.uri, _WEIGHTS)
        try:
            state = safetensors.torch.load(read_bytes(weights))
        except (OSError, SafetensorError) as error:
            raise SettingsError(f"setting `model.stem`: {weights} cannot be read ({error})") from None
        try:
            # It also knows the names that weights had in earlier versions.
            found, report = type(self.network).from_pretrained(
                None, config=self.network.config, state_dict=state, output_loading_info=True
            )
        except RuntimeError as error:
            raise SettingsError(
                f"setting `model.stem`: {weights} holds a network of another size than"
                f" {join(self.uri, CONFIG)} says ({first_line(error)})"
            ) from None
        if report["missing_keys"]:
            raise SettingsError(
                f"setting `model.stem`: {weights} has no {', '.join(sorted(report['missing_keys'])[:3])};"
                f" expected all weights of the network in {join(self.uri, CONFIG)}"
            )
        self.network.load_state_dict(found.state_dict())

    def maps(self, pixels: Tensor) -> list[Tensor]:
        grid = [length // self._patch for length in pixels.shape[-2:]]
        given = self.normalised(pixels).to(self.network.dtype)
        states = self.network(pixel_values=given, output_hidden_states=True).hidden_states
        return [tokens_to_grid(states[layer], *grid) for layer in self._layers]


def _transformers(folder: str) -> Any:
    library = import_extra("transformers", "transformers", folder)
    library.utils.logging.set_verbosity_error()  # else it prints a table of the layers that are left out
    library.utils.logging.disable_progress_bar()
    return library


def _config(folder: str) -> Any:
    values = read_config(folder)
    kind = values.get("model_type")
    if kind not in _KINDS:
        raise SettingsError(
            f"setting `model.stem`: {join(folder, CONFIG)} has model_type={kind!r}; expected one of"
            f" {', '.join(_KINDS)}. Bring any other network as an ONNX file (docs/stems.md)"
        )
    config = _transformers(folder).CONFIG_MAPPING[kind].from_dict(values)
    config.dtype = "float32"
    return config


def _layer(folder: str, output: str | int, layers: int) -> int:
    if not isinstance(output, int) or not 1 <= output <= layers:
        raise SettingsError(
            f"setting `model.stem`: found the tap {output!r}; {folder} has hidden layers 1 to {layers}"
        )
    return output
