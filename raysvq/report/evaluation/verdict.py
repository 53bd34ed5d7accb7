"""The verdict in words: what was tested, what came of it, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from scipy.stats import binomtest

from raysvq.decisions import Promise
from raysvq.evaluation.result import Evaluation, Judgement, Metrics, Outcome

_FEW = 20  # defective images, below which the share found is hardly known
_TYPES = 4  # types of defects named in a sentence
_LONG = 60  # characters of a type of defects in a sentence
_AT_REST = "Nothing here asks for action. `raysvq promote MODEL FOLDER@champion` puts the model to work."
_WEAK = 0.7  # share found, below which a type of defect asks for labels

Tone = Literal["good", "bad", "open"]  # of the promise: kept, broken, or neither is shown
_BADGES: dict[Judgement, tuple[Tone, str]] = {
    "kept": ("good", "Promise kept"),
    "above": ("open", "Worse than promised, perhaps by chance"),
    "broken": ("bad", "Promise broken"),
}


@dataclass(frozen=True)
class Verdict:
    """A headline, sentences, and steps to take."""

    headline: str
    tone: Tone
    badge: str
    sentences: tuple[str, ...]
    steps: tuple[str, ...]


def verdict(evaluation: Evaluation) -> Verdict:
    """Put an evaluation into words."""
    tone, badge = _promise(evaluation.outcome)
    return Verdict(
        headline=_headline(evaluation.overall),
        tone=tone,
        badge=badge,
        sentences=tuple(_sentences(evaluation)),
        steps=tuple(_steps(evaluation)) or (_last_step(evaluation),),
    )


def _promise(outcome: Outcome | None) -> tuple[Tone, str]:
    if outcome is None:
        return "open", "No promise to judge"
    if outcome.judgement == "none":
        many = outcome.false_alarms > outcome.high
        return ("bad", "More false alarms than expected") if many else ("open", "No rate was promised")
    return _BADGES[outcome.judgement]


def _headline(overall: Metrics) -> str:
    found = f"{overall.found:,} of {counted(overall.anomalous_images, 'defective image')} found"
    alarms = f"{counted(overall.false_alarms, 'false alarm')} among {overall.normal_images:,} good ones"
    if overall.anomalous_images and overall.normal_images:
        return f"{found}, {alarms}"
    if overall.anomalous_images:
        return f"{found}; no good image was tested"
    if overall.normal_images:
        return f"{alarms}; no defective image was tested"
    return "No labelled test image was scored, so there is nothing to measure"


def _sentences(evaluation: Evaluation) -> Iterator[str]:
    overall = evaluation.overall
    if not evaluation.images:
        return
    flags = (
        "images have different thresholds"
        if evaluation.threshold is None
        else f"an image is flagged from a score of {evaluation.threshold:.4g} on"
    )
    yield (
        f"Tested on {counted(len(evaluation.images), 'labelled image')} that the model did not learn from;"
        f" {flags}."
    )
    if overall.anomalous_images:
        yield _found(overall) + _missed_types(evaluation)
    if evaluation.defects is not None and evaluation.defects.defects:
        defects = evaluation.defects
        yield f"Of {counted(defects.defects, 'marked defect')} in them, the map points at {defects.found:,}."
    if evaluation.outcome is not None:
        yield evaluation.outcome.sentence


def _found(overall: Metrics) -> str:
    share = binomtest(overall.found, overall.anomalous_images)
    interval = share.proportion_ci(0.95, method="wilson")
    return (
        f"It found {_share(share.statistic)}\u00a0% of the defective images; of new ones of the same kinds,"
        f" expect {_share(interval.low)} to {_share(interval.high)}\u00a0%."
    )


def _missed_types(evaluation: Evaluation) -> str:
    missed = _by_missed(evaluation)
    if not missed or not _typed(evaluation):
        return ""
    named = [
        f"{_short(name)} ({_lost(metrics):,} of {metrics.anomalous_images:,})"
        for name, metrics in missed[:_TYPES]
    ]
    more = f" and {len(missed) - _TYPES} more types" if len(missed) > _TYPES else ""
    return f" Missed: {', '.join(named)}{more}."


def _steps(evaluation: Evaluation) -> Iterator[str]:
    overall, outcome, counts = evaluation.overall, evaluation.outcome, evaluation.counts
    promise = evaluation.promise
    if not evaluation.images:
        yield "Score labelled test images with `raysvq score`, and evaluate again."
        return
    if outcome is not None and outcome.false_alarms > outcome.high:
        yield (
            "Look at the false alarms below. Where they are good parts, refit the threshold from images"
            " that people have passed: `raysvq calibrate MODEL MANIFEST`."
        )
    elif outcome is not None and outcome.judgement == "above" and not _of_recall(promise):
        yield (
            "More good images are flagged than was promised, and too few calibrated or were tested to tell"
            " whether by chance. More good images settle it: `raysvq calibrate MODEL MANIFEST`."
        )
    weak = [
        name for name, metrics in _by_missed(evaluation) if metrics.found < _WEAK * metrics.anomalous_images
    ]
    if weak:
        such = _listed([_short(name) for name in weak[:_TYPES]]) if _typed(evaluation) else "such defects"
        yield (
            f"Look at the missed images below. Label other images with {such} as outliers"
            " and train again: a type of defect that the model has seen is found more often."
        )
    elif overall.found < overall.anomalous_images:
        yield "Look at the missed images below: are they defects that must be found?"
    if promise is not None and promise.needed is not None and promise.promised != promise.asked:
        kind = "defective" if _of_recall(promise) else "good"
        yield (
            f"Collect {kind} images: the threshold stands on too few for what was asked, which needs"
            f" {promise.needed:,}."
        )
    for kind, number, what in (
        ("defective", overall.anomalous_images, "found"),
        ("good", overall.normal_images, "flagged"),
    ):
        if number < _FEW:
            few = f"{number} {'is' if number == 1 else 'are'} too few" if number else "there is none"
            yield f"Collect {kind} test images: {few} to know the share that is {what}."
    if counts.test_missing:
        yield f"Score {counted(counts.test_missing, 'labelled test image')} that no run has scored yet."
    if counts.test_rejected:
        repaired = counted(counts.test_rejected, "test image")
        yield f"Repair {repaired} that scoring rejected, for the reasons below."


def _last_step(evaluation: Evaluation) -> str:
    outcome, overall = evaluation.outcome, evaluation.overall
    if outcome is not None and outcome.judgement == "kept" and not _of_recall(evaluation.promise):
        return _AT_REST
    return (
        f"No rate of false alarms was promised: decide whether {overall.false_alarms:,} among"
        f" {overall.normal_images:,} good ones are acceptable. `decision.policy` can set a rate."
    )


def _by_missed(evaluation: Evaluation) -> list[tuple[str, Metrics]]:
    """The types of defects with missed images, the largest share missed first."""
    missed = [item for item in evaluation.by_defect_type.items() if _lost(item[1])]
    return sorted(missed, key=lambda item: (-_lost(item[1]) / item[1].anomalous_images, item[0]))


def _typed(evaluation: Evaluation) -> bool:
    """Whether the manifest names types of defects."""
    return any(image.defect_type for image in evaluation.images)


def _of_recall(promise: Promise | None) -> bool:
    return promise is not None and promise.policy == "min_recall"


def _short(name: str) -> str:
    return name if len(name) <= _LONG else f"{name[:_LONG]}\u2026"


def _share(share: float) -> str:
    """In percent; only all is 100, and only none is 0."""
    text = f"{100 * share:.0f}"
    return f"{100 * share:.1f}" if text in ("0", "100") and 0 < share < 1 else text


def _lost(metrics: Metrics) -> int:
    return metrics.anomalous_images - metrics.found


def counted(number: int, name: str) -> str:
    """A number with its noun."""
    return f"{number:,} {name}{'' if number == 1 else 's'}"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
