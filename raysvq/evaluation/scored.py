"""Score rows of the labelled test images, with the labels of their tiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raysvq.errors import DataError
from raysvq.evaluation.masks import MaskReader, tile_labels
from raysvq.evaluation.metrics import BoolArray
from raysvq.evaluation.result import Example
from raysvq.evaluation.tables import TestImage, committed_rows, list_column
from raysvq.settings import TileSettings
from raysvq.storage import ObjectInfo

_COLUMNS = ["image_id", "width", "height", "image_score", "is_anomalous", "threshold", "tiles", "run_id"]
_COLUMNS += ["model_digest", "model_version"]
_VERSION = ["uri", "size_bytes", "etag", "mtime"]


@dataclass(frozen=True)
class ScoredImage:
    """A labelled test image and its score row."""

    image: TestImage
    width: int
    height: int
    score: float
    flagged: bool
    threshold: float
    tile_scores: npt.NDArray[np.float32]
    tile_labels: BoolArray | None  # None where an anomalous image has no usable mask
    version: ObjectInfo

    def example(self) -> Example:
        """The image as the report shows it."""
        return Example(
            image_id=self.image.image_id,
            uri=self.image.uri,
            mask_uri=self.image.mask_uri,
            width=self.width,
            height=self.height,
            score=self.score,
            anomalous=self.image.anomalous,
            flagged=self.flagged,
            defect_type=self.image.defect_type,
            version=self.version,
        )


def read_scored(
    scores: str, images: dict[str, TestImage], masks: MaskReader, tiles: TileSettings, model_digest: str
) -> list[ScoredImage]:
    """Join the committed score rows to the labelled test images, in order of image id.

    Args:
        scores: URI of the score folder.
        images: image id -> labelled test image.
        masks: reads the masks that give tiles their labels.
        tiles: as the model was trained with.
        model_digest: of the model whose rows count.

    Raises:
        DataError: an image was scored twice or by another model, or a score is not finite.
    """
    found: dict[str, ScoredImage] = {}
    runs: dict[str, str] = {}
    others: dict[str, str] = {}  # URI of an image -> version of another model that scored it
    wanted = pa.array(list(images), pa.string())
    for batch in committed_rows(scores, "scores", _COLUMNS + _VERSION, wanted):
        plain = batch.drop_columns(["tiles"]).to_pylist()
        for row, cells in zip(plain, list_column(batch, "tiles"), strict=True):
            image = images[row["image_id"]]
            if row["model_digest"] != model_digest:
                others[image.uri] = row["model_version"]
                continue
            if image.image_id in found:
                raise DataError(
                    f"scores {scores}: {image.uri} was scored twice, in runs {runs[image.image_id]} and "
                    f"{row['run_id']}; expected once: evaluate a folder that one model wrote"
                )
            rects = np.stack([cells.field(side).to_numpy() for side in "xywh"], axis=1)
            tile_scores = cells.field("score").to_numpy().copy()  # a view would keep the whole batch
            if not (np.isfinite(row["image_score"]) and np.isfinite(tile_scores).all()):
                raise DataError(f"scores {scores}: {image.uri} has a score that is not finite")
            size = (row["height"], row["width"])
            runs[image.image_id] = row["run_id"]
            found[image.image_id] = ScoredImage(
                image=image,
                width=row["width"],
                height=row["height"],
                score=row["image_score"],
                flagged=row["is_anomalous"],
                threshold=row["threshold"],
                tile_scores=tile_scores,
                tile_labels=tile_labels(image, rects, size, masks, tiles),
                version=ObjectInfo(*(row[name] for name in _VERSION)),
            )
    if others:
        uri, version = next(iter(others.items()))
        raise DataError(
            f"scores {scores}: {len(others)} of {len(images)} test images were scored by another model, such"
            f" as {uri} by {version}; scores of different models cannot be ranked together: name that model"
            " with --model, take a manifest of what this one scored, or score all into a new folder"
        )
    return [found[image_id] for image_id in sorted(found)]


def image_arrays(images: Sequence[ScoredImage]) -> tuple[BoolArray, npt.NDArray[np.float64]]:
    """(labels, scores), one of each per image."""
    labels = np.array([scored.image.anomalous for scored in images], dtype=bool)
    return labels, np.array([scored.score for scored in images], dtype=np.float64)


def tile_arrays(images: Sequence[ScoredImage]) -> tuple[BoolArray, npt.NDArray[np.float32]]:
    """(labels, scores) of all tiles whose label is known."""
    labels, scores = [np.zeros(0, dtype=bool)], [np.zeros(0, dtype=np.float32)]
    for scored in images:
        if scored.tile_labels is not None:
            labels.append(scored.tile_labels)
            scores.append(scored.tile_scores)
    return np.concatenate(labels), np.concatenate(scores)
