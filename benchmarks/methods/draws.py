"""Who learns from what, and who is tested on what: one draw of an image set.

A part of the anomalous images is set aside, for labels and for defects hidden among the normals; the rest is
the test. It is the same for every level of a draw and every method, so that all differences are paired. What
is set aside is drawn by `group` where the set has groups: then a place of which an image is labelled or
hidden is not tested at all, and every draw tests equally many places. An anomalous image of a group that
trains can only be set aside. How many: 20, or 10 and those that make a tenth of the training images, but at
most two thirds of the anomalous images.

Or labels are of one defect type alone, another in every draw, and the test has the others: nobody can label
the kinds of defect that have not occurred yet.

Smaller levels are part of larger ones. A fifth of the labelled images goes to the validation split; methods
that cross-fit learn from both splits. Normal images are split as `raysvq index` splits them.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from raysvq.data.manifest import Row
from raysvq.data.split import Draw as OutlierDraw
from raysvq.data.split import assign, chance, number_for_share, survey, unit_of
from raysvq.errors import DataError
from raysvq.schema import ANOMALOUS, NONE, NORMAL, TEST, TRAIN, VALIDATION
from raysvq.settings import SplitSettings

LABELS = 20  # that can be labelled in every draw, if the set has enough
HIDDEN = 0.1  # share of the training images that can be hidden defects, beside BESIDE_HIDDEN labels
BESIDE_HIDDEN = 10
_MOST_ASIDE = 2 / 3  # of the anomalous images
_LEAST_TEST = 5  # anomalous images
_LEARNT = (TRAIN, VALIDATION)
_NO_OUTLIERS = OutlierDraw({}, {})


@dataclass(frozen=True, order=True)
class Level:
    """How many outliers are labelled, `split.outliers` or `split.gamma`, and how many are hidden."""

    kind: str  # outliers or gamma
    value: float
    hidden: float = 0.0  # share of the normal training images that are unlabelled defects
    unseen_types: bool = False  # the tested defects are of other types than the labelled ones

    def __str__(self) -> str:
        hidden = f", hidden={self.hidden:g}" if self.hidden else ""
        return f"{self.kind}={self.value:g}{hidden}{', unseen types' if self.unseen_types else ''}"

    def labelled(self, normals: int) -> int:
        """Number of labelled outliers beside so many normal images."""
        return int(self.value) if self.kind == "outliers" else number_for_share(self.value, normals)

    def unlabelled(self, normals: int) -> int:
        """Number of hidden defects beside so many normal images."""
        return number_for_share(self.hidden, normals)

    def without_labels(self) -> Level:
        """The same test and hidden defects, and no labelled ones."""
        return replace(self, kind="outliers", value=0)


NO_LABELS = Level("outliers", 0)


@dataclass(frozen=True)
class Draw:
    """Rows of two manifests without a common group."""

    learn: list[Row]  # of the splits train and validation
    test: list[Row]  # by image id, which tells nothing of the label

    def digest(self, root: str) -> str:
        """16 hexadecimal digits over images, labels, groups and splits, wherever the set lies."""
        rows = [
            [_name(row, root), row["label"], row["split"], row["group"], row["size_bytes"]]
            for row in (*self.learn, *self.test)
        ]
        return hashlib.sha256(json.dumps(sorted(rows, key=str)).encode()).hexdigest()[:16]


def draw(rows: Sequence[Row], root: str, level: Level, seed: int, largest: Level = NO_LABELS) -> Draw:
    """Draw the training and the test images of a set.

    Args:
        rows: of the set, with groups and given splits.
        root: what all URIs start with; draws leave it out.
        seed: of the draw.
        largest: a gamma and share of hidden defects for which enough is set aside, too, as all levels share
            the test.

    Raises:
        DataError: the set has too few anomalous images for the level, too few are left to test, or it has
            fewer than two defect types where those of the test are to be unseen.
    """
    based = _with_splits(rows, root, seed)
    normals = sum(row["split"] in _LEARNT and row["label"] == NORMAL for row in based)
    spare = [row for row in based if row["label"] == ANOMALOUS and row["split"] not in _LEARNT]
    if level.unseen_types:
        known = _known_type(spare, seed)
        spare = [row for row in spare if row["defect_type"] == known]
        aside = {unit_of(row, root) for row in spare}
    else:
        needed = largest.labelled(normals) + largest.unlabelled(normals)
        aside = _units_aside(based, root, seed, max(_aside(based, normals), needed))
    spare = [row for row in spare if row["split"] == NONE or unit_of(row, root) in aside]
    spare.sort(key=lambda row: chance(seed, "labelled", _name(row, root)))
    labelled, hidden = level.labelled(normals), level.unlabelled(normals)
    if labelled + hidden > len(spare):
        raise DataError(
            f"{level}: {labelled} labelled and {hidden} hidden outliers, but {len(spare)} are set aside"
        )
    test = [row for row in based if row["split"] == TEST and unit_of(row, root) not in aside]
    if sum(row["label"] == ANOMALOUS for row in test) < _LEAST_TEST:
        raise DataError(f"{level}: fewer than {_LEAST_TEST} anomalous images are left to test")
    validating = round(labelled * SplitSettings().validation_fraction)
    learn = [row for row in based if row["split"] in _LEARNT]
    learn += [
        row | {"split": VALIDATION if place < validating else TRAIN}
        for place, row in enumerate(spare[:labelled])
    ]
    learn += [_as_normal(row, root, seed) for row in spare[len(spare) - hidden :]]
    return Draw(learn, sorted(test, key=lambda row: row["image_id"]))


def _name(row: Row, root: str) -> str:
    return str(row["uri"].removeprefix(root))


def _with_splits(rows: Sequence[Row], root: str, seed: int) -> list[Row]:
    """Labelled images with the splits of `raysvq index`, no outlier labelled.

    Anomalous images of a group that the source gives to train are in no split.
    """
    settings = SplitSettings(seed=seed)
    trained = {row["group"] for row in rows if row["split"] in _LEARNT and row["group"]}
    given = [
        row | {"split": NONE} if row["label"] == ANOMALOUS and row["group"] in trained else row
        for row in rows
        if row["label"] in (NORMAL, ANOMALOUS)
    ]
    found = survey(given, settings, root)
    return [row | {"split": assign(row, found, _NO_OUTLIERS, settings)} for row in given]


def _aside(rows: Sequence[Row], normals: int) -> int:
    """How many anomalous images are set aside."""
    anomalous = sum(row["label"] == ANOMALOUS for row in rows)
    return min(max(LABELS, BESIDE_HIDDEN + number_for_share(HIDDEN, normals)), int(_MOST_ASIDE * anomalous))


def _known_type(anomalous: Sequence[Row], seed: int) -> str:
    """The defect type whose images can be labelled, each type in turn. Raises DataError without a second."""
    types = sorted({row["defect_type"] or "" for row in anomalous})
    if len(types) < 2:
        raise DataError(f"unseen types: found {len(types)} defect type, expected at least 2")
    return types[seed % len(types)]


def _units_aside(rows: Sequence[Row], root: str, seed: int, wanted: int) -> set[str]:
    """Units of anomalous test images that are set aside: as many as have the wanted number on average."""
    of_unit = Counter(
        unit_of(row, root) for row in rows if row["label"] == ANOMALOUS and row["split"] == TEST
    )
    missing = wanted - sum(row["label"] == ANOMALOUS and row["split"] == NONE for row in rows)
    if missing <= 0 or not of_unit:
        return set()
    number = max(1, round(missing * len(of_unit) / of_unit.total()))
    return set(sorted(of_unit, key=lambda unit: chance(seed, "aside", unit))[:number])


def _as_normal(row: Row, root: str, seed: int) -> Row:
    settings = SplitSettings(seed=seed)
    validates = chance(seed, "validation", unit_of(row, root)) < settings.validation_fraction
    changed = {"label": NORMAL, "mask_uri": None, "defect_type": None}
    return row | changed | {"split": VALIDATION if validates else TRAIN}
