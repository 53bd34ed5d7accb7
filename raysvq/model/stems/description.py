"""The YAML file that describes a backbone which a user brings."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator

from raysvq.errors import SettingsError
from raysvq.settings.files import parse_yaml, problem_of
from raysvq.settings.section import Section
from raysvq.storage import canonical, exists, join, read_bytes

FILE = "stem.yaml"  # in a model bundle
CONFIG = "config.json"  # of a folder of Hugging Face's
_PREPROCESSOR = "preprocessor_config.json"
_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}

Colour = tuple[float, float, float]


class TapSection(Section):
    """One output that becomes features."""

    output: str | int = Field(
        description="ONNX: name of an output of the file, or its number from 0. Transformer: number of a"
        " hidden layer; 1 is behind the first."
    )
    side: int = Field(
        1, ge=1, description="Positions of the output, across and down, over which it is averaged; odd."
    )

    @field_validator("side")
    @classmethod
    def _odd(cls, side: int) -> int:
        if side % 2 == 0:
            raise ValueError("expected an odd number, so that there is a middle")
        return side


class StemSection(Section):
    """A backbone, and what of it becomes features."""

    network: str = Field(
        min_length=1,
        description="ONNX file, or folder with config.json and model.safetensors of a DINOv2 or DINOv3; path"
        " or URI, relative ones from the folder of this file.",
    )
    taps: tuple[TapSection, ...] = Field(min_length=1, description="What becomes features, joined in order.")
    mean: Colour = Field(description="Subtracted from red, green and blue, which lie between 0 and 1.")
    std: Colour = Field(description="Divides them afterwards.")
    cell: Literal[8] = Field(
        8, description="Side of a grid position in pixels, to which every output is resampled; 8 alone."
    )
    multiple: int = Field(
        1,
        ge=1,
        description="Sides of images that the backbone takes are multiples of it. Where an ONNX file gives"
        " tokens, the side of their patches.",
    )
    license: str | None = Field(None, description="Licence of the weights, which the bundle carries along.")

    @field_validator("std")
    @classmethod
    def _positive(cls, std: Colour) -> Colour:
        if min(std) <= 0:
            raise ValueError("expected three numbers above 0")
        return std


@dataclass(frozen=True)
class Description:
    """A backbone's description, and where the backbone is."""

    stem: StemSection
    uri: str  # of the ONNX file or folder

    @property
    def is_onnx(self) -> bool:
        """Whether it is an ONNX file; else it is a folder."""
        return self.uri.endswith(".onnx")


def read_description(uri: str) -> Description:
    """Read a `.yaml` file, or describe a folder of Hugging Face's by what is usual.

    Raises:
        SettingsError: it is neither, or a key of the file is unknown, missing or impossible.
    """
    uri = canonical(uri)
    if not uri.endswith((".yaml", ".yml")):
        return Description(_usual(uri), uri)
    try:
        values = parse_yaml(_read(uri).decode("utf-8-sig"))
    except (UnicodeDecodeError, yaml.YAMLError, SettingsError) as error:
        what = problem_of(error)[1] if isinstance(error, yaml.YAMLError) else error
        raise SettingsError(f"setting `model.stem`: {uri} is not valid YAML ({what})") from None
    if not isinstance(values, dict):
        raise SettingsError(f"setting `model.stem`: {uri} is not a section; expected {_keys()}")
    stem = _validated(values, uri)
    return Description(stem, _beside(uri, stem.network))


def _usual(folder: str) -> StemSection:
    """Two hidden layers, that in the middle and the last one, and the colours of the preprocessor."""
    if folder.endswith((".onnx", ".pt2", ".pt", ".pth", ".safetensors")):
        raise SettingsError(
            f"setting `model.stem`: {folder} says nothing of its outputs and colours; expected a .yaml file"
            " that describes an ONNX file (docs/stems.md)"
        )
    layers = read_config(folder).get("num_hidden_layers")
    if not isinstance(layers, int) or layers < 2:
        raise SettingsError(
            f"setting `model.stem`: {join(folder, CONFIG)} has num_hidden_layers={layers!r}; expected a"
            " number of at least 2, as transformers have it"
        )
    preprocessor = join(folder, _PREPROCESSOR)
    found = _read_json(preprocessor) if exists(preprocessor) else {}
    colours = {name: found.get(f"image_{name}", usual) for name, usual in _IMAGENET.items()}
    taps = [{"output": layers // 2}, {"output": layers}]
    return _validated({"network": folder, "taps": taps} | colours, preprocessor)


def _validated(values: dict[str, Any], source: str) -> StemSection:
    try:
        return StemSection.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(_problem(item) for item in error.errors())
        raise SettingsError(f"setting `model.stem`: {source}: {problems}") from None


def read_config(folder: str) -> dict[str, Any]:
    """The `config.json` of a folder. Raises SettingsError."""
    return _read_json(join(folder, CONFIG))


def _read_json(uri: str) -> dict[str, Any]:
    try:
        return dict(json.loads(_read(uri)))
    except (ValueError, TypeError) as error:
        raise SettingsError(f"setting `model.stem`: {uri} is not a JSON object ({error})") from None


def _read(uri: str) -> bytes:
    try:
        return read_bytes(uri)
    except OSError as error:
        raise SettingsError(
            f"setting `model.stem`: {uri} cannot be read ({error.strerror or error}); expected"
            " efficientnet-lite0, -lite1 or -lite2, a .yaml file, or a folder with config.json"
        ) from None


def _beside(file: str, network: str) -> str:
    elsewhere = "://" in network or network.startswith(("/", "~"))
    return canonical(network if elsewhere else join(file.rpartition("/")[0], network))


def _keys() -> str:
    return ", ".join(StemSection.model_fields)


def _problem(item: Any) -> str:
    key = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        fields = TapSection if item["loc"][0] == "taps" else StemSection
        return f"unknown key `{key}`; expected {', '.join(fields.model_fields)}"
    return f"`{key}`: {item['msg'].removeprefix('Value error, ')}"
