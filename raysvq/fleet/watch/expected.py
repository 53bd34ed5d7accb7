"""What `expect` and the sizes of images say: findings without a test."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from raysvq.fleet.watch.compare import Subject
from raysvq.fleet.watch.sentences import day, span
from raysvq.ledger.records import Finding, Level

_FEW = 0.05  # share of a night's images that may have sizes of their own, a convention
_VARIED = 0.2  # sizes per image beyond which images have no usual one, such as cut-outs; a convention
_DAY = timedelta(days=1)


def unexpected(subject: Subject, now: datetime) -> Iterator[Finding]:
    """Findings about freshness, volume and size."""
    yield from _stale(subject, now)
    yield from _too_few(subject)
    yield from _resized(subject)


def _stale(subject: Subject, now: datetime) -> Iterator[Finding]:
    camera, last = subject.evidence.camera, subject.window.tonight.last_image
    expect = camera.expect
    limits: list[tuple[Level, str, timedelta | None]] = [
        ("error", "error_after", expect.error_after),
        ("warning", "warn_after", expect.warn_after),
    ]
    for level, name, limit in limits:
        if limit is None:
            continue
        if last is None:
            text = f"camera {camera.name} has no image yet, expect.{name} is {span(limit)}"
            yield Finding(camera.name, "freshness", "warning", text)
            return
        age = now - last
        if age > limit:
            text = (
                f"camera {camera.name} sent its newest image {span(age)} ago, expect.{name} is {span(limit)}"
            )
            yield Finding(
                camera.name,
                "freshness",
                level,
                text,
                value=age.total_seconds(),
                reference=limit.total_seconds(),
                since=last.date().isoformat(),
            )
            return


def _too_few(subject: Subject) -> Iterator[Finding]:
    camera, window = subject.evidence.camera, subject.window
    least, every = camera.expect.at_least, camera.expect.every or _DAY
    if least is None:
        return
    since = window.today - every
    images = subject.new + sum(night.new for night in window.nights if night.date > since)
    if images < least:
        yield Finding(
            camera.name,
            "volume",
            "warning",
            f"camera {camera.name} sent {images} image{'' if images == 1 else 's'} in {span(every)},"
            f" expect.at_least is {least}",
            value=float(images),
            reference=float(least),
        )


def _resized(subject: Subject) -> Iterator[Finding]:
    if subject.measured is None:
        return
    camera, nights = subject.evidence.camera, subject.window.comparable("exposure")
    known = {
        (int(night.last.signals["width"]), int(night.last.signals["height"]))
        for night in nights
        if {"width", "height"} <= night.last.signals.keys() and not night.deviates("size")
    }
    usual, seen = max(known, default=None), subject.measured.sizes
    if subject.reference is not None and subject.reference.measured.sizes:
        seen = subject.reference.measured.sizes
        known |= seen.keys()
        usual = usual or seen.most_common(1)[0][0]
    if usual is None:
        return
    others = {size: count for size, count in subject.measured.sizes.items() if size not in known}
    share = sum(others.values()) / subject.measured.images
    if share <= _FEW or len(seen) > _VARIED * seen.total():
        return
    (width, height), before = max(others, key=lambda size: others[size]), f"{usual[0]} x {usual[1]}"
    first = None
    for night in reversed(nights):
        if not night.deviates("size"):
            break
        first = night.date
    since = first or subject.window.today
    yield Finding(
        camera.name,
        "size",
        "warning",
        f"camera {camera.name} has {share:.0%} of its images in a size that is new, such as"
        f" {width} x {height} where {before} is usual{day(first)}",
        value=float(width * height),
        reference=float(usual[0] * usual[1]),
        since=since.isoformat(),
    )
