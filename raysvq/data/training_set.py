"""What a model was trained on and measured with: plain values in its bundle, for its card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

Size = tuple[int, int]  # width and height, pixels


@dataclass(frozen=True)
class Record:
    """Plain values that a bundle keeps."""

    def plain(self) -> dict[str, Any]:
        """Values as JSON has them."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()
        }

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """The reverse of `plain`, of this version or another: fields that are not known are left out."""
        names = {field.name for field in fields(cls)}
        return cls(
            **{
                name: tuple(value) if isinstance(value, list) else value
                for name, value in values.items()
                if name in names
            }
        )


@dataclass(frozen=True)
class TrainingSet(Record):
    """Of the labelled images that a model learns from, and of those that are left for its test."""

    groups: int  # distinct ones among normal images; images without one are not counted
    ungrouped: int  # normal images without a group
    defect_types: Mapping[str, int]  # images of each, the most frequent first
    masks: int  # labelled outliers with one
    first: str | None = None  # ISO 8601, UTC: when the first image was taken; None: not known
    last: str | None = None
    dated: int = 0  # images whose date is known
    places: Mapping[str, Mapping[str, int]] | None = None  # site, line, camera -> value -> images
    test: Mapping[str, int] | None = None  # label -> images of the test split


@dataclass(frozen=True)
class ImagesSeen(Record):
    """Of the normal images that training scored: their sizes, by area, and whether they have colour."""

    images: int
    grey: int
    smallest: Size
    median: Size
    largest: Size


@dataclass(frozen=True)
class HeldOutlier(Record):
    """The score of a labelled outlier by a model that had not learnt from it."""

    score: float
    group: str | None  # by `decision.group_by`
    pixels: int | None = None  # of its largest connected defect; None: no mask tells
    size: Size | None = None  # of its image, where a mask tells
