"""Committed score rows and rejects of the labelled test images, read as a stream."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raysvq.errors import DataError
from raysvq.evaluation.defects import Marks, Match, measure_mask
from raysvq.evaluation.labelled_images import TestImage, batches
from raysvq.evaluation.masks import MaskReader, tile_labels_of
from raysvq.evaluation.metrics import BoolArray
from raysvq.evaluation.result import ImageRecord, MapRegion, Rejected
from raysvq.log import ProgressMeter
from raysvq.results import committed_files
from raysvq.settings import TileSettings
from raysvq.storage import ObjectInfo

_COLUMNS = ["image_id", "width", "height", "image_score", "is_anomalous", "threshold", "tiles", "run_id"]
_COLUMNS += ["model_digest", "model_version", "regions"]
_OPTIONAL = ["p_value", "margin", "policy", "decision_group", "decisions_digest"]  # since format 5 of bundles
_EXAMPLES = 3  # rejected images that are named per reason
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
    marks: Marks | None = None  # None of a normal image, or without a usable mask
    regions: tuple[MapRegion, ...] = ()
    p_value: float | None = None
    margin: float | None = None
    policy: str | None = None
    decision_group: str | None = None
    decisions_digest: str | None = None

    def record(self, match: Match | None) -> ImageRecord:
        """The image as the result has it.

        Args:
            match: of its regions and its defects; None without a map, a pixel threshold or a needed mask.
        """
        marks = self.marks
        return ImageRecord(
            image_id=self.image.image_id,
            uri=self.image.uri,
            mask_uri=self.image.mask_uri,
            width=self.width,
            height=self.height,
            score=self.score,
            threshold=self.threshold,
            p_value=self.p_value,
            margin=self.margin,
            policy=self.policy,
            decision_group=self.decision_group,
            flagged=self.flagged,
            anomalous=self.image.anomalous,
            defect_type=self.image.defect_type,
            group=self.image.group,
            meta=self.image.meta,
            defect_area=marks.area if marks else None,
            defects=marks.defects if marks else None,
            largest_defect=marks.largest if marks else None,
            defects_found=int(match.found.sum()) if match and self.image.anomalous else None,
            false_regions=match.false_regions if match else None,
            regions=self.regions,
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
    meter = ProgressMeter(len(images), task="reading scores")
    for batch in committed_rows(scores, "scores", _COLUMNS + _VERSION, wanted, _OPTIONAL):
        plain = batch.drop_columns(["tiles"]).to_pylist()
        for row, cells in zip(plain, _list_column(batch, "tiles"), strict=True):
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
            mask = masks.read(image.mask_uri, row["height"], row["width"]) if image.anomalous else None
            runs[image.image_id] = row["run_id"]
            found[image.image_id] = ScoredImage(
                image=image,
                width=row["width"],
                height=row["height"],
                score=row["image_score"],
                flagged=row["is_anomalous"],
                threshold=row["threshold"],
                tile_scores=tile_scores,
                tile_labels=tile_labels_of(mask, image.anomalous, rects, tiles),
                version=ObjectInfo(*(row[name] for name in _VERSION)),
                marks=None if mask is None else measure_mask(mask),
                regions=tuple(MapRegion(**region) for region in row["regions"]),
                **{name: row.get(name) for name in _OPTIONAL},
            )
            meter.update(len(found))
    if others:
        uri, version = next(iter(others.items()))
        raise DataError(
            f"scores {scores}: {len(others)} of {len(images)} test images were scored by another model, such"
            f" as {uri} by {version}; scores of different models cannot be ranked together: name that model"
            " with --model, take a manifest of what this one scored, or score all into a new folder"
        )
    return [found[image_id] for image_id in sorted(found)]


def committed_rows(
    scores: str,
    kind: str,
    columns: Sequence[str],
    wanted: pa.Array,
    optional: Sequence[str] = (),
) -> Iterator[pa.RecordBatch]:
    """The committed rows with the wanted image ids, as many at a time as take little memory.

    Args:
        scores: URI of the score folder.
        kind: `scores` or `maps`.
        optional: columns that older folders lack.
    """
    for file in committed_files(scores, kind):
        for batch in batches(file, columns, optional):
            chosen = batch.filter(pc.is_in(batch["image_id"], wanted))
            if chosen.num_rows:
                yield chosen


def read_rejects(scores: str, images: dict[str, TestImage]) -> tuple[tuple[Rejected, ...], set[str]]:
    """All rejected images by reason, most frequent first; and the ids of those that are among `images`."""
    counts: Counter[str] = Counter()
    examples: dict[str, list[tuple[str, str]]] = {}
    among: set[str] = set()
    for file in committed_files(scores, "rejects"):
        for batch in batches(file, ["image_id", "uri", "reason", "detail"]):
            for row in batch.to_pylist():
                counts[row["reason"]] += 1
                some = examples.setdefault(row["reason"], [])
                if len(some) < _EXAMPLES:
                    some.append((row["uri"], row["detail"]))
                if row["image_id"] in images:
                    among.add(row["image_id"])
    groups = (Rejected(reason, number, tuple(examples[reason])) for reason, number in counts.most_common())
    return tuple(groups), among


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


def _list_column(batch: pa.RecordBatch, name: str) -> Iterator[Any]:
    """The values of a list<struct> column, one struct array per row."""
    column = batch[name]
    offsets = column.offsets.to_numpy()
    for start, stop in pairwise(offsets):
        yield column.values.slice(start, stop - start)
