"""Join committed scores with the labels of the manifest, and compute metrics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow.compute as pc

from raysvq import schema
from raysvq.errors import DataError
from raysvq.evaluation.confusion import confusion
from raysvq.evaluation.labelled_images import UNNAMED, ManifestView, free_name, read_manifest
from raysvq.evaluation.masks import MaskReader
from raysvq.evaluation.measure import measure_group
from raysvq.evaluation.metrics import BoolArray, FloatArray, roc_points
from raysvq.evaluation.pixel_metrics import PixelResult, measure_pixels
from raysvq.evaluation.result import Counts, Evaluation, Example, Histogram, Metrics, Provenance
from raysvq.evaluation.score_rows import ScoredImage, image_arrays, read_rejects, read_scored
from raysvq.results import RunRecord, Snapshot, read_results
from raysvq.results.reader import open_snapshot
from raysvq.settings import EvaluationSettings, TileSettings

_BINS = 40  # of the histogram of scores
_WIDE = 10  # scores with a larger ratio of largest to smallest get logarithmic bins


def evaluate(
    manifest: str,
    scores: str,
    settings: EvaluationSettings,
    tiles: TileSettings,
    model_digest: str | None = None,
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
    pixels = measure_pixels(scores, {item.image.image_id: item.image for item in images}, masks)
    labels, values = image_arrays(images)
    thresholds = {item.threshold for item in images}
    ranked = sorted(images, key=lambda item: -item.score)
    return Evaluation(
        provenance=provenance,
        settings=settings,
        tiles=tiles,
        counts=_counts(results, provenance, view, images, refused),
        overall=measure_group(images, pixels.overall, settings),
        by_defect_type=dict(_by_defect_type(images, pixels, settings)),
        threshold=thresholds.pop() if len(thresholds) == 1 else None,
        confusion=confusion(labels, np.array([item.flagged for item in images], dtype=bool)),
        roc=roc_points(labels, values),
        histogram=_histogram(labels, values),
        map_range=_map_range(pixels),
        worst=_examples(ranked, settings.gallery),
        lowest_anomalous=_examples(
            [item for item in reversed(ranked) if item.image.anomalous], settings.gallery
        ),
        highest_normal=_examples([item for item in ranked if not item.image.anomalous], settings.gallery),
        rejected=rejected,
        notes=tuple(_notes(images, pixels, masks)),
    )


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


def _by_defect_type(
    images: Sequence[ScoredImage], pixels: PixelResult, settings: EvaluationSettings
) -> Iterator[tuple[str, Metrics]]:
    normal = [item for item in images if not item.image.anomalous]
    by_type: defaultdict[str | None, list[ScoredImage]] = defaultdict(list)
    for item in images:
        if item.image.anomalous:
            by_type[item.image.defect_type or None].append(item)
    names = {kind: kind or free_name(UNNAMED, [named for named in by_type if named]) for kind in by_type}
    for kind in sorted(by_type, key=lambda kind: names[kind]):
        curves = pixels.by_defect_type.get(kind)
        yield names[kind], measure_group([*normal, *by_type[kind]], curves, settings)


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


def _examples(images: Sequence[ScoredImage], number: int) -> tuple[Example, ...]:
    return tuple(item.example() for item in images[:number])


def _notes(images: Sequence[ScoredImage], pixels: PixelResult, masks: MaskReader) -> Iterator[str]:
    if len({item.threshold for item in images}) > 1:
        yield "Score rows carry different thresholds; each image counts as it was decided when scored."
    without_tiles = sum(item.tile_labels is None for item in images)
    if without_tiles:
        yield f"Anomalous images without a usable mask, left out of tile AUROC: {without_tiles}."
    if pixels.without_mask:
        yield f"Anomalous images without a usable mask, left out of pixel metrics: {pixels.without_mask}."
    if pixels.overall is not None and pixels.without_map:
        yield f"Images whose anomaly map was not kept, left out of pixel metrics: {pixels.without_map}."
    for uri, problem in sorted(masks.problems.items()):
        yield f"Mask {uri} {problem}."
