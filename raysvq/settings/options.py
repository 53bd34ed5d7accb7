"""Every option, in sections. Field descriptions are what `raysvq settings` prints."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """`yes` and `on` are true in YAML, which would pass for 1."""
        if isinstance(value, bool) and cls.model_fields[info.field_name or ""].annotation is not bool:
            raise ValueError("expected something else than true or false (yes, no, on, off)")
        return value


class SplitSettings(_Section):
    """Who trains, who validates, who tests. Drawn by image, or by `group` where the set has one."""

    seed: int = Field(0, ge=0, description="Seed of the draw; the same seed gives the same split.")
    validation_fraction: float = Field(
        0.2, gt=0, lt=1, description="Share of the training pool kept for validation."
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
    def _one_way_to_say_it(self) -> SplitSettings:
        if self.gamma is not None and self.outliers is not None:
            raise ValueError(f"gamma={self.gamma} and outliers={self.outliers} are both set; set one of them")
        return self


class TileSettings(_Section):
    """How an image is cut, and when a tile counts as anomalous."""

    mode: Literal["tiles", "whole"] = Field(
        "tiles", description="tiles: cut at full resolution; whole: the image resized to one tile."
    )
    size: int = Field(64, ge=16, le=4096, multiple_of=8, description="Side of a tile, pixels.")
    stride: int | None = Field(
        None, ge=1, description="Distance between tiles, pixels; none means the tile size (no overlap)."
    )
    channels: Literal[1, 3] = Field(
        3, description="3: colour, grey images are replicated; 1: grey, colour images become luminance."
    )
    significant_bits: int | None = Field(
        None,
        ge=9,
        le=16,
        description="Of 16-bit images whose camera fills only so many bits, right-aligned, such as 12; none:"
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


class ModelSettings(_Section):
    """The ss-VQ-VAE network (paper, section IV-D)."""

    encoder: Literal["pixels", "features"] = Field(
        "pixels",
        description="pixels: the paper's network, from scratch; features: small layers on a frozen pretrained"
        " network, EfficientNet-Lite0.",
    )
    stem_weights: str | None = Field(
        None,
        description="features: safetensors file or URI of other weights; none: ImageNet's.",
    )
    hidden: int = Field(128, ge=8, description="Channels of the convolutions.")
    residual_hidden: int = Field(32, ge=4, description="pixels: channels inside a residual block.")
    residual_layers: int = Field(2, ge=0, description="pixels: residual blocks in encoder and decoder each.")
    codebook_size: int = Field(512, ge=2, description="K, number of embeddings.")
    embedding_dim: int = Field(
        64, ge=2, description="d, size of an embedding; features: of its learned part, beside the features."
    )
    codebook: Literal["ema", "gradient"] = Field(
        "ema", description="ema: moving averages of normal encodings; gradient: eq. 1's codebook loss."
    )
    decay: float = Field(0.99, gt=0, lt=1, description="Decay of the EMA codebook.")
    revive_below: float = Field(
        0.05, ge=0, lt=1, description="A code with less than this share of an even load is revived; 0 never."
    )


class ObjectiveSettings(_Section):
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
        description="Share of a step's unlabelled tiles, those with the largest loss, that is left out; they"
        " take part with training.unlabelled.",
    )


class TrainingSettings(_Section):
    """Length, pace and place of the training."""

    steps: int = Field(1500, ge=1, description="Optimiser steps; the paper takes 15,000.")
    batch_size: int = Field(128, ge=2, description="Tiles a step, over all workers.")
    outlier_share: float = Field(
        0.25, ge=0, lt=1, description="Share of a batch taken from labelled outliers, if there are any."
    )
    learning_rate: float = Field(
        1e-3, gt=0, description="Adam's learning rate at its peak, after a short warm-up; a cosine follows."
    )
    seed: int = Field(0, ge=0, description="Seed of weights, shuffles and codebook draws.")
    workers: int = Field(1, ge=1, description="Data-parallel workers.")
    min_workers: int | None = Field(
        None,
        ge=1,
        description="Start, and go on after a loss, with as few; others join when there is room. None: all.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: a GPU for each worker where the cluster has enough, else CPU."
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="Of encoder and decoder; auto: bfloat16 on GPUs that have it, else float32. Codebook,"
        " losses and validation are in float32.",
    )
    unlabelled: bool = Field(
        False, description="Take images without a label as normal, save those that objective.trim leaves out."
    )
    positions: int = Field(
        256,
        ge=1,
        description="features: grid positions of a tile that a step learns from, drawn at random; in labelled"
        " outliers the marked ones come first.",
    )
    outlier_copies: int = Field(
        0, ge=0, description="Copies of each labelled tile to learn from, slightly moved, scaled, brightened."
    )
    flips: bool = Field(True, description="Mirror batches at random; not for objects that face one way.")
    validate_every: int = Field(250, ge=1, description="Steps between validations and checkpoints.")
    patience: int | None = Field(
        None, ge=1, description="Stop after so many validations without a better AUROC; none: never."
    )
    validation_images: int = Field(512, ge=2, description="At most this many validation images are scored.")
    cache_mib: int = Field(
        512, ge=0, description="A worker keeps its tiles in memory after the first epoch, up to this size."
    )
    max_failures: int = Field(
        2, ge=0, description="Worker failures survived by restarting from a checkpoint."
    )

    @model_validator(mode="after")
    def _a_range(self) -> TrainingSettings:
        if self.min_workers is not None and self.min_workers > self.workers:
            raise ValueError(f"min_workers={self.min_workers} is more than workers={self.workers}")
        return self


class AnomalySettings(_Section):
    """From distance maps to image scores and thresholds. Stored with the model."""

    pooling: Literal["tile_max", "map_max", "top_k"] = Field(
        "top_k",
        description="Image score: largest tile score (eq. 5), largest map value, or mean of top_k largest.",
    )
    top_k: int = Field(16, ge=1, description="top_k: number of map cells averaged.")
    threshold_quantile: float = Field(
        0.99, gt=0, lt=1, description="Image threshold without validation outliers: quantile of the normals."
    )
    pixel_quantile: float = Field(
        0.999, gt=0, lt=1, description="Map threshold for regions: quantile over normal validation maps."
    )


class ScoringSettings(_Section):
    """What a scoring job reads and writes."""

    batch_images: int | None = Field(
        None,
        ge=1,
        description="Images a work unit, and rows a Parquet file; none: 16 to 4096, by their number.",
    )
    max_pixels: int = Field(
        400_000_000, ge=1, description="Images with more pixels are rejected before decoding."
    )
    image_memory_mib: int = Field(
        1024,
        ge=1,
        description="What the pixels of one image may take. Larger JPEG, PNG and TIFF images are read in"
        " bands of rows, others are rejected. Besides, an image takes its file and half a byte a pixel.",
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
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="Of the encoder; auto: bfloat16 where the hardware has it and validation found that it"
        " moves this model's image scores by 2 % at most, else float32.",
    )
    maps: Literal["labelled", "all", "none"] = Field(
        "labelled", description="Whose anomaly maps are kept for `evaluate`."
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


class EvaluationSettings(_Section):
    """Metrics and the report."""

    bootstrap: int = Field(1000, ge=0, description="Resamples for the intervals; 0 leaves them out.")
    confidence: float = Field(0.95, gt=0, lt=1, description="Coverage of the intervals.")
    fpr_limit: float = Field(
        0.3, gt=0, le=1, description="False-positive rate up to which AU-PRO integrates."
    )
    gallery: int = Field(8, ge=0, description="Images in each of the report's galleries.")


class RaySettings(_Section):
    """Which Ray cluster does the work."""

    address: str | None = Field(
        None, description="Cluster to join; none: the job's own cluster, else one started on this machine."
    )
    cpus: int | None = Field(None, ge=2, description="Logical CPUs of a cluster started on this machine.")
    object_store_mib: int = Field(
        1024, ge=128, description="Object store of a cluster started on this machine."
    )


class StorageSettings(_Section):
    """How object stores are opened. Applied by raysvq.storage.configure; never stored with a run."""

    endpoint_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s/@?]+/?$",
        description="Of an S3 store other than AWS; none: AWS_ENDPOINT_URL, else AWS.",
    )
    region: str | None = Field(None, description="Of the buckets; none: AWS_REGION.")
    access_key_id: SecretStr | None = Field(
        None, description="Of an S3 store; none: AWS_ACCESS_KEY_ID, else the machine's role."
    )
    secret_access_key: SecretStr | None = Field(
        None, description="Goes with access_key_id; none: AWS_SECRET_ACCESS_KEY, else the machine's role."
    )
    session_token: SecretStr | None = Field(
        None, description="Of temporary keys; goes with both. None: AWS_SESSION_TOKEN beside such keys."
    )
    ca_bundle: str | None = Field(
        None,
        min_length=1,
        description="PEM file, on every node, of the authorities that sign the store's certificate; none:"
        " AWS_CA_BUNDLE, else those of the system.",
    )
    retry_s: float = Field(
        60.0, ge=0, le=3600, description="How long a request is tried again while S3 brings nothing, seconds."
    )

    @model_validator(mode="after")
    def _both_keys(self) -> StorageSettings:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError("access_key_id and secret_access_key go together; set both or neither")
        if self.session_token is not None and self.access_key_id is None:
            raise ValueError("session_token goes with access_key_id and secret_access_key; set all three")
        return self


class TuningSettings(_Section):
    """How `raysvq tune` searches. Never stored with a run."""

    trials: int = Field(16, ge=2, description="Trials of a sweep; the first has the settings as they are.")
    sampler: Literal["qmc", "random", "grid"] = Field(
        "qmc",
        description="Of the trials' settings. qmc: Optuna's Sobol sequence, evenly over the space; random;"
        " grid: all combinations.",
    )
    seed: int = Field(0, ge=0, description="Of the sampler: the same trials in the same order.")
    known: tuple[dict[str, Any], ...] = Field(
        (), description="Points to try right after the defaults, such as [{objective.eta: 0.9}]."
    )
    metric: Literal["auto", "image_auroc", "tile_auroc", "au_pro", "synthetic_auroc"] = Field(
        "auto",
        description="What trials are judged by, on validation. auto: image_auroc; without labelled outliers"
        " synthetic_auroc, the image AUROC of normal images against the same with drawn-on defects.",
    )
    repeats: int = Field(
        1, ge=1, description="Trainings of a trial, each on another draw of training and validation images."
    )
    stop_early: bool = Field(
        True, description="Stop trials that fall behind the others (ASHA); the first one never."
    )
    most_train_s: float | None = Field(
        None, gt=0, description="A training that takes longer is not chosen; seconds."
    )
    most_image_ms: float | None = Field(
        None, gt=0, description="A model that takes longer is not chosen; CPU milliseconds an image."
    )
    most_model_mib: float | None = Field(
        None, gt=0, description="A model whose weights are larger is not chosen."
    )
    refit: bool = Field(
        False,
        description="Train the best settings on the labelled outliers of validation too; the threshold is"
        " then a quantile of the normal ones.",
    )


class Settings(_Section):
    """All of them. Every run stores these, `storage` and `tuning` excepted, resolved, and their digest."""

    split: SplitSettings = SplitSettings()
    tiles: TileSettings = TileSettings()
    model: ModelSettings = ModelSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    training: TrainingSettings = TrainingSettings()
    anomaly: AnomalySettings = AnomalySettings()
    scoring: ScoringSettings = ScoringSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    ray: RaySettings = RaySettings()
    storage: StorageSettings = Field(StorageSettings(), exclude=True)
    tuning: TuningSettings = Field(TuningSettings(), exclude=True)

    @model_validator(mode="after")
    def _stem_sees_colour(self) -> Settings:
        if self.model.encoder == "features" and self.tiles.channels != 3:
            raise ValueError(
                f"model.encoder=features needs tiles.channels=3, found {self.tiles.channels}; grey images are"
                " replicated"
            )
        return self
