"""How much the masks of a set mark, and where that is implausible."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass, field

OVER_HALF = "mark more than half of their image (are they inverted? Black, or 0, is no defect)"
EVERYTHING = "mark all of their image"
SHARED = "have the same marks as the mask of another image"
TURNED = "are not turned by an EXIF orientation as their image is"


@dataclass(frozen=True)
class MaskLook:
    """What was seen of one mask."""

    share: float  # of its pixels that it marks, 0 to 1
    marks: bytes  # a digest of which
    turned: (
        bool  # by its EXIF orientation otherwise than its image, and the size does not tell which is right
    )


@dataclass(frozen=True)
class MaskSummary:
    """The masks of an index."""

    masks: int  # of images that may have a defect
    smallest: float  # marked share of an image, 0 to 1
    median: float
    largest: float
    implausible: dict[str, tuple[int, str]]  # what they do -> how many, and one of them
    of_normal: int  # masks of normal images, which mark nothing
    unmasked: int  # anomalous images that have none
    beside: tuple[str, ...]  # masks among the images of a folder

    def lines(self) -> list[str]:
        """In words, for the console; nothing where there are no masks."""
        lines = []
        if self.masks:
            lines.append(
                f"masks: {self.masks}, marking {_percent(self.smallest)} to {_percent(self.largest)} of their"
                f" images, median {_percent(self.median)}"
            )
        for what, (count, example) in self.implausible.items():
            lines.append(f"warning: {count} of {self.masks} masks {what}, such as {example}")
        if self.of_normal:
            lines.append(f"masks of normal images, which mark nothing, left aside: {self.of_normal}")
        if self.unmasked:
            lines.append(f"anomalous images without a mask: {self.unmasked}; they count as a whole alone")
        if self.beside:
            lines.append(f"masks among the images, left out: {len(self.beside)}, such as {self.beside[0]}")
        return lines


@dataclass
class MaskTally:
    """Counts masks as they are read."""

    of_normal: int = 0
    unmasked: int = 0
    shares: list[float] = field(default_factory=list)
    users: Counter[bytes] = field(default_factory=Counter)  # marks -> images
    implausible: dict[str, tuple[int, str]] = field(default_factory=dict)

    def add(self, mask: str, look: MaskLook) -> None:
        """Count the mask of an image that may have a defect."""
        self.shares.append(look.share)
        self.users[look.marks] += 1
        kinds = {
            OVER_HALF: 0.5 < look.share < 1,
            EVERYTHING: look.share == 1,
            SHARED: self.users[look.marks] > 1,
            TURNED: look.turned,
        }
        for kind in (kind for kind, found in kinds.items() if found):
            count, example = self.implausible.get(kind, (0, mask))
            self.implausible[kind] = count + 1, example

    def summary(self, beside: tuple[str, ...]) -> MaskSummary:
        """Of what was counted; `beside` are masks among the images of a folder."""
        shares = self.shares or [0.0]
        return MaskSummary(
            len(self.shares),
            min(shares),
            statistics.median(shares),
            max(shares),
            self.implausible,
            self.of_normal,
            self.unmasked,
            beside,
        )


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
