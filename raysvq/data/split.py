"""Draws the train, validation and test splits.

A draw is made per unit: an image, or all images of a `group`. It compares a seeded hash of the unit with a
fraction. So an image keeps its split as the set around it grows, and the whole set is never held in memory.
Labelled outliers are few. They are drawn to the exact number, and leave the test split with their whole unit.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Container, Iterable
from dataclasses import dataclass, field

from raysvq.data.manifest import Row
from raysvq.errors import DataError
from raysvq.schema import ANOMALOUS, NONE, NORMAL, TEST, TRAIN, UNKNOWN, VALIDATION
from raysvq.settings import SplitSettings


@dataclass
class Survey:
    """What the draws need to know of a set, from one pass over its rows."""

    root: str
    has_splits: bool = False
    has_validation: bool = False
    # unit -> (URI, image id) of its anomalous images
    anomalous_units: dict[str, list[tuple[str, str]]] = field(default_factory=lambda: defaultdict(list))
    given: dict[str, str] = field(default_factory=dict)  # group -> the split that the source gives it
    pool_normals: int = 0  # normal images that may train or validate
    first_normal: tuple[float, str] | None = None  # (draw, unit) with the smallest validation draw


@dataclass
class _Pool:
    """Normal images that may train or validate. `close` leaves out the groups that have a defect."""

    seed: int
    images: int = 0
    first: tuple[float, str] | None = None
    groups: Counter[str] = field(default_factory=Counter)

    def add(self, unit: str, grouped: bool) -> None:
        if grouped:
            self.groups[unit] += 1
        else:
            self._count(unit, 1)

    def close(self, anomalous: Container[str]) -> tuple[int, tuple[float, str] | None]:
        """(number of images in units without a defect, (draw, unit) with the smallest validation draw)."""
        for unit, images in self.groups.items():
            if unit not in anomalous:
                self._count(unit, images)
        return self.images, self.first

    def _count(self, unit: str, images: int) -> None:
        self.images += images
        draw = (chance(self.seed, "validation", unit), unit)
        self.first = min(self.first or draw, draw)


@dataclass(frozen=True)
class Draw:
    """Labelled outliers that leave the test split, and the splits that they go to."""

    images: dict[str, str]  # image_id -> split
    units: dict[str, str]  # unit -> split


def unit_of(row: Row, root: str) -> str:
    """The group of an image; where it has none, its path below the root of the set."""
    return str(row["group"] or row["uri"].removeprefix(root))


def survey(rows: Iterable[Row], settings: SplitSettings, root: str = "") -> Survey:
    """Collect what the draws need, in one pass over all rows.

    Args:
        rows: of the manifest, with the splits that the source gives.
        settings: fractions and seed.
        root: what all URIs start with. Draws leave it out, so that a copy elsewhere is split alike.

    Raises:
        DataError: the source puts one group into two splits.
    """
    found = Survey(root)
    pools = {True: _Pool(settings.seed), False: _Pool(settings.seed)}  # given to train, given no split
    for row in rows:
        unit, split = unit_of(row, root), row["split"]
        found.has_splits |= split is not None
        found.has_validation |= split == VALIDATION and row["label"] == NORMAL
        if row["group"] and split not in (None, NONE):
            before = found.given.setdefault(unit, split)
            if before != split:
                raise DataError(f"group {unit!r} stands in the splits {before} and {split}; give it one")
        if row["label"] == ANOMALOUS and split in (None, TEST):
            found.anomalous_units[unit].append((row["uri"], row["image_id"]))
        if row["label"] == NORMAL and (split == TRAIN or (split is None and not _tests(unit, settings))):
            pools[split == TRAIN].add(unit, row["group"] is not None)
    for unit, split in found.given.items():
        if split != TEST:
            found.anomalous_units.pop(unit, None)
    found.pool_normals, found.first_normal = pools[found.has_splits].close(found.anomalous_units)
    return found


def draw_outliers(found: Survey, settings: SplitSettings) -> Draw:
    """Draw the labelled outliers and divide them between training and validation.

    Raises:
        DataError: `split.gamma` or `split.outliers` asks for more than the set has.
    """
    available = sum(len(images) for images in found.anomalous_units.values())
    wanted = _wanted(found.pool_normals, settings)
    if wanted > available:
        asked = f"gamma={settings.gamma}" if settings.gamma is not None else f"outliers={settings.outliers}"
        most = int(1000 * available / max(1, available + found.pool_normals)) / 1000
        raise DataError(
            f"split.{asked} asks for {wanted} labelled outliers beside {found.pool_normals} normal images,"
            f" but the set has {available} anomalous ones; at most gamma={most} or outliers={available}"
        )
    validating = round(wanted * settings.validation_fraction)
    images: dict[str, str] = {}
    units: dict[str, str] = {}
    for unit in sorted(found.anomalous_units, key=lambda name: chance(settings.seed, "outlier", name)):
        if len(images) >= wanted:
            break
        split = VALIDATION if len(images) < validating else TRAIN
        units[unit] = split
        room = wanted - len(images)
        members = sorted(found.anomalous_units[unit])
        images.update({image: split if place < room else NONE for place, (_, image) in enumerate(members)})
    return Draw(images, units)


def assign(row: Row, found: Survey, draw: Draw, settings: SplitSettings) -> str:
    """The split of one row."""
    unit, label, given = unit_of(row, found.root), row["label"], row["split"]
    if row["image_id"] in draw.images:
        return draw.images[row["image_id"]]
    if found.has_splits:
        if given is None:
            return NONE
        if given == TEST and unit in draw.units:
            return NONE
        if given == TRAIN and (label == NORMAL or row["group"]):
            return _validate(unit, found, settings)
        return str(given)
    if label == UNKNOWN:
        return NONE
    if unit in draw.units:
        return draw.units[unit]
    if unit in found.anomalous_units or _tests(unit, settings):
        return TEST
    return _validate(unit, found, settings)


def _validate(unit: str, found: Survey, settings: SplitSettings) -> str:
    """The split of a normal unit that may train or validate."""
    if found.has_validation:
        return TRAIN
    chosen = chance(settings.seed, "validation", unit) < settings.validation_fraction
    first = found.first_normal is not None and unit == found.first_normal[1]
    return VALIDATION if chosen or first else TRAIN


def _tests(unit: str, settings: SplitSettings) -> bool:
    return chance(settings.seed, "test", unit) < settings.test_fraction


def _wanted(normals: int, settings: SplitSettings) -> int:
    if settings.gamma is not None:
        return number_for_share(settings.gamma, normals)
    return settings.outliers or 0


def number_for_share(share: float, others: int) -> int:
    """How many images make up a share of all, beside so many others: M, with γ = M / (M + N)."""
    return round(share * others / (1 - share))


def chance(seed: int, purpose: str, unit: str) -> float:
    """A draw from [0, 1) for a unit; always the same for the same arguments."""
    key = f"{seed}:{purpose}:{unit}".encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") / 2**64
