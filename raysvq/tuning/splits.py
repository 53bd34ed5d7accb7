"""Manifests with training and validation images drawn anew. No test image moves."""

from __future__ import annotations

from collections.abc import Iterator

from raysvq.data.manifest import Row, open_manifest, write_manifest
from raysvq.data.split import chance, unit_of
from raysvq.schema import ANOMALOUS, MANIFEST, NORMAL, TRAIN, VALIDATION
from raysvq.settings import Settings
from raysvq.storage import exists
from raysvq.tables import stream


def redraw(manifest: str, out: str, repeat: int) -> str:
    """Draw training and validation images anew; groups stay together.

    The numbers of validation images stay as they are, or nearly so where groups do not allow it.

    Args:
        out: the manifest to write, if it is not there yet.
        repeat: another draw for each number; 0 leaves the manifest as it is and writes nothing.

    Returns:
        The manifest of this draw.
    """
    if not repeat:
        return manifest
    if exists(out):
        return out
    units: dict[str, dict[str, int]] = {NORMAL: {}, ANOMALOUS: {}}  # unit -> images
    wanted = {NORMAL: 0, ANOMALOUS: 0}  # images to validate on
    anomalous = {unit_of(row, "") for row in _labelled(manifest) if row["label"] == ANOMALOUS}
    for row in _labelled(manifest):
        unit = unit_of(row, "")
        kind = ANOMALOUS if unit in anomalous else NORMAL
        units[kind][unit] = units[kind].get(unit, 0) + 1
        wanted[kind] += row["split"] == VALIDATION
    validating = set[str]()
    for kind, images in units.items():
        validating |= _first(images, wanted[kind], repeat)

    def assigned() -> Iterator[Row]:
        for row in _rows(manifest):
            if row["split"] in (TRAIN, VALIDATION) and row["label"] in (NORMAL, ANOMALOUS):
                row["split"] = VALIDATION if unit_of(row, "") in validating else TRAIN
            yield row

    write_manifest(assigned(), out)
    return out


def with_all_outliers(manifest: str, out: str) -> str:
    """The labelled outliers of validation join the training; its normal images stay, for the threshold."""

    def assigned() -> Iterator[Row]:
        for row in _rows(manifest):
            if row["split"] == VALIDATION and row["label"] == ANOMALOUS:
                row["split"] = TRAIN
            yield row

    write_manifest(assigned(), out)
    return out


def without_folds(settings: Settings) -> Settings:
    """Settings of a trial: it learns from the train split, so that the validation split compares trials."""
    return settings.model_copy(update={"decision": settings.decision.model_copy(update={"folds": 0})})


def _first(units: dict[str, int], images: int, repeat: int) -> set[str]:
    """Units drawn that hold so many images, or come near; the smallest, if all hold far more."""
    chosen: set[str] = set()
    for unit in sorted(units, key=lambda name: chance(repeat, "repeat", name)):
        if units[unit] <= 2 * images:  # nearer with it than without
            chosen.add(unit)
            images -= units[unit]
    if images and units and not chosen:
        chosen.add(min(units, key=lambda name: (units[name], name)))
    return chosen


def _labelled(manifest: str) -> Iterator[Row]:
    """Normal and anomalous rows of training and validation."""
    for row in _rows(manifest):
        if row["split"] in (TRAIN, VALIDATION) and row["label"] in (NORMAL, ANOMALOUS):
            yield row


def _rows(manifest: str) -> Iterator[Row]:
    for batch in stream(open_manifest(manifest), MANIFEST.names):
        yield from batch.to_pylist()
