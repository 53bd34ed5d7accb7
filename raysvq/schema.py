"""Arrow schemas of the tables that stages hand to each other. A row is always one image."""

from __future__ import annotations

import pyarrow as pa

NORMAL, ANOMALOUS, UNKNOWN = "normal", "anomalous", "unknown"
LABELS = (NORMAL, ANOMALOUS, UNKNOWN)

TRAIN, VALIDATION, TEST, NONE = "train", "validation", "test", "none"
SPLITS = (TRAIN, VALIDATION, TEST, NONE)

TIMESTAMP = pa.timestamp("us", tz="UTC")

# The file an image was read from: enough to tell later whether it has changed.
SOURCE_FIELDS = [
    pa.field("image_id", pa.string(), nullable=False),  # 128-bit hash of the URI, hexadecimal
    pa.field("uri", pa.string(), nullable=False),
    pa.field("size_bytes", pa.int64(), nullable=False),
    pa.field("etag", pa.string()),  # object stores only
    pa.field("mtime", TIMESTAMP),
]

MANIFEST = pa.schema(
    [
        *SOURCE_FIELDS,
        pa.field("label", pa.string(), nullable=False),  # one of LABELS
        pa.field("mask_uri", pa.string()),
        pa.field("split", pa.string(), nullable=False),  # one of SPLITS
        pa.field("group", pa.string()),  # asset, part or lot: never straddles a split
        pa.field("defect_type", pa.string()),
        pa.field("captured_at", TIMESTAMP),
        pa.field("meta", pa.map_(pa.string(), pa.string())),  # site, line, camera, …
    ]
)

# Where a result came from.
PROVENANCE_FIELDS = [
    pa.field("run_id", pa.string(), nullable=False),
    pa.field("model_version", pa.string(), nullable=False),
    pa.field("model_digest", pa.string(), nullable=False),
    pa.field("settings_digest", pa.string(), nullable=False),
    pa.field("code_version", pa.string(), nullable=False),
    pa.field("precision", pa.string(), nullable=False),  # of the encoder: float32 or bfloat16
    pa.field("engine", pa.string()),  # torch or openvino; null in rows of earlier versions
    pa.field("scored_at", TIMESTAMP, nullable=False),
]

TILE = pa.struct(
    [
        pa.field("x", pa.int32()),  # left edge, pixels of the image
        pa.field("y", pa.int32()),
        pa.field("w", pa.int32()),
        pa.field("h", pa.int32()),
        pa.field("score", pa.float32()),  # eq. 5: root of the summed squared distances
    ]
)

REGION = pa.struct(
    [
        pa.field("x", pa.int32()),
        pa.field("y", pa.int32()),
        pa.field("w", pa.int32()),
        pa.field("h", pa.int32()),
        pa.field("area", pa.int64()),  # pixels of the image, to the map's resolution
        pa.field("peak", pa.float32()),
    ]
)

# What an image looks like, whatever its score. Null in rows of earlier versions.
SIGNAL_FIELDS = [
    pa.field("exposure", pa.float32()),  # stops: log2 of the mean linear luminance, 0 at full scale
    pa.field("contrast", pa.float32()),  # log2 of the deviation of grey values over their mean
    pa.field("sharpness", pa.float32()),  # log2 of the variance of the Laplacian over that of grey values
    pa.field("warmth", pa.float32()),  # log2 of linear red over blue; null for grey images
    pa.field("codes", pa.list_(pa.uint16())),  # nearest codes of up to 16 grid positions, drawn by image id
]

SCORES = pa.schema(
    [
        *SOURCE_FIELDS,
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("image_score", pa.float32(), nullable=False),
        pa.field("map_max", pa.float32(), nullable=False),
        pa.field("map_mean", pa.float32(), nullable=False),
        pa.field("area_over_threshold", pa.float32(), nullable=False),  # share of the image
        pa.field("is_anomalous", pa.bool_(), nullable=False),
        pa.field("threshold", pa.float32(), nullable=False),
        # Null in rows of earlier versions, these five.
        pa.field("p_value", pa.float64()),  # null too where the model kept no calibration scores
        pa.field("margin", pa.float32()),  # image_score / threshold - 1
        pa.field("policy", pa.string()),
        pa.field("decision_group", pa.string()),  # whose threshold decided; null: that of the whole
        pa.field("decisions_digest", pa.string()),
        pa.field("tiles", pa.list_(TILE), nullable=False),
        pa.field("regions", pa.list_(REGION), nullable=False),
        pa.field("heatmap_uri", pa.string()),
        *SIGNAL_FIELDS,
        *PROVENANCE_FIELDS,
    ]
)

# Of normal images, in a model's bundle: what new images are compared with.
REFERENCE = pa.schema(
    [
        pa.field("image_score", pa.float32(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        *SIGNAL_FIELDS,
    ]
)

REJECTS = pa.schema(
    [
        *SOURCE_FIELDS,
        pa.field("reason", pa.string(), nullable=False),  # a code of raysvq.imaging.decode.REASONS
        pa.field("detail", pa.string(), nullable=False),
        *PROVENANCE_FIELDS,
    ]
)

# Anomaly maps of images whose label is known, for pixel metrics and the report.
MAPS = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("map_height", pa.int32(), nullable=False),
        pa.field("map_width", pa.int32(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),  # of the image
        pa.field("height", pa.int32(), nullable=False),
        # Pixels the map spans from the top left corner; may pass the image's edge by part of a cell.
        pa.field("span_width", pa.int32(), nullable=False),
        pa.field("span_height", pa.int32(), nullable=False),
        pa.field("values", pa.binary(), nullable=False),  # float32, little endian, row-major
    ]
)
