"""`scoring` and `evaluation`: what a scoring job reads and writes, and how its scores are measured."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from raysvq.settings.section import Section


class ScoringSettings(Section):
    """What a scoring job reads and writes."""

    batch_images: int | None = Field(
        None,
        ge=1,
        description="Most images of a work unit, and rows of a Parquet file; none: up to 4096, by number and"
        " size of the images.",
    )
    max_pixels: int = Field(
        400_000_000, ge=1, description="Images with more pixels are rejected before decoding."
    )
    image_memory_mib: int = Field(
        1024,
        ge=1,
        description="Memory for the pixels of one image. Larger JPEG, PNG and TIFF images are read in"
        " bands of rows, others are rejected. An image also takes its file and half a byte per pixel.",
    )
    decode_timeout_s: float = Field(
        120.0,
        gt=0,
        description="An image, or a band of a large one, that takes longer to decode is rejected as crashed;"
        " seconds.",
    )
    max_rejected: float = Field(
        0.02,
        ge=0,
        le=1,
        description="Share of the images that may be rejected as not_found, access_denied, unreadable,"
        " changed, crashed or not_finite; beyond it the run stops, and goes on when it is started again.",
    )
    tile_batch: int = Field(64, ge=1, description="Tiles encoded at once; on CPUs fewer, if they are large.")
    models_memory_mib: int = Field(
        2048,
        ge=0,
        description="Memory for the weights of models that a worker keeps, where one job scores with several;"
        " the one at work is always kept.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="Precision of the encoder; auto: bfloat16 where the hardware has it and validation found"
        " that it moves this model's image scores by 2 % at most, else float32.",
    )
    device: Literal["auto", "cpu", "gpu"] = Field(
        "auto",
        description="What scores; auto: GPUs where one is up when the job starts, else CPUs. gpu waits for"
        " GPUs, and makes a cluster that grows by itself bring them.",
    )
    workers: int | None = Field(
        None, ge=1, description="Most processes that score at once; none: as many as there is room for."
    )
    per_gpu: int = Field(2, ge=1, le=64, description="Processes that share a GPU.")
    engine: Literal["auto", "torch", "openvino"] = Field(
        "auto",
        description="Library that computes the network; auto: openvino on CPUs where it is installed, for"
        " model.encoder=features with one of the stems that raysvq names, else torch.",
    )
    maps: Literal["labelled", "all", "none"] = Field(
        "labelled", description="Images whose anomaly maps are stored for `evaluate`."
    )
    heatmaps: Literal["none", "anomalous"] = Field(
        "none", description="anomalous: a heat-map overlay of each image at or above the threshold."
    )
    worst: int = Field(0, ge=0, description="Write heat-map overlays of this many highest-scored images.")
    partition_by: tuple[str, ...] = Field(
        (),
        description="Folders of the results: date (of captured_at), label, split, group, defect_type or"
        " metadata.",
    )
    retry_rejected: bool = Field(
        False,
        description="Score again what an earlier run rejected as not_found, access_denied, unreadable,"
        " changed or crashed.",
    )


class EvaluationSettings(Section):
    """Metrics and the report."""

    bootstrap: int = Field(1000, ge=0, description="Resamples for the intervals; 0 leaves them out.")
    confidence: float = Field(0.95, gt=0, lt=1, description="Coverage of the intervals.")
    fpr_limit: float = Field(
        0.3, gt=0, le=1, description="False-positive rate up to which AU-PRO integrates."
    )
    gallery: int = Field(
        300,
        ge=0,
        description="Images that the report shows as pictures, the most telling ones: mistakes, those nearest"
        " to the threshold, the highest scores, some ordinary ones. The others are rows without a picture.",
    )
    latent_images: int = Field(
        48,
        ge=0,
        le=1000,
        description="Test images, half of them anomalous, that the report's picture of encodings and codes is"
        " made from; 0 leaves it out.",
    )
