"""Watches all cameras of a fleet for a night."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING

import pyarrow as pa

from raysvq.fleet.watch.compare import PAST, Comparison, Spreads, Subject, compare_looks, compare_volume
from raysvq.fleet.watch.evidence import Evidence, Watched
from raysvq.fleet.watch.expected import unexpected
from raysvq.fleet.watch.measure import LOOKS, Reference, as_reference, measure, rare_use, rate, signals_of
from raysvq.fleet.watch.past import Night, Window, nights_of, read_signal, read_use
from raysvq.fleet.watch.rates import COUNTS, compare_rates, compare_use, past_rate, promised
from raysvq.fleet.watch.sentences import sentence
from raysvq.fleet.watch.statistics import Cameras, Nights, Past, holm, learn_cameras, learn_nights
from raysvq.ledger.records import CameraNight, Finding, Level

if TYPE_CHECKING:
    from raysvq.fleet.settings.cameras import Effects, WatchSettings

# Deviations that are assumed between nights of a camera, and between cameras, where too few are there to say.
# Conventions: a quarter and a half of what is worth a warning.
_BETWEEN_NIGHTS, _BETWEEN_CAMERAS = 0.25, 0.5
_SCORES = 0.4  # deviation among the images' log2 scores, of which `effects.score` is a multiple
# On the scale of `measure.rate`, from 1 % to 2 %, from 0 to 5 %, and a like change of the code use.
_OF_RATES = {"alarm_rate": 0.04, "reject_rate": 0.2, "code_use": 0.1}
_VOLUME = 1.0  # log2
_ORDER: tuple[Level, ...] = ("error", "warning", "info")


def watch_fleet(
    tonight: Mapping[str, Evidence],
    history: Sequence[Sequence[CameraNight]],
    settings: WatchSettings,
    today: date,
    now: datetime | None = None,
) -> Mapping[str, Watched]:
    """Compare each camera's night with its model's reference and with its own trailing weeks.

    Args:
        tonight: camera -> evidence.
        history: earlier runs of the fleet, oldest first.
        today: in the fleet's time zone.
        now: up to which freshness is measured; None: to the start of `today` in UTC.

    Returns:
        camera -> signals and findings; one for each camera of `tonight`.
    """
    nights, references = nights_of(history), _references(tonight.values())
    subjects, signals = {}, {}
    for name, evidence in tonight.items():
        reference = references.get(id(evidence.reference))
        subjects[name], signals[name] = _subject(evidence, reference, nights.get(name, []), settings, today)
    if not settings.enabled:
        return {name: Watched(found) for name, found in signals.items()}
    moment = now or datetime.combine(today, time(), UTC)
    watched = {name: subject for name, subject in subjects.items() if subject.window.tonight.failure is None}
    spreads = _spreads(list(watched.values()), settings.effects)
    compared = {name: list(_compare(subject, spreads, settings.effects)) for name, subject in watched.items()}
    corrected = iter(holm([one.p_value for some in compared.values() for one in some]).tolist())
    result = {name: Watched(found) for name, found in signals.items()}
    for name, subject in watched.items():
        tested = [(one, next(corrected)) for one in compared[name]]
        findings = [*unexpected(subject, moment), *_findings(name, subject, tested, settings)]
        findings.sort(key=lambda each: _ORDER.index(each.level))
        result[name] = Watched(signals[name], tuple(findings))
    return result


def _references(evidence: Iterable[Evidence]) -> dict[int, Reference]:
    """Each table measured once, whatever the cameras that share it."""
    tables: dict[int, pa.Table] = {id(one.reference): one.reference for one in evidence if one.reference}
    return {key: as_reference(table) for key, table in tables.items()}


def _subject(
    evidence: Evidence,
    reference: Reference | None,
    nights: Sequence[Night],
    settings: WatchSettings,
    today: date,
) -> tuple[Subject, dict[str, float]]:
    """The night as it is compared, and its signals."""
    night = evidence.night
    measured = None if evidence.rows is None else measure(evidence.rows)
    rare = None if measured is None or reference is None else rare_use(measured, reference)
    before = [each for each in nights if each.date < today]
    new = night.new + sum(each.new for each in nights if each.date == today)
    gap = (today - before[-1].date).days if before else None
    signals = signals_of(night, measured, rare) | {"volume": float(new)}
    if measured is not None and measured.images < settings.min_images:
        measured = None
    window = Window(night, today, before, settings.weeks, settings.min_nights, settings.min_images)
    samples = {} if measured is None else dict(measured.looks)
    if measured is not None and rare is not None:
        samples["codes"] = rare
    volumes = None if gap is None else window.volumes(gap)
    return Subject(
        evidence,
        measured,
        reference,
        samples,
        window,
        new,
        gap,
        _pasts(window, measured is not None),
        volumes,
    ), signals


def _pasts(window: Window, measured: bool) -> dict[str, Past]:
    """The past of each signal that tonight has, as far as it has one."""
    found = {name: window.past(name, read_signal(name)) for name in ((*LOOKS, "codes") if measured else ())}
    if measured:
        found["code_use"] = window.past("code_use", read_use)
    for name, count in COUNTS.items():
        if count(window.tonight)[1] >= window.min_images:
            found[name] = past_rate(window, name)
    return {name: past for name, past in found.items() if past is not None}


def _compare(subject: Subject, spreads: Spreads, effects: Effects) -> Iterator[Comparison]:
    yield from compare_looks(subject, spreads, effects)
    yield from compare_use(subject, spreads, effects)
    yield from compare_rates(subject, spreads, effects)
    yield from compare_volume(subject, spreads, effects)


def _spreads(subjects: Sequence[Subject], effects: Effects) -> Spreads:
    """How nights and cameras differ, learnt from the fleet."""
    smallest = {name: float(getattr(effects, name)) for name in LOOKS} | {"codes": effects.codes}
    smallest |= _OF_RATES | {"volume": _VOLUME}
    smallest["score"] *= _SCORES
    nights: dict[str, Nights] = {}
    for name, least in smallest.items():
        pasts = [subject.pasts[name] for subject in subjects if name in subject.pasts]
        if name == "volume":
            pasts = [subject.volumes[0] for subject in subjects if subject.volumes is not None]
        nights[name] = learn_nights(pasts, _BETWEEN_NIGHTS * least)
    cameras: dict[tuple[str, str | None], Cameras] = {}
    for name in (*LOOKS, "codes", "alarm_rate"):
        offsets: dict[str | None, list[float]] = {}
        for subject in subjects:
            if (found := _offset(subject, name)) is not None:
                offsets.setdefault(subject.window.tonight.model_digest, []).append(found)
        for model, some in offsets.items():
            cameras[name, model] = learn_cameras(some, _BETWEEN_CAMERAS * smallest[name])
    return Spreads(nights, cameras)


def _offset(subject: Subject, signal: str) -> float | None:
    """How the camera usually lies beside the reference; None: not known."""
    if signal == "alarm_rate":
        promise, (count, of) = promised(subject), COUNTS[signal](subject.window.tonight)
        sample, centre = rate(count, of) if of else None, None if promise is None else rate(*promise)
    else:
        sample, centre = subject.samples.get(signal), subject.centres.get(signal)
    if sample is None or centre is None:
        return None
    past = subject.pasts.get(signal)
    return (sample.value if past is None else float(past.centre[0])) - centre.value


def _findings(
    camera: str, subject: Subject, tested: Sequence[tuple[Comparison, float]], settings: WatchSettings
) -> list[Finding]:
    """One finding per signal that differs surely and enough; that against the reference, where both do."""
    found: dict[str, Finding] = {}
    for one, p_value in tested:
        if p_value > settings.false_warnings or one.size < 1 or one.signal in found:
            continue
        found[one.signal] = Finding(
            camera,
            one.signal,
            _level(one, settings),
            sentence(camera, one, subject.window.tonight),
            float(2**one.value if one.signal == "score" else one.value),
            float(2**one.usual if one.signal == "score" else one.usual),
            p_value,
            (one.since or subject.window.today).isoformat(),
        )
    return list(found.values())


def _level(one: Comparison, settings: WatchSettings) -> Level:
    if one.signal == "volume" and one.shift > 0 and one.against == PAST:
        return "info"  # more images than usual do no harm
    return "error" if one.size >= settings.error_at else "warning"
