"""Scores of images that calibrate decisions, divided among the ranks."""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch.distributed as dist

from raysvq.data.decision_group import group_columns, groups_of
from raysvq.data.manifest import chunks, open_manifest
from raysvq.decisions import CalibrationScores
from raysvq.evaluation.metrics import image_auroc
from raysvq.imaging.decode import DecodeError
from raysvq.imaging.signals import sample_codes
from raysvq.model.bundle import MOST_REFERENCE
from raysvq.model.bundle_summary import OPENVINO_DEVIATION
from raysvq.model.collective import world_size
from raysvq.model.device import relative_deviation
from raysvq.model.engines import EngineName, engines_with_bfloat16
from raysvq.model.scorer import ImageResult, ImageScorer
from raysvq.schema import ANOMALOUS, NORMAL, REFERENCE, VALIDATION
from raysvq.settings import Settings
from raysvq.storage import ObjectInfo, read_bytes, read_version

COMPARED = 64  # images that are also scored in bfloat16
_AT_ONCE = 16  # whole images encoded together
_VALUES_PER_IMAGE = 4096  # map values sampled from each normal image for the pixel threshold
_COLUMNS = ["image_id", "uri", "mask_uri", "size_bytes", "etag", "mtime", "group"]


@dataclass(frozen=True)
class ValidationImage:
    """An image to score, and its label."""

    uri: str
    anomalous: bool
    mask_uri: str | None = None
    indexed: ObjectInfo | None = None  # required version; None: any
    image_id: str = ""
    group: str | None = None  # by `decision.group_by`
    unit: str | None = None  # images of one unit count once together; None: not known, its own

    def read(self) -> bytes:
        """The file's content.

        Raises:
            OSError: it cannot be read, or is another version than the one indexed.
        """
        if self.indexed is None:
            return read_bytes(self.uri)
        indexed = self.indexed
        return read_version(self.uri, indexed.size_bytes, indexed.etag, indexed.mtime)


def validation_images(manifest: str, limit: int, group_by: str | None = None) -> list[ValidationImage]:
    """Labelled validation images, at most `limit`: outliers up to half, then normal ones.

    Of more images the ones with the smallest ids are taken, the same in every run.

    Args:
        group_by: a column or a key of `meta`, for `ValidationImage.group`.
    """
    return first_images(manifest, [VALIDATION], limit, group_by)


def first_images(
    manifest: str, splits: Sequence[str], limit: int, group_by: str | None = None
) -> list[ValidationImage]:
    """`validation_images` of some splits."""
    outliers = _first(manifest, splits, ANOMALOUS, limit // 2, group_by)
    return outliers + _first(manifest, splits, NORMAL, limit - len(outliers), group_by)


def _first(
    manifest: str, splits: Sequence[str], label: str, limit: int, group_by: str | None
) -> list[ValidationImage]:
    images = labelled_images(manifest, splits, label, group_by)
    return heapq.nsmallest(limit, images, key=lambda image: (image.image_id, image.uri))


def labelled_images(
    manifest: str, splits: Sequence[str], label: str, group_by: str | None
) -> Iterator[ValidationImage]:
    """The images of a label in some splits, each with the unit that the manifest names."""
    wanted = pc.field("split").isin(list(splits)) & (pc.field("label") == label)
    columns = sorted({*_COLUMNS, *group_columns(group_by)})
    for batch in open_manifest(manifest).to_batches(columns=columns, filter=wanted):
        for row, group in zip(batch.to_pylist(), groups_of(batch, group_by), strict=True):
            version = ObjectInfo(row["uri"], row["size_bytes"], row["etag"], row["mtime"])
            yield ValidationImage(
                uri=row["uri"],
                anomalous=label == ANOMALOUS,
                mask_uri=row["mask_uri"],
                indexed=version,
                image_id=row["image_id"],
                group=group,
                unit=None if row["group"] is None else unit_of_group(row["group"]),
            )


def unit_of_group(group: str) -> str:
    """The unit of all images of a `group` of the manifest; no image id is like it."""
    return f"group {group}"


@dataclass(frozen=True)
class ScoredImage:
    """The score of an image, and some values of its map if it is a normal one."""

    image: ValidationImage
    score: float
    cells: npt.NDArray[np.float32]


def scored_image(
    image: ValidationImage,
    score: float,
    anomaly_map: npt.NDArray[np.float32],
    seed: int,
    max_values: int = _VALUES_PER_IMAGE,
) -> ScoredImage:
    """Sample map values of a normal image, the same for a seed and image wherever it is scored."""
    cells = np.zeros(0, np.float32)
    if not image.anomalous:
        name = hashlib.blake2b((image.image_id or image.uri).encode(), digest_size=8).digest()
        rng = np.random.default_rng([seed, int.from_bytes(name, "big")])
        values = anomaly_map.ravel()
        cells = rng.choice(values, min(max_values, _VALUES_PER_IMAGE, values.size), replace=False)
    return ScoredImage(image, score, cells)


def validate(
    scorer: ImageScorer,
    images: Sequence[ValidationImage],
    rank: int = 0,
    require_decodable: Callable[[str, bytes], None] = lambda uri, content: None,
    may_be_selected: Callable[[float | None], bool] = lambda auroc: True,
) -> dict[str, Any]:
    """Score every image, each on one rank; all ranks return the same, whatever their number.

    Args:
        require_decodable: raises DecodeError for an image that is not to be decoded in this process.
        may_be_selected: whether a model of this AUROC may be the one that training selects; only then its
            deviation in bfloat16 is measured. The same on all ranks.

    Returns:
        What `outcome_of` gives, with `bfloat16_deviation`: the largest relative one over some of the images,
        None where it is not measured; OPENVINO_DEVIATION: the same with OpenVINO; and `reference`: what
        normal images look like.
    """
    mine: list[tuple[int, ScoredImage]] = []
    looks: list[dict[str, Any]] = []
    unreadable: list[str] = []
    at_once = _AT_ONCE if scorer.settings.tiles.mode == "whole" else 1  # else images of any size are held
    for numbers in chunks(range(rank, len(images), world_size()), at_once):
        results = _results(scorer, [images[number] for number in numbers], require_decodable)
        for number, result in zip(numbers, results, strict=True):
            image = images[number]
            if not isinstance(result, ImageResult):
                unreadable.append(image.uri)
                continue
            seed = scorer.settings.training.seed
            mine.append((number, scored_image(image, result.image_score, result.anomaly_map, seed)))
            if not image.anomalous:
                looks.append(_look(image, result))
    gathered, failed, looked = (_gather(part) for part in (mine, unreadable, looks))
    in_order = [scored for _, scored in sorted(gathered, key=lambda item: item[0])]
    found = outcome_of(in_order, scorer.settings, sorted(failed))
    found["reference"] = sorted(looked, key=lambda look: look["image_id"])[:MOST_REFERENCE]
    largest: dict[EngineName, float] = {}
    if may_be_selected(found["auroc"]):
        compared = range(0, len(images), -(-len(images) // COMPARED))
        largest = _bfloat16_deviations(scorer, [scored for number, scored in mine if number in compared])
    return found | {"bfloat16_deviation": largest.get("torch"), OPENVINO_DEVIATION: largest.get("openvino")}


def _results(
    scorer: ImageScorer,
    images: Sequence[ValidationImage],
    require_decodable: Callable[[str, bytes], None],
) -> list[ImageResult | DecodeError | OSError]:
    """The result of each image, or why it cannot be read."""
    contents: dict[int, bytes] = {}
    found: dict[int, ImageResult | DecodeError | OSError] = {}
    for place, image in enumerate(images):
        try:
            content = image.read()
            require_decodable(image.uri, content)
            contents[place] = content
        except (DecodeError, OSError) as error:
            found[place] = error
    found |= zip(contents, scorer.score_many(list(contents.values())), strict=True)
    return [found[place] for place in range(len(images))]


def _bfloat16_deviations(scorer: ImageScorer, exact: Sequence[ScoredImage]) -> dict[EngineName, float]:
    """The largest relative deviation of image scores over the images of all ranks, by engine.

    Args:
        exact: images of this rank, with their scores in float32.
    """
    engines = engines_with_bfloat16(scorer.settings.model, scorer.model.has_bfloat16)
    scorers = {engine: scorer.in_bfloat16(engine) for engine in engines}
    deviations: list[tuple[EngineName, float]] = []
    for one in exact if scorers else ():
        with suppress(OSError):  # it could be read a moment ago; one fewer is compared
            content = one.image.read()
            for engine, in_bfloat16 in scorers.items():
                deviations.append((engine, relative_deviation(in_bfloat16(content).image_score, one.score)))
    gathered = _gather(deviations)
    return {engine: max(value for of, value in gathered if of == engine) for engine, _ in gathered}


def _look(image: ValidationImage, result: ImageResult) -> dict[str, Any]:
    """What a normal image looks like: columns of REFERENCE but for the score, and the image's id."""
    return asdict(result.signals) | {
        "image_id": image.image_id,
        "width": result.tiling.width,
        "height": result.tiling.height,
        "codes": sample_codes(result.codes, image.image_id).tolist(),
    }


def reference_of(outcome: dict[str, Any]) -> pa.Table:
    """Rows of REFERENCE: what validation saw of normal images, with the scores that calibrate."""
    scores = dict(zip(outcome["image_ids"], outcome["image_scores"], strict=True))
    seen = outcome.get("reference", ())  # a checkpoint of an earlier version has none
    looks = (look | {"image_score": scores.get(look["image_id"])} for look in seen)
    return pa.Table.from_pylist([row for row in looks if row["image_score"] is not None], schema=REFERENCE)


def outcome_of(
    scored: Sequence[ScoredImage], settings: Settings, unreadable: Sequence[str]
) -> dict[str, Any]:
    """What is kept of scored images, as plain values.

    Returns:
        One value per image: `image_ids`, `image_scores`, `anomalous`, `groups`, `units`, `masks` (URIs); of
        all `auroc` (None without both kinds), `pixel_threshold` (above it lies
        `decision.pixel_false_alarm_rate` of the sampled map values of normal images), `unreadable` URIs.
    """
    images = [one.image for one in scored]
    scores = np.array([one.score for one in scored], np.float32)
    anomalous = np.array([image.anomalous for image in images], bool)
    cells = [one.cells for one in scored if one.cells.size]
    level = 1 - settings.decision.pixel_false_alarm_rate
    return {
        "image_ids": [image.image_id for image in images],
        "image_scores": scores.tolist(),
        "anomalous": anomalous.tolist(),
        "groups": [image.group for image in images],
        "units": [image.unit or image.image_id or image.uri for image in images],
        "masks": [image.mask_uri if image.anomalous else None for image in images],
        "auroc": image_auroc(anomalous, scores) if anomalous.any() and not anomalous.all() else None,
        "pixel_threshold": float(np.quantile(np.concatenate(cells), level)) if cells else None,
        "unreadable": list(unreadable),
    }


def calibration_scores(outcome: dict[str, Any]) -> CalibrationScores:
    """The scores of an outcome, to fit decisions on."""
    return CalibrationScores(
        np.array(outcome["image_scores"], np.float32),
        np.array(outcome["anomalous"], bool),
        outcome["groups"],
        outcome["units"],
    )


def digest_of_scores(outcome: dict[str, Any]) -> str:
    """16 hexadecimal digits over the images of an outcome, their labels, groups, units and scores."""
    columns = ("image_ids", "anomalous", "groups", "units", "image_scores")
    rows = sorted(zip(*(outcome[name] for name in columns), strict=True), key=lambda row: row[0])
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def _gather(items: list[Any]) -> list[Any]:
    """The items of all ranks, in rank order."""
    if world_size() == 1:
        return items
    parts: list[list[Any]] = [[] for _ in range(world_size())]
    dist.all_gather_object(parts, items)
    return [item for part in parts for item in part]
