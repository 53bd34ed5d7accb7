"""The numbers of a night, and of a reference, from the rows of its images."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raysvq.ledger.records import CameraNight

LOOKS = ("score", "exposure", "contrast", "sharpness", "warmth")  # of each image one value; scores as log2
BUCKETS = 32  # codes are counted by their number modulo this
USE = tuple(f"code_use_{bucket:02}" for bucket in range(BUCKETS))
_LEAST_SCORE = 1e-9
_RARE = (
    0.01  # of the use in a reference: its least used codes that have no more together are rare; a convention
)
_MEDIAN_COST = np.sqrt(np.pi / 2)  # standard error of a median over that of a mean, of normal values

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.uint16]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Sample:
    """A signal of some images: what is typical, and how sure that is."""

    value: float
    error: float  # standard error of `value`
    values: Floats  # of each image

    @property
    def deviation(self) -> float:
        """Between images, robust."""
        return _deviation(self.values)


@dataclass(frozen=True)
class Measured:
    """What some images are like."""

    images: int
    looks: dict[str, Sample]  # by names of LOOKS; of images that have the number
    codes: Codes  # (n, c) of images that have them
    use: Integers  # (BUCKETS,) images with one or more of their codes in each
    sizes: Counter[tuple[int, int]]  # (width, height)


@dataclass(frozen=True)
class Reference:
    """What normal images are like, with the codes that they hardly use."""

    measured: Measured
    rare: npt.NDArray[np.bool_] | None  # by number of a code; None: codes are not known
    rare_use: Sample | None  # share of an image's codes that are rare


def measure(rows: pa.Table) -> Measured:
    """Measure the rows of a night, or of a reference."""
    scores = np.log2(np.maximum(rows["image_score"].to_numpy().astype(float), _LEAST_SCORE))
    values = {"score": scores} | {name: _known(rows[name]) for name in LOOKS[1:]}
    codes = _codes(rows["codes"])
    return Measured(
        images=len(rows),
        looks={name: typical(found) for name, found in values.items() if len(found) > 1},
        codes=codes,
        use=_use(codes),
        sizes=Counter(zip(rows["width"].to_pylist(), rows["height"].to_pylist(), strict=True)),
    )


def as_reference(rows: pa.Table) -> Reference:
    """Measure a model's reference.

    One half of its images says which codes are rare, the other how often normal images use these: in the
    first half they would seem rarer than they are.
    """
    measured = measure(rows)
    first, second = measured.codes[::2], measured.codes[1::2]
    if not len(second):
        return Reference(measured, None, None)
    uses = np.bincount(first.ravel(), minlength=2**16)
    order = np.argsort(uses, kind="stable")
    rare = np.zeros(len(uses), bool)
    rare[order[np.cumsum(uses[order]) <= _RARE * uses.sum()]] = True
    return Reference(measured, rare, average(rare[second].mean(axis=1)))


def rare_use(measured: Measured, reference: Reference) -> Sample | None:
    """How much of an image's codes normal images hardly use."""
    if reference.rare is None or not len(measured.codes):
        return None
    return average(reference.rare[measured.codes].mean(axis=1))


def rate(count: float, of: float) -> Sample:
    """A share of images, on a scale on which its error hardly depends on it (Anscombe 1948)."""
    (value,), (error,) = rates(np.array([count]), of)
    return Sample(float(value), float(error), np.zeros(0))


def rates(counts: npt.NDArray[Any], of: float) -> tuple[Floats, Floats]:
    """Shares (d,) of images, each on the scale of `rate`, and their standard errors."""
    values = np.arcsin(np.sqrt((counts + 3 / 8) / (of + 3 / 4)))
    return values, np.full(len(values), 0.5 / np.sqrt(of + 0.5))


def typical(values: Floats) -> Sample:
    """By the median."""
    return Sample(float(np.median(values)), _MEDIAN_COST * _deviation(values) / len(values) ** 0.5, values)


def average(values: Floats) -> Sample:
    """By the mean."""
    error = float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else np.inf
    return Sample(float(values.mean()), error, values)


def signals_of(night: CameraNight, measured: Measured | None, rare: Sample | None) -> dict[str, float]:
    """What later nights, and people, want to know of this one: SIGNALS, with errors."""
    signals: dict[str, float] = {}
    if night.scored:
        signals["alarm_rate"] = night.anomalous / night.scored
    if night.scored + night.rejected:
        signals["reject_rate"] = night.rejected / (night.scored + night.rejected)
    if measured is None or not measured.images:
        return signals
    signals["images"] = float(measured.images)
    for name, sample in (measured.looks | ({} if rare is None else {"codes": rare})).items():
        signals |= {name: sample.value, f"{name}_error": sample.error}
    if len(measured.codes):
        signals["code_images"] = float(len(measured.codes))
        signals |= dict(zip(USE, (measured.use / len(measured.codes)).tolist(), strict=True))
    if "score" in signals:
        signals["score"] = 2 ** signals["score"]
    (width, height), _ = measured.sizes.most_common(1)[0]
    return {name: value for name, value in signals.items() if np.isfinite(value)} | {
        "width": float(width),
        "height": float(height),
    }


def _use(codes: Codes) -> Integers:
    shown = np.zeros((len(codes), BUCKETS), bool)
    shown[np.arange(len(codes))[:, None], codes % BUCKETS] = True
    counts: Integers = shown.sum(axis=0)
    return counts


def _deviation(values: Floats) -> float:
    low, high = (
        int(share * (len(values) - 1)) for share in (0.1587, 0.8413)
    )  # one deviation of normal values
    ordered = np.sort(values)
    return float(ordered[high] - ordered[low]) / 2


def _known(column: pa.ChunkedArray) -> Floats:
    known: Floats = column.drop_null().to_numpy().astype(float)
    return known


def _codes(column: pa.ChunkedArray) -> Codes:
    """Codes of the images that have as many as most; a small image may have fewer."""
    lists = column.drop_null().combine_chunks()
    lengths = np.asarray(lists.value_lengths())
    if not len(lengths) or not lengths.max():
        return np.zeros((0, 0), np.uint16)
    most = int(np.bincount(lengths).argmax())
    kept = lists.filter(pa.array(lengths == most))
    codes: Codes = kept.flatten().to_numpy().reshape(-1, most)
    return codes
