"""Two models on the same images: which one ranks better, and which one decides better."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from raysvq import schema
from raysvq.errors import DataError
from raysvq.evaluation.bootstrap import Interval
from raysvq.evaluation.comparison import Comparison, Recall, Side, decision_verdict, ranking_verdict
from raysvq.evaluation.image_table import read_images
from raysvq.evaluation.metrics import BoolArray, FloatArray
from raysvq.evaluation.paired import (
    RATES,
    bootstrap_differences,
    compare_aurocs,
    compare_decisions,
    recall_at,
)
from raysvq.settings import EvaluationSettings

_COLUMNS = ["image_id", "uri", "size_bytes", "etag", "mtime", "anomalous", "group", "score", "flagged"]


def compare(report_a: str, report_b: str, settings: EvaluationSettings) -> Comparison:
    """Compare two models on the labelled test images that both have scored.

    Args:
        report_a: URI of a folder that `raysvq evaluate` wrote, or of its images.parquet.
        report_b: likewise, of the other model.
        settings: `bootstrap` and `confidence` apply.

    Raises:
        DataError: a report is missing or damaged, no image is in both, or one has different labels.
        StorageError: a file cannot be read.
    """
    a, b = (read_images(report, _COLUMNS) for report in (report_a, report_b))
    pairs, changed = _joined(a, b, report_a, report_b)
    labels = pairs["anomalous"].to_numpy()
    flagged = [pairs[f"flagged{side}"].to_numpy() for side in ("", "_b")]
    scores = (pairs["score"].to_numpy(), pairs["score_b"].to_numpy())
    groups = pairs["group"].to_pylist()
    both = bool(labels.any() and not labels.all())
    intervals = bootstrap_differences(
        labels, scores, groups, resamples=settings.bootstrap, confidence=settings.confidence
    )
    named = [group for group in groups if group is not None]
    grouped = len(set(named)) < len(named)
    auroc = compare_aurocs(labels, scores, settings.confidence) if both else None
    by_group = intervals[0] if intervals else None
    false_alarms, found = (
        compare_decisions(flagged[0][chosen], flagged[1][chosen]) for chosen in (~labels, labels)
    )
    ranking = ranking_verdict(auroc, by_group, grouped)
    deciding = decision_verdict(false_alarms, found, settings.confidence)
    return Comparison(
        a=_side(a, report_a, len(pairs) + changed),
        b=_side(b, report_b, len(pairs) + changed),
        normal_images=int((~labels).sum()),
        anomalous_images=int(labels.sum()),
        changed=changed,
        confidence=settings.confidence,
        auroc=auroc,
        auroc_by_group=by_group,
        grouped=grouped,
        recall=tuple(_recall(labels, scores, intervals)) if both else (),
        false_alarms=false_alarms,
        found=found,
        verdict=f"{ranking}; {deciding}.",
    )


def _recall(
    labels: BoolArray, scores: tuple[FloatArray, FloatArray], intervals: list[Interval] | None
) -> Iterator[Recall]:
    for at, rate in enumerate(RATES):
        a, b = (recall_at(labels, one, rate) for one in scores)
        yield Recall(rate, a, b, *(intervals[at + 1] if intervals else (None, None)))


def _side(table: pa.Table, report: str, common: int) -> Side:
    named = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    return Side(
        report, named.get("model_version", ""), named.get("model_digest", ""), len(table), len(table) - common
    )


def _joined(a: pa.Table, b: pa.Table, report_a: str, report_b: str) -> tuple[pa.Table, int]:
    """The images in both tables, columns of B with `_b` behind their names; and how many have changed."""
    pairs = a.join(b, "image_id", join_type="inner", right_suffix="_b").sort_by("image_id")
    if not len(pairs):
        raise DataError(
            f"{report_a} has {len(a)} images and {report_b} {len(b)}, none of them in both; expected two"
            " reports on the same images"
        )
    differ = pairs.filter(pc.not_equal(pairs["anomalous"], pairs["anomalous_b"]))
    if len(differ):
        first = differ.slice(0, 1).to_pylist()[0]
        labels = [schema.ANOMALOUS if first[name] else schema.NORMAL for name in ("anomalous", "anomalous_b")]
        raise DataError(
            f"{len(differ)} images have different labels in the two reports, such as {first['uri']}:"
            f" {labels[0]} in {report_a}, {labels[1]} in {report_b}; evaluate both with one manifest"
        )
    same = pc.equal(pairs["size_bytes"], pairs["size_bytes_b"])
    for name in ("etag", "mtime"):  # one that a store does not give says nothing
        same = pc.and_(same, pc.fill_null(pc.equal(pairs[name], pairs[f"{name}_b"]), True))
    unchanged = pairs.filter(same)
    if not len(unchanged):
        raise DataError(
            f"{len(pairs)} images are in {report_a} and {report_b}, but all files have changed between; score"
            " them again with both models"
        )
    return unchanged, len(pairs) - len(unchanged)
