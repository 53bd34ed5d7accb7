"""Join committed scores with the labels of the manifest, and compute metrics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow.compute as pc

from raysvq import schema
from raysvq.decisions import Decisions
from raysvq.errors import DataError
from raysvq.evaluation.confusion import confusion
from raysvq.evaluation.labelled_images import ManifestView, read_manifest
from raysvq.evaluation.masks import MaskReader
from raysvq.evaluation.measure import measure_group
from raysvq.evaluation.metrics import BoolArray, FloatArray, roc_points
from raysvq.evaluation.operating_points import operating_points
from raysvq.evaluation.outcome import compare_with_promise
from raysvq.evaluation.pixel_metrics import PixelResult, measure_pixels
from raysvq.evaluation.result import Costs, Counts, Evaluation, Histogram, OperatingPoint, Provenance
from raysvq.evaluation.score_rows import ScoredImage, image_arrays, read_rejects, read_scored
from raysvq.evaluation.slices import measure_slices
from raysvq.results import RunRecord, Snapshot, read_results
from raysvq.results.reader import open_snapshot
from raysvq.settings import EvaluationSettings, TileSettings

NO_COSTS = Costs(None, None, None)

_BINS = 40  # of the histogram of scores
_WIDE = 10  # scores with a larger ratio of largest to smallest get logarithmic bins


def evaluate(
    manifest: str,
    scores: str,
    settings: EvaluationSettings,
    tiles: TileSettings,
    model_digest: str | None = None,
    decisions: Decisions | None = None,
    costs: Costs = NO_COSTS,
) -> Evaluation:
    """Compute the metrics of a model on the labelled test split.

    The score rows of these images are held in memory; their masks and maps are read one at a time.

    Args:
        manifest: URI of a manifest, a Parquet file or a folder of them.
        scores: URI of the folder that `raysvq score` wrote.
        settings: of metrics and report.
        tiles: as the model was trained with.
        model_digest: of the model whose scores count, where the folder holds scores of several models. None
            takes the model of the last run.
        decisions: of the model: its pixel threshold and its promise; None leaves out what follows from them.
        costs: of wrong decisions, for operating points.

    Raises:
        DataError: no scoring run of that model has finished, another model scored the test images, or a
            table is damaged.
        StorageError: a file cannot be read.
    """
    view = read_manifest(manifest)
    results = read_results(scores)
    provenance = _provenance(manifest, scores, results.runs, model_digest or results.runs[-1].model_digest)
    rejected, refused = read_rejects(scores, view.images)
    masks = MaskReader()
    images = read_scored(scores, view.images, masks, tiles, provenance.model_digest)
    pixels = measure_pixels(
        scores,
        {item.image.image_id: item.image for item in images},
        masks,
        None if decisions is None else decisions.pixel_threshold,
    )
    labels, values = image_arrays(images)
    thresholds = {item.threshold for item in images}
    threshold = thresholds.pop() if len(thresholds) == 1 else None
    slices, left_out = measure_slices(images, pixels.by_defect_type, settings)
    decided_otherwise = _decided_otherwise(images, decisions)
    promise = None if decisions is None else decisions.promise
    outcome = None if promise is None or decided_otherwise else compare_with_promise(promise, images)
    return Evaluation(
        provenance=provenance,
        settings=settings,
        tiles=tiles,
        counts=_counts(results, provenance, view, images, refused),
        overall=measure_group(images, pixels.overall, settings),
        slices=slices,
        promise=promise,
        outcome=outcome,
        costs=costs,
        operating_points=_operating_points(images, threshold, costs),
        defects=pixels.defects,
        threshold=threshold,
        confusion=confusion(labels, np.array([item.flagged for item in images], dtype=bool)),
        roc=roc_points(labels, values),
        histogram=_histogram(labels, values),
        map_range=_map_range(pixels),
        images=tuple(item.record(pixels.matches.get(item.image.image_id)) for item in images),
        rejected=rejected,
        notes=(*_notes(images, pixels, masks, decided_otherwise), *left_out),
    )


def _operating_points(
    images: Sequence[ScoredImage], threshold: float | None, costs: Costs
) -> tuple[OperatingPoint, ...]:
    """Where images have thresholds of their own, all of them are raised and lowered alike."""
    labels, values = image_arrays(images)
    if threshold is None and all(item.threshold > 0 for item in images):
        values = values / np.array([item.threshold for item in images], dtype=np.float64)
        threshold = 1.0 if images else None
    return operating_points(labels, values, costs, threshold)


def _decided_otherwise(images: Sequence[ScoredImage], decisions: Decisions | None) -> int:
    """How many images were decided by other decisions than the model's present ones."""
    if decisions is None:
        return 0
    own = {decisions.digest}
    if decisions.calibration is None:
        own.add("")  # rows of an earlier version do not say what decided; its models were not recalibrated
    return sum((item.decisions_digest or "") not in own for item in images)


def _provenance(manifest: str, scores: str, runs: Sequence[RunRecord], model_digest: str) -> Provenance:
    """The runs of one model, as the report names them."""
    own = [run for run in runs if run.model_digest == model_digest]
    if not own:
        made_with = ", ".join(sorted({run.model_version for run in runs}))
        raise DataError(
            f"scores {scores} were made with model {made_with}, but the one to evaluate has the digest"
            f" {model_digest[:8]}…; name the model that made them with --model"
        )
    last = own[-1]
    return Provenance(
        manifest=manifest,
        scores=scores,
        run_ids=tuple(sorted({run_id for run in own for run_id in run.run_ids})),
        scored_at=last.created_at,
        model_version=last.model_version,
        model_digest=last.model_digest,
        settings_digest=last.settings_digest,
        code_version=last.code_version,
    )


def _counts(
    results: Snapshot,
    provenance: Provenance,
    view: ManifestView,
    images: Sequence[ScoredImage],
    refused: set[str],
) -> Counts:
    of_model = pc.field("model_digest") == provenance.model_digest
    anomalous = sum(item.image.anomalous for item in images)
    return Counts(
        scored=open_snapshot(results, "scores").count_rows(filter=of_model),
        rejected=sum(file.rows for file in results.files("rejects")),
        manifest=view.counts,
        test_scored={schema.NORMAL: len(images) - anomalous, schema.ANOMALOUS: anomalous},
        test_rejected=len(refused),
        test_missing=len(view.images) - len(images) - len(refused),
    )


def _histogram(labels: BoolArray, values: FloatArray) -> Histogram:
    logarithmic = bool(len(values) and values.min() > 0 and values.max() / values.min() > _WIDE)
    if logarithmic:
        edges = np.geomspace(values.min(), values.max(), _BINS + 1)
        edges[[0, -1]] = values.min(), values.max()
    else:
        edges = np.histogram_bin_edges(values, _BINS)
    return Histogram(
        edges=tuple(edges.tolist()),
        normal=tuple(np.histogram(values[~labels], edges)[0].tolist()),
        anomalous=tuple(np.histogram(values[labels], edges)[0].tolist()),
        logarithmic=logarithmic,
    )


def _map_range(pixels: PixelResult) -> tuple[float, float] | None:
    """From the 90 % quantile of anomaly-free pixels to the 75 % quantile of marked ones, if there are any."""
    if pixels.overall is None:
        return None
    low = pixels.overall.level(0.9, marked=False)
    highs = (pixels.overall.level(0.75, marked=True), pixels.overall.level(0.9999, marked=False))
    high = next((level for level in highs if level is not None and low is not None and level > low), None)
    return None if low is None or high is None else (low, high)


def _notes(
    images: Sequence[ScoredImage], pixels: PixelResult, masks: MaskReader, decided_otherwise: int
) -> Iterator[str]:
    if decided_otherwise:
        yield (
            f"{decided_otherwise} of {len(images)} images were scored before the model was calibrated as it"
            " is now: they count as they were decided then, and its promise is not judged. Score again."
        )
    by_group = {(item.decision_group, item.decisions_digest, item.threshold) for item in images}
    if len(by_group) > len({item.decision_group for item in images}):
        yield "Score rows carry different thresholds; each image counts as it was decided when scored."
    without_tiles = sum(item.tile_labels is None for item in images)
    if without_tiles:
        yield f"Anomalous images without a usable mask, left out of tile AUROC: {without_tiles}."
    if pixels.without_mask:
        yield f"Anomalous images without a usable mask, left out of pixel metrics: {pixels.without_mask}."
    if pixels.overall is not None and pixels.without_map:
        yield f"Images whose anomaly map was not kept, left out of pixel metrics: {pixels.without_map}."
    if pixels.types_left_out:
        yield f"Defect types without pixel metrics, as others are more frequent: {pixels.types_left_out}."
    for uri, problem in sorted(masks.problems.items()):
        yield f"Mask {uri} {problem}."
