"""The result of comparing two models, as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from raysvq.data.sources.names import printable
from raysvq.evaluation.bootstrap import Interval
from raysvq.evaluation.paired import DeLong, Discordance


@dataclass(frozen=True)
class Side:
    """One of the two reports."""

    report: str
    model_version: str
    model_digest: str
    images: int
    not_in_the_other: int


@dataclass(frozen=True)
class Recall:
    """Recall of both models where each flags at most the same share of the normal images."""

    false_alarm_rate: float
    a: float
    b: float
    low: float | None  # of b - a, bootstrap by group
    high: float | None


@dataclass(frozen=True)
class Comparison:
    """A paired comparison of model B with model A."""

    a: Side
    b: Side
    normal_images: int  # common ones, of the same content
    anomalous_images: int
    changed: int  # images that are not the same file in both reports, left out
    confidence: float
    auroc: DeLong | None  # None without a normal or without an anomalous image
    auroc_by_group: Interval | None  # bootstrap interval of b - a over groups
    grouped: bool  # whether a group has several images, so that auroc_by_group counts, too
    recall: tuple[Recall, ...]
    false_alarms: Discordance  # normal images
    found: Discordance  # anomalous images
    verdict: str

    def lines(self) -> list[str]:
        """The comparison as text."""
        return list(_lines(self))

    def to_json(self) -> str:
        """The comparison as indented JSON; missing values are null."""
        return json.dumps(asdict(self), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def ranking_verdict(auroc: DeLong | None, by_group: Interval | None, grouped: bool) -> str:
    """The verdict on the ranking.

    Where images come in groups, DeLong's interval is too narrow, and with few groups that of the bootstrap,
    too: a difference is one that both show.
    """
    if auroc is None:
        return "The rankings cannot be compared, as the common images have one label"
    values = f"AUROC B {auroc.b:.4f}, A {auroc.a:.4f}"
    single = None if auroc.low is None or auroc.high is None else (auroc.low, auroc.high)
    intervals = [single, by_group] if grouped else [single]
    known = [interval for interval in intervals if interval is not None]
    if len(known) < len(intervals):
        why = "there are too few images or groups, or no bootstrap was asked for"
        return f"Which model ranks better is not tested, as {why} ({values})"
    interval = min(low for low, _ in known), max(high for _, high in known)
    values += f", difference {interval[0]:+.4f} to {interval[1]:+.4f}"
    if interval[0] > 0:
        return f"B ranks better ({values})"
    if interval[1] < 0:
        return f"A ranks better ({values})"
    return f"Neither model is shown to rank better ({values})"


def decision_verdict(false_alarms: Discordance, found: Discordance, confidence: float) -> str:
    """The verdict on the decisions that each model made by its own threshold."""
    parts = []
    for discordance, more, what in (
        (false_alarms, "flags more good images", "good"),
        (found, "finds more defective ones", "defective"),
    ):
        if discordance.p < 1 - confidence:
            name = "A" if discordance.flagged_a > discordance.flagged_b else "B"
            counts = f"B {discordance.flagged_b}, A {discordance.flagged_a} of {discordance.images} {what}"
            parts.append(f"{name} {more} ({counts})")
    return "as they decide, " + (" and ".join(parts) if parts else "no difference is shown")


def _lines(found: Comparison) -> Iterator[str]:
    for name, side in (("A", found.a), ("B", found.b)):
        yield (
            f"{name}: {printable(side.model_version)} in {printable(side.report)}, {side.images} images,"
            f" {side.not_in_the_other} not in the other"
        )
    yield f"compared on {found.normal_images} normal and {found.anomalous_images} anomalous images" + (
        f"; {found.changed} more have changed between, and are left out" if found.changed else ""
    )
    yield f"{'':32}{'A':>9}{'B':>9}   B - A ({100 * found.confidence:g} % interval)"
    if found.auroc:
        one = found.auroc
        p = "" if one.p is None else f"   DeLong p = {one.p:.2g}"
        yield _row("image AUROC", one.a, one.b, (one.low, one.high)) + p
        if found.auroc_by_group:
            yield _row("  bootstrap by group", one.a, one.b, found.auroc_by_group)
    for recall in found.recall:
        name = f"recall at {100 * recall.false_alarm_rate:g} % false alarms"
        yield _row(name, recall.a, recall.b, (recall.low, recall.high))
    for name, decided in (("false alarms", found.false_alarms), ("defective images found", found.found)):
        if decided.images:
            yield (
                f"{f'{name}, of {decided.images}':32}{decided.flagged_a:>9}{decided.flagged_b:>9}   A alone"
                f" {decided.only_a}, B alone {decided.only_b}   McNemar p = {decided.p:.2g}"
            )
    yield found.verdict


def _row(name: str, a: float, b: float, interval: tuple[float | None, float | None]) -> str:
    low, high = interval
    ends = "" if low is None or high is None else f" ({low:+.4f} to {high:+.4f})"
    return f"{name:32}{a:>9.4f}{b:>9.4f}   {b - a:+.4f}{ends}"
