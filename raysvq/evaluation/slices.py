"""The metrics of parts of the test split: by defect type, size of defect, group and metadata."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from raysvq.evaluation.defects import AREA_BANDS, PIXEL_BANDS, area_band, pixel_band
from raysvq.evaluation.labelled_images import UNNAMED, free_name
from raysvq.evaluation.measure import measure_group
from raysvq.evaluation.pixel_metrics import PixelCurves
from raysvq.evaluation.result import DEFECT_AREA, DEFECT_TYPE, GROUP, LARGEST_DEFECT, Metrics
from raysvq.evaluation.score_rows import ScoredImage
from raysvq.settings import EvaluationSettings

MOST_VALUES = 20  # of a column of the manifest
NO_MASK = "no usable mask"
NOT_GIVEN = "not given"

_Parts = dict[str, list[ScoredImage]]
_Value = Callable[[ScoredImage], str | None]


def measure_slices(
    images: Sequence[ScoredImage],
    by_type: Mapping[str | None, PixelCurves],
    settings: EvaluationSettings,
) -> tuple[dict[str, dict[str, Metrics]], list[str]]:
    """The metrics of each value of each column, and notes on the columns that were left out.

    The anomalous images of a value stand against the normal images of the same value; where it has none, as
    with types of defects, against all normal images.

    Args:
        by_type: pixel curves by defect type; None: of images without one.
    """
    normals = [item for item in images if not item.image.anomalous]
    anomalous = [item for item in images if item.image.anomalous]
    slices = {DEFECT_TYPE: dict(_by_type(anomalous, normals, by_type, settings))}
    for column, bands, value in _SIZES:
        parts = _divided(anomalous, value, NO_MASK)
        if parts.keys() - {NO_MASK}:
            ordered = {band: parts[band] for band in (*bands, NO_MASK) if band in parts}
            slices[column] = {band: _measured(part, normals, settings) for band, part in ordered.items()}
    notes = []
    for column, value in _columns(images, taken=slices):
        parts = _divided(images, value, NOT_GIVEN)
        values = len({value(item) or None for item in images} - {None})
        if values > MOST_VALUES:
            notes.append(
                f"Column {column} has {values} values, more than {MOST_VALUES}: no metrics by its values."
            )
        elif len(parts) > 1:
            slices[column] = {name: _measured(parts[name], normals, settings) for name in sorted(parts)}
    return {column: found for column, found in slices.items() if found}, notes


def _by_type(
    anomalous: Sequence[ScoredImage],
    normals: list[ScoredImage],
    by_type: Mapping[str | None, PixelCurves],
    settings: EvaluationSettings,
) -> Iterator[tuple[str, Metrics]]:
    parts = _divided(anomalous, lambda item: item.image.defect_type, UNNAMED)
    for name in sorted(parts):
        curves = by_type.get(parts[name][0].image.defect_type or None)
        yield name, _measured(parts[name], normals, settings, curves)


def _measured(
    part: list[ScoredImage],
    normals: list[ScoredImage],
    settings: EvaluationSettings,
    curves: PixelCurves | None = None,
) -> Metrics:
    own = any(not item.image.anomalous for item in part)
    return measure_group(part if own else [*normals, *part], curves, settings, own_normals=own)


def _divided(images: Sequence[ScoredImage], value: _Value, missing: str) -> _Parts:
    """The images by value; those without one under a name that no value has."""
    parts: dict[str | None, list[ScoredImage]] = {}
    for item in images:
        parts.setdefault(value(item) or None, []).append(item)
    names = [name for name in parts if name]
    return {name or free_name(missing, names): part for name, part in parts.items()}


def _columns(images: Sequence[ScoredImage], taken: Mapping[str, object]) -> Iterator[tuple[str, _Value]]:
    """The group, then the metadata by name; a name that is taken stands in brackets."""
    yield GROUP, lambda item: item.image.group
    keys = Counter(key for item in images for key in item.image.meta)
    names = {*taken, GROUP}
    for key in sorted(keys):
        name = free_name(key, names)
        names.add(name)
        yield name, lambda item, key=key: item.image.meta.get(key)  # type: ignore[misc]


def _area(item: ScoredImage) -> str | None:
    return None if item.marks is None else area_band(item.marks.area)


def _largest(item: ScoredImage) -> str | None:
    return None if item.marks is None else pixel_band(item.marks.largest)


_SIZES: tuple[tuple[str, Sequence[str], _Value], ...] = (
    (DEFECT_AREA, AREA_BANDS, _area),
    (LARGEST_DEFECT, PIXEL_BANDS, _largest),
)
