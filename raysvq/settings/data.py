"""`split` and `tiles`: which images train, validate and test, and how each is cut."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from raysvq.settings.section import Section


class SplitSettings(Section):
    """Which images train, validate and test. Drawn by image, or by `group` where the set has one."""

    seed: int = Field(0, ge=0, description="Seed of the draw; the same seed gives the same split.")
    validation_fraction: float = Field(
        0.2, gt=0, lt=1, description="Share of the training pool used for validation."
    )
    test_fraction: float = Field(
        0.3, ge=0, lt=1, description="Share of normal images tested, for sets without a split of their own."
    )
    gamma: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Supervision level M / (M + N): outliers labelled for training; they leave the test.",
    )
    outliers: int | None = Field(
        None, ge=0, description="Number of labelled outliers in the training pool; instead of gamma."
    )

    @model_validator(mode="after")
    def _gamma_or_outliers(self) -> SplitSettings:
        if self.gamma is not None and self.outliers is not None:
            raise ValueError(f"gamma={self.gamma} and outliers={self.outliers} are both set; set one of them")
        return self


class TileSettings(Section):
    """How an image is cut, and when a tile counts as anomalous."""

    mode: Literal["tiles", "whole"] = Field(
        "tiles", description="tiles: cut at full resolution; whole: the image resized to one tile."
    )
    size: int = Field(64, ge=16, le=4096, multiple_of=8, description="Side of a tile, pixels.")
    stride: int | None = Field(
        None, ge=1, description="Distance between tiles, pixels; none means the tile size (no overlap)."
    )
    halo: int = Field(
        0,
        ge=0,
        le=2048,
        multiple_of=8,
        description="tiles, with model.encoder=features: pixels around a tile that the network sees too;"
        " beyond the image's edge they are mirrored. Its map, labels and scores are of the tile alone.",
    )
    channels: Literal[1, 3] = Field(
        3, description="3: colour, grey images are replicated; 1: grey, colour images become luminance."
    )
    significant_bits: int | None = Field(
        None,
        ge=9,
        le=16,
        description="Bits that the camera fills in 16-bit images, right-aligned, such as 12; none:"
        " all 16. Files that state their own full scale, such as a PGM's maxval of 4095, need none.",
    )
    anomalous_fraction: float = Field(
        0.05,
        ge=0,
        le=1,
        description="A tile is anomalous when at least this share of its mask is marked; 0 means any pixel.",
    )

    @model_validator(mode="after")
    def _no_gaps(self) -> TileSettings:
        if self.stride is not None and self.stride > self.size:
            raise ValueError(f"stride={self.stride} leaves gaps between tiles of size={self.size}")
        return self

    @model_validator(mode="after")
    def _surroundings(self) -> TileSettings:
        if self.halo and self.mode == "whole":
            raise ValueError(f"halo={self.halo} needs mode=tiles: nothing surrounds a whole image")
        return self

    @property
    def seen(self) -> int:
        """Side of what the network sees of a tile, its halo included, pixels."""
        return self.size + 2 * self.halo
