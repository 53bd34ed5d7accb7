"""Fit the decisions of a model anew, without training: on images that it has not learnt from."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raysvq.data.manifest import Row, open_manifest, require_distinct_rows, write_manifest
from raysvq.decisions import Decisions, fit_decisions
from raysvq.errors import DataError
from raysvq.evaluation.score_rows import committed_rows
from raysvq.model.alias import resolve
from raysvq.model.bundle import (
    MOST_REFERENCE,
    Bundle,
    load_bundle,
    load_reference,
    save_bundle,
    save_card,
    save_decisions,
    save_reference,
)
from raysvq.model.bundle_summary import DECISIONS
from raysvq.schema import ANOMALOUS, MANIFEST, NONE, NORMAL, REFERENCE, SIGNAL_FIELDS, TEST, TRAIN, VALIDATION
from raysvq.scoring.job import score
from raysvq.settings import DecisionSettings, Settings, merge_decision
from raysvq.storage import canonical, configure, exists, join, read_bytes, write_bytes
from raysvq.tables import stream
from raysvq.training.chunks import find_units
from raysvq.training.export import TRAINING_IDS
from raysvq.training.validation import (
    ScoredImage,
    ValidationImage,
    calibration_scores,
    digest_of_scores,
    labelled_images,
    outcome_of,
    scored_image,
)

FOLDER = "_calibration"  # in the bundle: what `calibrate` scores
_COMPARED = 4096  # images among which near-duplicates are looked for
_MAP_VALUES = 2**24  # sampled from all maps


@dataclass(frozen=True)
class Calibrated:
    """What a calibration did."""

    model: str  # bundle with the new decisions
    before: Decisions
    after: Decisions
    images: dict[str, int]  # label -> images that calibrated
    left_out: dict[str, int]  # reason -> images
    has_maps: bool  # without them the pixel threshold stays
    compared: bool  # whether near-duplicates were looked for

    def lines(self) -> Iterator[str]:
        """For people."""
        yield (
            f"calibrated on {self.images[NORMAL]} normal and {self.images[ANOMALOUS]} anomalous images"
            " that the model has not learnt from"
        )
        for reason, images in self.left_out.items():
            if images:
                yield f"  left out: {images} {reason}"
        if not self.compared:
            yield f"  more than {_COMPARED} images: near-duplicates are not looked for, each counts by itself"
        yield (
            f"threshold {self.before.threshold:.4g} ({self.before.policy}) ->"
            f" {self.after.threshold:.4g} ({self.after.policy})"
        )
        pixel = f"{self.after.pixel_threshold:.4g}"
        if self.has_maps:
            yield f"pixel threshold {self.before.pixel_threshold:.4g} -> {pixel}"
        else:
            yield f"pixel threshold {pixel} stays: these scores have no maps to fit it on"
        yield self.after.promise.sentence
        yield from self._groups()
        yield f"written to {join(self.model, DECISIONS)}"

    def _groups(self) -> Iterator[str]:
        if not self.after.groups:
            return
        width = max(len(name) for name in (*self.after.groups, "group"))
        yield f"{'group':<{width}}  normals  threshold"
        for name, group in sorted(self.after.groups.items()):
            yield f"{name:<{width}}  {group.normals:>7}  {group.threshold:>9.4g}"


def calibrate_model(
    model: str, manifest: str, settings: Settings, scores: str | None = None, out: str | None = None
) -> Calibrated:
    """Fit decisions on the labelled images of a manifest, and write them into the bundle.

    Images that the model has learnt from are left out, and those of the test split, which measure it. The
    others are scored into `_calibration` of the bundle, as `raysvq score` does.

    Args:
        model: URI of a bundle, or an alias.
        manifest: URI of a manifest.
        settings: of `decision` those that are given replace those of the model's last calibration.
        scores: folder of committed scores of this model, which then is not run.
        out: folder for a copy of the bundle with the new decisions; the model stays as it is.

    Raises:
        DataError: there is no normal image to calibrate on, or no score of one by this model.
        BundleError, SettingsError, StorageError: an input cannot be read, or the place not be written.
        ScoringError, AccountingError: as `raysvq.scoring.job.score`.
    """
    configure(settings.storage)
    model, manifest = resolve(model), canonical(manifest)
    place = model if out is None else canonical(out)
    if out is not None and exists(join(place, "bundle.json")):
        raise DataError(f"{place} already holds a model; choose another --out, or remove it")
    bundle = load_bundle(model)
    own = settings_of(bundle, settings)
    require_distinct_rows(open_manifest(manifest))
    images, left_out = _choose(manifest, model, own.decision)
    if not any(not image.anomalous for image in images):
        reasons = (
            ", ".join(f"{count} {reason}" for reason, count in left_out.items() if count) or "none at all"
        )
        raise DataError(
            f"manifest {manifest}: found no normal image to calibrate on ({reasons}); expected images"
            " labelled `normal` that the model has not learnt from"
        )
    folder = canonical(scores) if scores is not None else _score(manifest, model, images, place, settings)
    scored = _read(folder, images, bundle, own, maps=scores is None)
    left_out["that this model has not scored"] = len(images) - len(scored)
    if not any(not one.image.anomalous for one in scored):
        raise DataError(
            f"scores {folder}: found no score of a normal image by model {bundle.model_version}; expected a"
            " folder that `raysvq score` filled with this model and this manifest"
        )
    compared = len(scored) <= _COMPARED
    if compared:
        known = find_units([one.image for one in scored], own, lambda part: part())
        scored = [replace(one, image=image) for one, image in zip(scored, known, strict=True)]
    outcome = outcome_of(scored, own, [])
    pixel = outcome["pixel_threshold"]
    data = {"manifest": manifest, "scored_by": "the model", "images": len(scored)}
    data |= {"digest": digest_of_scores(outcome), "left_out": left_out}
    after = fit_decisions(
        calibration_scores(outcome),
        own.decision,
        bundle.decisions.pixel_threshold if pixel is None else pixel,
        data,
    )
    new = _reference(folder, scored, bundle)
    has_signals = new["exposure"].null_count < len(new)  # scores of an earlier version have none
    if (reference := new if has_signals else load_reference(model)) is not None:
        save_reference(reference, place)
    _write(bundle, after, model, place)
    anomalous = sum(outcome["anomalous"])
    counts = {NORMAL: len(scored) - anomalous, ANOMALOUS: anomalous}
    return Calibrated(place, bundle.decisions, after, counts, left_out, pixel is not None, compared)


def settings_of(bundle: Bundle, given: Settings) -> Settings:
    """The model's settings, with the decision settings that are given in place of its own.

    Its own are those of its last calibration, else of its training.

    Raises:
        SettingsError: they do not go together.
    """
    own = bundle.decisions.settings or bundle.settings.decision.model_dump()
    merged = merge_decision(own, given.decision)
    return bundle.settings.model_copy(update={"decision": merged})


def _choose(
    manifest: str, model: str, settings: DecisionSettings
) -> tuple[list[ValidationImage], dict[str, int]]:
    """The images to calibrate on, and how many are left out for which reason."""
    learnt = _training_ids(model)
    images: list[ValidationImage] = []
    count = {"that the model has learnt from": 0, "of the test split": 0, "of the split none": 0}
    for label in (NORMAL, ANOMALOUS):
        for split in (TRAIN, VALIDATION):
            for image in labelled_images(manifest, [split], label, settings.group_by):
                if image.image_id in learnt if learnt is not None else split == TRAIN:
                    count["that the model has learnt from"] += 1
                else:
                    images.append(image)
        for split in (TEST, NONE):
            number = sum(1 for _ in labelled_images(manifest, [split], label, None))
            count["of the test split" if split == TEST else "of the split none"] += number
    return images, count


def _training_ids(model: str) -> set[str] | None:
    """Ids of the images that a model has learnt from; None of one that an earlier version trained."""
    try:
        content = read_bytes(join(model, TRAINING_IDS))
    except FileNotFoundError:
        return None
    return set(pq.read_table(io.BytesIO(content))["image_id"].to_pylist())


def _score(manifest: str, model: str, images: list[ValidationImage], place: str, settings: Settings) -> str:
    """Score the images with their maps; the folder of the scores."""
    wanted = {image.image_id for image in images}

    def rows() -> Iterator[Row]:
        for batch in stream(open_manifest(manifest), MANIFEST.names):
            yield from (row for row in batch.to_pylist() if row["image_id"] in wanted)

    chosen, folder = join(place, FOLDER, "manifest.parquet"), join(place, FOLDER, "scores")
    write_manifest(rows(), chosen)
    scoring = settings.scoring.model_copy(update={"maps": "all", "worst": 0, "partition_by": ()})
    score(chosen, model, folder, settings.model_copy(update={"scoring": scoring}))
    return folder


def _read(
    folder: str, images: list[ValidationImage], bundle: Bundle, settings: Settings, maps: bool
) -> list[ScoredImage]:
    """The images that this model has scored, in order of their ids."""
    by_id = {image.image_id: image for image in images}
    wanted = pa.array(list(by_id), pa.string())
    found: dict[str, float] = {}
    for batch in committed_rows(folder, "scores", ["image_id", "image_score", "model_digest"], wanted):
        for row in batch.to_pylist():
            if row["model_digest"] == bundle.model_digest:
                found[row["image_id"]] = row["image_score"]
    cells: dict[str, Any] = {}
    values = max(1, _MAP_VALUES // max(1, len(found)))
    for batch in committed_rows(folder, "maps", ["image_id", "values"], wanted) if maps else ():
        for row in batch.to_pylist():
            image = by_id[row["image_id"]]
            anomaly_map = np.frombuffer(row["values"], "<f4")
            seed = settings.training.seed
            cells[image.image_id] = scored_image(image, 0.0, anomaly_map, seed, values).cells
    none = np.zeros(0, np.float32)
    return [ScoredImage(by_id[one], found[one], cells.get(one, none)) for one in sorted(found)]


def _reference(folder: str, scored: list[ScoredImage], bundle: Bundle) -> pa.Table:
    """Rows of REFERENCE of the normal images that calibrated."""
    normal = [one.image.image_id for one in scored if not one.image.anomalous][:MOST_REFERENCE]
    optional = [field.name for field in SIGNAL_FIELDS]
    columns = ["image_id", "image_score", "width", "height", "model_digest"]
    batches = committed_rows(folder, "scores", columns, pa.array(normal, pa.string()), optional)
    return pa.concat_tables([REFERENCE.empty_table(), *(_of_model(batch, bundle) for batch in batches)])


def _of_model(batch: pa.RecordBatch, bundle: Bundle) -> pa.Table:
    table = pa.Table.from_batches([batch])
    return (
        table.filter(pc.field("model_digest") == bundle.model_digest).select(REFERENCE.names).cast(REFERENCE)
    )


def _write(bundle: Bundle, decisions: Decisions, model: str, place: str) -> None:
    """Write decisions and card beside the weights; of a copy, and of an earlier format, the whole bundle."""
    if place == model and exists(join(model, DECISIONS)):
        save_decisions(decisions, model)
        save_card(replace(bundle, decisions=decisions), model)
        return
    if place != model and exists(join(model, TRAINING_IDS)):
        write_bytes(join(place, TRAINING_IDS), read_bytes(join(model, TRAINING_IDS)))
    save_bundle(replace(bundle, decisions=decisions), place)
